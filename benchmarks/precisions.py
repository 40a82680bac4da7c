"""Runners and precisions side by side, and float32's share of the machine's matmul peak, on real SAF lengths.

python -m benchmarks.precisions --data ../shared/data/saf
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import RUNNERS, padded, sample
from scoremux_engine import Engine

COMMAND = "python -m benchmarks.precisions --data SAF"
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


def openvino_matmul() -> Callable[[npt.NDArray[np.float32]], object]:
    """Return x → x @ W of fixed W, float32 [SQUARE, SQUARE], in OpenVINO with all threads."""
    import openvino
    from openvino import opset13

    x = opset13.parameter([SQUARE, SQUARE], np.float32)
    weight = opset13.constant(np.random.default_rng(0).normal(size=(SQUARE, SQUARE)).astype(np.float32))
    model = openvino.Model([opset13.matmul(x, weight, False, False)], [x])
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": len(os.sched_getaffinity(0))}
    compiled = openvino.compile_model(model, "CPU", options)
    return lambda array: compiled([array], share_inputs=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    import torch

    square = torch.randn(SQUARE, SQUARE)
    multiply = openvino_matmul()
    with tempfile.TemporaryDirectory() as scratch:
        engine = Engine.open(prepare(Path(scratch)))
        work = padded(engine, sample(args.data, 512))
        runners = {name: choice.make(engine.backbone) for name, choice in RUNNERS.items()}
        works = {name: lambda r=r: work.run(r) for name, r in runners.items()}
        timings = interleave(
            {
                "torch matmul": lambda: [square @ square for _ in range(8)],
                "openvino matmul": lambda: [multiply(square.numpy()) for _ in range(8)],
                **works,
            },
            args.rounds,
        )
    # The better of two libraries: torch's does not use all of every processor.
    peaks = {n: 8 * 2 * SQUARE**3 / timings[n].median_s for n in ("torch matmul", "openvino matmul")}
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
    console.print(f"float32, {SQUARE}²: {shown}; padding {padding:.1%} of tokens computed")
    record(
        "precisions",
        COMMAND,
        {"rounds": args.rounds, "peaks": peaks, "padding": float(np.round(padding, 4)), "runners": rows},
    )


if __name__ == "__main__":
    main()
