"""Ladders of padded lengths and micro-batch budgets: padding saved against smaller micro-batches, on real SAF lengths.

python -m benchmarks.buckets --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.timing import interleave
from benchmarks.workload import padded, sample
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.scoring.buckets import Buckets

COMMAND = "python -m benchmarks.buckets --data SAF"
BUDGETS_TOKENS = (512, 1024, 2048, 4096)
LADDERS = {
    "as served": None,
    "steps of 8 to 64": (*range(8, 64, 8), *range(64, 128, 16), *range(128, 256, 32), *range(256, 513, 64)),
    "steps of 4 to 64": (*range(8, 64, 4), *range(64, 128, 8), *range(128, 256, 16), *range(256, 513, 32)),
    "powers of two": (8, 16, 32, 64, 128, 256, 512),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bfloat16")
    args = parser.parse_args()
    rows = sample(args.data, 512)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.open(prepare(Path(scratch)))
        most = engine.backbone.spec.max_tokens
        runner = RunnerChoice("openvino", precision=args.precision).make(engine.backbone)
        works = {
            f"{name}, {budget} tokens": padded(engine, rows, budget, Buckets(most, ladder) if ladder else None)
            for name, ladder in LADDERS.items()
            for budget in BUDGETS_TOKENS
        }
        timings = interleave({n: lambda w=w: w.run(runner) for n, w in works.items()}, args.rounds)  # type: ignore[misc]
    table = Table("ladder, budget", "micro-batches", "padding", "rows/s", "spread")
    for name, timing in timings.items():
        work = works[name]
        padding = 1 - work.tokens / sum(ids.size for ids, _, _ in work.parts)
        rate = len(work.lengths) / timing.median_s
        table.add_row(name, str(len(work.parts)), f"{padding:.1%}", f"{rate:,.0f}", f"{timing.spread:.2f}")
        figures = {"setting": name, "precision": args.precision, "padding": padding, "rows_per_s": rate}
        record("buckets", COMMAND, {**figures, "micro_batches": len(work.parts), "spread": timing.spread})
    Console().print(table)


if __name__ == "__main__":
    main()
