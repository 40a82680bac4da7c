"""The serving figures on a CUDA card, with whatever of onnxruntime-gpu, TensorRT and torch is there.

    python -m benchmarks.gpu --data SAF

Four parts, a row each: `paper` (27 full models switched against one shared backbone), `peers` (PEFT and ONNX Runtime
on the same rows), `growth` (adapters, rank, rows, length) and `limit` (share of the card's matmul peak). Without a CUDA
card it says so and exits with status 3.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peak import flops
from benchmarks.peers.peft_torch import PeftMixed
from benchmarks.provenance import record
from benchmarks.saf import SafRow, minilm, prepare
from benchmarks.timing import interleave, ratio
from benchmarks.workload import Padded, padded_for, random_tables, sample
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import RunnerError
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.runner import BackboneRunner

COMMAND = "python -m benchmarks.gpu --data SAF"
NO_CARD = 3
GROWTH = {"tasks": (1, 3, 9, 27, 81, 243, 729, 2187), "rank": (4, 8, 16, 32, 64), "rows": (1, 8, 64, 512)}
LENGTHS = (8, 32, 128, 512)
TASKS = 27


@dataclass(frozen=True)
class Bench:
    """What all parts share. device: `cuda`, or `cpu` to try this module; source: the encoder's folder."""

    backbone: Backbone
    source: Path
    rows: list[SafRow]
    runners: dict[str, BackboneRunner]
    device: str = "cuda"
    rounds: int = 5

    @property
    def runner(self) -> BackboneRunner:
        """The first that is there."""
        return next(iter(self.runners.values()))


def card() -> str | None:
    """Return the name of the CUDA card, None where there is none that a program here could use."""
    if not shutil.which("nvidia-smi"):
        return None
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    names = asked.stdout.strip().splitlines()
    return names[0] if asked.returncode == 0 and names else None


def find_runners(backbone: Backbone, devices: tuple[str, ...]) -> tuple[dict[str, BackboneRunner], dict[str, str]]:
    """Return ONNX Runtime's providers that start here, and why the others do not."""
    found: dict[str, BackboneRunner] = {}
    absent: dict[str, str] = {}
    for device in devices:
        try:
            found[f"onnxruntime {device}"] = RunnerChoice("onnxruntime", device=device).make(backbone)
        except RunnerError as error:
            absent[f"onnxruntime {device}"] = str(error)
    return found, absent


def paper(bench: Bench) -> dict[str, Any]:
    """One row at a time, each of another task: a full model brought to the card each time, or the shared backbone."""
    import torch
    import transformers

    def ready() -> None:
        if bench.device == "cuda":
            torch.cuda.synchronize()

    model = transformers.AutoModelForSequenceClassification.from_pretrained(bench.source, num_labels=5).eval()
    models = [copy.deepcopy(model) for _ in range(TASKS)]
    one = padded_for(bench.backbone, bench.rows[:TASKS], random_tables(bench.backbone.spec, TASKS))
    # A row to itself, in the order of the micro-batches.
    rows = [(i[n : n + 1], m[n : n + 1], g[n : n + 1]) for i, m, g in one.parts for n in range(len(g))]

    def full() -> None:
        for (ids, mask, _), own in zip(rows, models, strict=True):
            # As a service would that has room for one: the copy on the card goes when its row is done.
            there = copy.deepcopy(own).to(bench.device)
            with torch.inference_mode():
                there(
                    input_ids=torch.from_numpy(ids).to(bench.device),
                    attention_mask=torch.from_numpy(mask).to(bench.device),
                )
            ready()

    def shared() -> None:
        for row in rows:
            bench.runner.run(*row, one.tables)

    timings = interleave({"27 full models, switched": full, "shared backbone": shared}, bench.rounds)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    adapters = sum(array.nbytes for array in one.tables.arrays.values())
    return {
        "ms_a_row": {name: 1000 * timing.median_s / len(rows) for name, timing in timings.items()},
        "times_as_fast": ratio(timings, "shared backbone", "27 full models, switched"),
        "weight_bytes": {"27 full models": TASKS * weights, "shared backbone": weights + adapters},
    }


def peers(bench: Bench) -> dict[str, Any]:
    """The same rows through PEFT's mixed batch on the card, and through every runner that is there."""
    work = padded_for(bench.backbone, bench.rows, random_tables(bench.backbone.spec, TASKS))
    peft = PeftMixed("", device=bench.device)
    works: dict[str, Callable[[], object]] = {"PEFT mixed, by length": lambda: peft.logits(bench.rows)}
    for name, runner in bench.runners.items():
        works[name] = lambda r=runner: work.run(r)  # type: ignore[misc]
    timings = interleave(works, bench.rounds)
    return {
        "rows_per_s": {name: len(bench.rows) / timing.median_s for name, timing in timings.items()},
        "spread": {name: timing.spread for name, timing in timings.items()},
    }


def growth(bench: Bench, axes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Rows/s over adapters on hand, rank and rows a call; tokens/s over length."""
    grown = {axis: _timed(bench, {v: _grown(bench, axis, v) for v in values}) for axis, values in axes.items()}
    spec = bench.backbone.spec
    lengths = {n: _of_length(bench, n) for n in LENGTHS if n <= spec.max_tokens}
    grown["length"] = _timed(bench, lengths)
    return {"points": grown}


def _timed(bench: Bench, works: dict[int, tuple[Callable[[], object], int]]) -> list[dict[str, float]]:
    timings = interleave({str(value): run for value, (run, _) in works.items()}, bench.rounds)
    return [{"value": v, "per_s": n / timings[str(v)].median_s} for v, (_, n) in works.items()]


def _grown(bench: Bench, axis: str, value: int) -> tuple[Callable[[], object], int]:
    """Return a run over the rows, and how many they are."""
    tasks = value if axis == "tasks" else TASKS
    made = random_tables(bench.backbone.spec, tasks, value if axis == "rank" else 8)
    size = value if axis == "rows" else len(bench.rows)
    chunks = [bench.rows[start : start + size] for start in range(0, len(bench.rows), size)]
    works: list[Padded] = [padded_for(bench.backbone, chunk, made) for chunk in chunks]

    def run() -> None:
        for work in works:
            work.run(bench.runner)

    return run, len(bench.rows)


def _of_length(bench: Bench, length: int) -> tuple[Callable[[], object], int]:
    """Return a run over one full micro-batch of rows of `length` tokens, and its tokens."""
    count = max(1, 2048 // length)
    ids, mask = np.full((count, length), 5, dtype=np.int64), np.ones((count, length), dtype=np.int64)
    group = np.arange(count, dtype=np.int64) % TASKS
    work = Padded([(ids, mask, group)], random_tables(bench.backbone.spec, TASKS), [length] * count)
    return lambda: work.run(bench.runner), work.tokens


def limit(bench: Bench) -> dict[str, Any]:
    """The card's matmul peak at each precision in torch, and the share of it that each runner's rows reach."""
    import torch

    size = 4096 if bench.device == "cuda" else 256
    works: dict[str, Callable[[], object]] = {}

    def multiply(a: Any) -> None:
        _ = a @ a
        if bench.device == "cuda":
            torch.cuda.synchronize()

    for dtype in (torch.float32, torch.bfloat16):
        square = torch.randn(size, size, device=bench.device).to(dtype)
        works[str(dtype).removeprefix("torch.")] = lambda s=square: multiply(s)  # type: ignore[misc]
    work = padded_for(bench.backbone, bench.rows, random_tables(bench.backbone.spec, TASKS))
    for name, runner in bench.runners.items():
        works[name] = lambda r=runner: work.run(r)  # type: ignore[misc]
    timings = interleave(works, bench.rounds, warm_up=2)
    peaks = {name: 2 * size**3 / timings[name].median_s for name in ("float32", "bfloat16")}
    reached = {name: flops(work.lengths) / timings[name].median_s for name in bench.runners}
    return {
        "peak_per_s": peaks,
        "share_of_float32_peak": {name: value / peaks["float32"] for name, value in reached.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="*", choices=("paper", "peers", "growth", "limit"))
    args = parser.parse_args()
    name = card()
    if name is None:
        print("This machine has no CUDA GPU that nvidia-smi knows, so nothing was measured.", file=sys.stderr)
        sys.exit(NO_CARD)
    with tempfile.TemporaryDirectory() as scratch:
        backbone = Backbone.open(prepare(Path(scratch)) / "backbone" / "1")
        runners, absent = find_runners(backbone, ("cuda", "tensorrt"))
        if not runners:
            sys.exit(f"no runner starts on {name}: {absent}")
        bench = Bench(backbone, minilm(), sample(args.data, args.rows), runners, rounds=args.rounds)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "paper": lambda: paper(bench),
            "peers": lambda: peers(bench),
            "growth": lambda: growth(bench, GROWTH),
            "limit": lambda: limit(bench),
        }
        for part in args.parts or parts:
            figures = parts[part]()
            print(part, figures)
            record("gpu", COMMAND, {"card": name, "part": part, "absent": absent, "rows": args.rows, **figures})


if __name__ == "__main__":
    main()
