"""LoRA on a shared backbone against one fully fine-tuned model a task: QWK on the SAF test split, side by side.

    python -m benchmarks.saf_quality --data ../shared/data/saf

LoRA's levels come from the engine with the committed adapters; the fine-tuned models' from the committed predictions,
which `python examples/saf/train.py full --data … --predictions …` wrote.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import ROOT, record
from benchmarks.saf import prepare, read_rows
from scoremux_cli.agreement import Agreement, agreement
from scoremux_engine import Engine

FULL = ROOT / "examples" / "saf" / "full_finetuning_predictions.jsonl"
COMMAND = "python -m benchmarks.saf_quality --data SAF"


def mean_kappa(by_task: dict[str, Agreement]) -> float:
    """Return the mean QWK over the tasks that have one."""
    kappas = [a.qwk for a in by_task.values() if not math.isnan(a.qwk)]
    return sum(kappas) / len(kappas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    rows = read_rows(parser.parse_args().data)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.open(prepare(Path(scratch)))
        lora = {
            r.id: s.level
            for r, s in zip(rows, engine.score([r.text for r in rows], [r.task for r in rows]), strict=True)
        }
    full = {p["id"]: p["level"] for p in map(json.loads, FULL.read_text(encoding="utf-8").splitlines())}
    tables = {}
    for name, predicted in (("LoRA", lora), ("fully fine-tuned", full)):
        by_task = {
            task: agreement(
                [r.level for r in rows if r.task == task], [predicted[r.id] for r in rows if r.task == task]
            )
            for task in sorted({r.task for r in rows})
        }
        tables[name] = by_task, agreement([r.level for r in rows], [predicted[r.id] for r in rows])
    table = Table("task", "n", *(f"QWK {name}" for name in tables))
    (by_lora, all_lora), (by_full, all_full) = tables.values()
    for task, figures in by_lora.items():
        table.add_row(task, str(figures.n), f"{figures.qwk:.3f}", f"{by_full[task].qwk:.3f}")
    table.add_section()
    table.add_row("mean", "", f"{mean_kappa(by_lora):.3f}", f"{mean_kappa(by_full):.3f}")
    table.add_row("pooled", str(all_lora.n), f"{all_lora.qwk:.3f}", f"{all_full.qwk:.3f}")
    Console().print(table)
    record(
        "saf_quality",
        COMMAND,
        {
            "mean_qwk": {"lora": mean_kappa(by_lora), "full": mean_kappa(by_full)},
            "pooled_qwk": {"lora": all_lora.qwk, "full": all_full.qwk},
            "exact": {"lora": all_lora.exact, "full": all_full.exact},
            "tasks": {t: {"lora": by_lora[t].qwk, "full": by_full[t].qwk} for t in by_lora},
        },
    )


if __name__ == "__main__":
    main()
