"""How throughput and memory grow with tasks, rank, rows a batch, length and threads, one axis at a time.

    python -m benchmarks.growth --data ../shared/data/saf --axis tasks

All values of an axis take turns. Memory is what the work adds to a fresh process, in a process for each value.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.axes import AXES, Setting, Work
from benchmarks.bank_budget import register
from benchmarks.memory import resident_bytes
from benchmarks.provenance import record
from benchmarks.saf import prepare
from benchmarks.slopes import growth
from benchmarks.timing import Timing, interleave
from benchmarks.workload import RUNNERS

COMMAND = "python -m benchmarks.growth --data SAF"


@dataclass(frozen=True)
class Measured:
    """One value of an axis. `per_s`: rows, or tokens where the axis is length; memory in bytes."""

    value: int
    per_s: float
    spread: float
    memory_bytes: int


def memory_bytes(setting: Setting, axis: str, value: int) -> int:
    """Return how much a fresh process grows by making and doing the work of one value, once it has its runner."""
    arguments = ["--data", str(setting.data), "--repository", str(setting.repository), "--runner", setting.runner]
    command = [sys.executable, "-m", "benchmarks.growth", *arguments, "--axis", axis, "--one", str(value)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def measure(setting: Setting, axis: str, rounds: int) -> list[Measured]:
    """Time all values of an axis in turn."""
    works: dict[int, Work] = {value: AXES[axis].work(setting, value) for value in AXES[axis].values}
    runs: dict[str, Callable[[], object]] = {str(value): work.run for value, work in works.items()}
    timings: dict[str, Timing] = interleave(runs, rounds)
    return [
        Measured(
            value,
            work.amount / timings[str(value)].median_s,
            timings[str(value)].spread,
            memory_bytes(setting, axis, value),
        )
        for value, work in works.items()
    ]


def report(axis: str, runner: str, points: list[Measured]) -> None:
    """Print an axis and write its row."""
    grown = growth([p.value for p in points], [p.per_s for p in points])
    each_bytes = float(np.polyfit([p.value for p in points], [p.memory_bytes for p in points], 1)[0])
    unit = AXES[axis].unit
    table = Table(axis, f"{unit}/s", "spread", "memory, MB", title=f"{axis}, {runner}")
    for p in points:
        table.add_row(f"{p.value:,}", f"{p.per_s:,.0f}", f"{p.spread:.2f}", f"{p.memory_bytes / 1e6:,.0f}")
    Console().print(table)
    bend = "" if grown.bend is None else f", {grown.before:.2f} up to {grown.bend:g} and {grown.after:.2f} from there"
    print(
        f"{unit}/s grow with the power {grown.slope:.2f} of {axis}{bend}; memory with {each_bytes / 1e3:,.0f} kB each\n"
    )
    figures = {"axis": axis, "runner": runner, "unit": unit, "points": [asdict(p) for p in points]}
    record("growth", f"{COMMAND} --axis {axis}", {**figures, "growth": asdict(grown), "bytes_each": each_bytes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="MiniLM with the tasks that the axis needs; made if not given")
    parser.add_argument("--runner", choices=RUNNERS, default="openvino bfloat16")
    parser.add_argument("--axis", nargs="*", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # print the memory of one value, in bytes
    args = parser.parse_args()
    if args.one is not None:
        work = AXES[args.axis[0]].work(Setting(args.data, args.repository, args.runner), args.one)
        work.run()
        print(resident_bytes() - work.empty_bytes)
        return
    with tempfile.TemporaryDirectory() as scratch:
        repository = args.repository or prepare(Path(scratch) / "few")
        for axis in args.axis:
            if axis == "tasks" and not args.repository:
                many = Path(scratch) / "many"
                shutil.copytree(repository / "backbone", many / "backbone")
                register(many, max(AXES[axis].values), Path(scratch) / "adapters")
                report(axis, args.runner, measure(Setting(args.data, many, args.runner), axis, args.rounds))
            else:
                report(axis, args.runner, measure(Setting(args.data, repository, args.runner), axis, args.rounds))


if __name__ == "__main__":
    main()
