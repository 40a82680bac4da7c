"""The engine against PEFT's own mixed batches (`adapter_names`), 512 SAF rows, in arrival order and sorted by length.

python -m benchmarks.peft_mixed --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import ADAPTERS, SafRow, minilm, prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import sample
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice

COMMAND = "python -m benchmarks.peft_mixed --data SAF"
PEFT_BATCH_ROWS = 64
PRECISIONS = ("float32", "bfloat16", "int8")


class PeftMixed:
    """PEFT with 27 adapters loaded, rows naming theirs. device: torch's."""

    def __init__(self, device: str = "cpu") -> None:
        import peft
        import transformers

        folders = sorted(p for p in ADAPTERS.iterdir() if p.is_dir())
        base = transformers.AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=5)
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(minilm())
        self.model: Any = peft.PeftModel.from_pretrained(base, str(folders[0]), adapter_name=_name(folders[0].name))
        for folder in folders[1:]:
            self.model.load_adapter(str(folder), adapter_name=_name(folder.name))
        self.model.eval().to(device)
        self._device = device

    def run(self, rows: list[SafRow]) -> None:
        """Score rows in the order given, 64 a batch, padded to the longest of each batch."""
        import torch

        for start in range(0, len(rows), PEFT_BATCH_ROWS):
            chunk = rows[start : start + PEFT_BATCH_ROWS]
            texts = [r.text for r in chunk]
            tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            tokens = tokens.to(self._device)
            with torch.inference_mode():
                self.model(**tokens, adapter_names=[_name(r.task) for r in chunk])


def _name(task: str) -> str:
    return task.replace(".", "_")  # a dot cannot be in the name of a torch module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = sample(args.data, 512)
    by_length = sorted(rows, key=lambda r: len(r.text))
    texts, tasks = [r.text for r in rows], [r.task for r in rows]
    peft = PeftMixed()
    works: dict[str, Any] = {"PEFT arrival": lambda: peft.run(rows), "PEFT sorted": lambda: peft.run(by_length)}
    with tempfile.TemporaryDirectory() as scratch:
        repository = prepare(Path(scratch))
        for precision in PRECISIONS:
            engine = Engine.open(repository, runner=RunnerChoice("openvino", precision=precision))
            works[f"engine {precision}"] = lambda e=engine: e.logits(texts, tasks)
        timings = interleave(works, args.rounds)
    table = Table("", "rows/s", "× PEFT arrival", "× PEFT sorted", "spread")
    figures = {}
    for name, timing in timings.items():
        against = {base: ratio(timings, name, base) for base in ("PEFT arrival", "PEFT sorted")}
        figures[name] = {"rows_per_s": len(rows) / timing.median_s, **against, "spread": timing.spread}
        table.add_row(name, *(f"{value:,.2f}" for value in figures[name].values()))
    Console().print(table)
    record("peft_mixed", COMMAND, {"rows": len(rows), "rounds": args.rounds, "runs": figures})


if __name__ == "__main__":
    main()
