"""Runners and precisions side by side, and float32's share of the machine's matmul peak, on real SAF lengths.

python -m benchmarks.precisions --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.peak import flops, products
from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import RUNNERS, padded, sample
from scoremux_engine import Engine

COMMAND = "python -m benchmarks.precisions --data SAF"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    peak_of = products("float32")
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.open(prepare(Path(scratch)))
        work = padded(engine, sample(args.data, 512))
        runners = {name: choice.make(engine.backbone) for name, choice in RUNNERS.items()}
        works = {name: lambda r=r: work.run(r) for name, r in runners.items()}
        timings = interleave({**works, **{n: product.run for n, product in peak_of.items()}}, args.rounds)
    # The best of two libraries and several shapes: torch's does not use all of every processor.
    peaks = {name: product.operations / timings[name].median_s for name, product in peak_of.items()}
    peak = max(peaks.values())
    padding = 1 - work.tokens / sum(ids.size for ids, _, _ in work.parts)
    table = Table("runner", "rows/s", "real tokens/s", "× openvino float32", "share of float32 peak", "spread")
    rows = {}
    for name in RUNNERS:
        took = timings[name]
        rows[name] = {
            "rows_per_s": len(work.lengths) / took.median_s,
            "tokens_per_s": work.tokens / took.median_s,
            "times_openvino_float32": ratio(timings, name, "openvino float32"),
            "share_of_float32_peak": flops(work.lengths) / took.median_s / peak,
            "spread": took.spread,
        }
        values = list(rows[name].values())
        table.add_row(name, f"{values[0]:,.0f}", f"{values[1]:,.0f}", *(f"{v:.2f}" for v in values[2:]))
    console = Console()
    console.print(table)
    shown = ", ".join(f"{name} {value / 1e9:.0f} GFLOP/s" for name, value in peaks.items())
    console.print(f"float32: {shown}; padding {padding:.1%} of tokens computed")
    record(
        "precisions",
        COMMAND,
        {"rounds": args.rounds, "peaks": peaks, "padding": float(np.round(padding, 4)), "runners": rows},
    )


if __name__ == "__main__":
    main()
