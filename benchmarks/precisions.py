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

from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import padded, sample
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice

COMMAND = "python -m benchmarks.precisions --data SAF"
RUNNERS = {
    "onnxruntime float32": RunnerChoice("onnxruntime"),
    "openvino float32": RunnerChoice("openvino", precision="float32"),
    "openvino bfloat16": RunnerChoice("openvino", precision="bfloat16"),
    "openvino int8": RunnerChoice("openvino", precision="int8"),
}
SQUARE = 2048
LAYERS, HIDDEN, INNER = 6, 384, 1536
"""MiniLM."""


def flops(lengths: list[int]) -> float:
    """Return the matrix products' floating-point operations of MiniLM's layers on real tokens alone.

    Two a weight and token in the four attention Linears and the two of the feed-forward part, and 4·S·H a token for
    scores and values of attention over the row's own S tokens. LoRA, embeddings and heads are left out.
    """
    weights = LAYERS * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * INNER)
    return float(sum(2 * weights * n + LAYERS * 4 * n * n * HIDDEN for n in lengths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import torch

    square = torch.randn(SQUARE, SQUARE)
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.open(prepare(Path(scratch)))
        work = padded(engine, sample(args.data, 512))
        runners = {name: choice.make(engine.backbone) for name, choice in RUNNERS.items()}
        works = {name: lambda r=r: work.run(r) for name, r in runners.items()}  # type: ignore[misc]
        timings = interleave({"matmul": lambda: [square @ square for _ in range(8)], **works}, args.rounds)
    peak = 8 * 2 * SQUARE**3 / timings["matmul"].median_s
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
    console.print(f"float32 matmul {SQUARE}²: {peak / 1e9:.0f} GFLOP/s; padding {padding:.1%} of tokens computed")
    record(
        "precisions",
        COMMAND,
        {"rounds": args.rounds, "peak_gflops": peak / 1e9, "padding": float(np.round(padding, 4)), "runners": rows},
    )


if __name__ == "__main__":
    main()
