"""How throughput and memory grow with tasks, rank, rows a call, tokens a row and threads; and a bank that is too small.

    python -m benchmarks.growth --case growth --axis rank threads
    python -m benchmarks.growth --case bank --tasks 10000

All values of an axis take turns. Memory is that of a process that has scored the rows of one value.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import Child, call_aside, write_rows
from benchmarks.data import Labelled
from benchmarks.rows import ROOT, Row
from benchmarks.speed import ENGINE, UNIFORM, make_store
from benchmarks.timing import interleave, slope, times_as_fast

AXES = {
    "tasks": (1, 3, 9, 27, 81, 243, 729, 2187),
    "rank": (4, 8, 16, 32, 64, 128),
    "rows": (1, 4, 16, 64, 512),
    "length": (8, 16, 32, 64, 128, 256, 512),
    "threads": tuple(2**n for n in range(9) if 2**n <= len(os.sched_getaffinity(0))),
}
TOKENS = 16384
"""Real tokens a round, on the axis of length."""
TASK_BYTES = 700_000
"""More than an adapter of rank 8 takes in memory in float32, padded to its rank class."""


@dataclass(frozen=True)
class Point:
    """One value of an axis: the rows, how many go into a call, what they run in, and what is counted a second."""

    rows: list[Labelled]
    repository: Path
    call_rows: int = 512
    threads: int = 0
    unit: str = "rows"

    @property
    def amount(self) -> int:
        return TOKENS if self.unit == "tokens" else len(self.rows)


def points(axis: str, arguments: argparse.Namespace, work: Path) -> dict[int, Point]:
    """Return what to time for each value of an axis."""
    rows = data.sample(case.data_folder(arguments.data), arguments.rows)
    if axis == "tasks":
        whole = store_of_copies(max(AXES[axis]), arguments.data, work)
        # 7 and powers of 3 share no factor: all tasks come in turn.
        return {
            value: Point([replace(row, task=f"task-{i * 7 % value:05}") for i, row in enumerate(rows)], whole)
            for value in AXES[axis]
        }
    if axis == "rank":
        return {v: Point(rows, make_store(ROOT, arguments.data, (v,), ["plain"], work)) for v in AXES[axis]}
    store = make_store(ROOT, arguments.data, UNIFORM, ["plain"], work)
    if axis == "rows":
        return {value: Point(rows, store, call_rows=value) for value in AXES[axis]}
    if axis == "threads":
        return {value: Point(rows, store, threads=value) for value in AXES[axis]}
    # A row of `the` has as many tokens as words, and two special ones.
    return {
        value: Point(
            [replace(rows[i % len(rows)], text="the " * (value - 2)) for i in range(TOKENS // value)],
            store,
            unit="tokens",
        )
        for value in AXES[axis]
    }


def store_of_copies(tasks: int, data_name: str, work: Path) -> Path:
    """Return a repository of so many tasks, copies of the example adapters."""
    repository = work / f"copies-{tasks}"
    if not (repository / "store" / "manifest.json").exists():
        few, folder = make_store(ROOT, data_name, UNIFORM, ["plain"], work), work.absolute() / "copies"
        shutil.copytree(few / "backbone", repository / "backbone", dirs_exist_ok=True)
        folders = [str(copy) for copy in data.copies(tasks, folder)]
        call_aside("benchmarks.data:publish", repository.absolute(), folders)
        shutil.rmtree(folder)
    return repository


def open_child(point: Point, profile: str, work: Path, name: str, **options: Any) -> Child:
    """Start an engine for a point's rows."""
    rows = write_rows(point.rows, work / f"{name}.jsonl")
    settings = [f"threads={point.threads}"] if point.threads else []
    made = {"repository": point.repository.absolute(), "profile": profile, "settings": settings, **options}
    return Child(ENGINE, made, rows, work / f"{name}.log")


def score_all(child: Child, point: Point) -> None:
    """Score a point's rows, in calls of its size."""
    for start in range(0, len(point.rows), point.call_rows):
        child.ask("logits", numbers=list(range(start, min(start + point.call_rows, len(point.rows)))))


def growth(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Yield a row for each axis."""
    for axis in arguments.axis:
        found = points(axis, arguments, work)
        with ExitStack() as held:
            works, children = {}, {}
            for value, point in found.items():
                child = held.enter_context(open_child(point, arguments.profile, work, f"{axis}-{value}"))
                children[value] = child
                works[str(value)] = lambda child=child, point=point: score_all(child, point)
            timings = interleave(works, arguments.rounds)
            memory = {value: child.ask("memory")["rss_bytes"] for value, child in children.items()}
        measured = []
        for value, point in found.items():
            timing = timings[str(value)]
            rate = {"per_s": point.amount / timing.median_s, "spread": timing.spread}
            measured.append({"value": value, **rate, "rss_bytes": memory[value]})
        yield {"data": arguments.data, "profile": arguments.profile, "axis": axis, **summary(measured, found)}


def summary(measured: list[dict[str, Any]], found: dict[int, Point]) -> dict[str, Any]:
    """Return the power of the axis that throughput grows with, and the bytes that one more of it costs."""
    values, rates = [float(m["value"]) for m in measured], [m["per_s"] for m in measured]
    power = slope([math.log(v) for v in values], [math.log(r) for r in rates]) if len(values) > 1 else None
    each = slope(values, [float(m["rss_bytes"]) for m in measured]) if len(values) > 1 else None
    ends = {"first": measured[0], "last": measured[-1], "share": rates[-1] / rates[0]}
    return {"unit": next(iter(found.values())).unit, "points": measured, **ends, "power": power, "bytes_each": each}


def bank(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row: Zipf traffic to more tasks than the bank has room for, against a bank with room for all."""
    repository, draw = store_of_copies(arguments.tasks, arguments.data, work), random.Random(1)
    names = [f"task-{n:05}" for n in draw.sample(range(arguments.tasks), arguments.tasks)]
    rounds, size = arguments.rounds + 2, arguments.rows
    sampled = data.sample(case.data_folder(arguments.data), size)
    tasks = data.popular("zipf", names, rounds * size, draw)
    point = Point([replace(sampled[i % size], task=task) for i, task in enumerate(tasks)], repository)
    with ExitStack() as held:
        works, load_s = {}, {}
        for name, room in (("all", arguments.tasks * TASK_BYTES), ("some", arguments.bank_mb * 1_000_000)):
            child = held.enter_context(open_child(point, arguments.profile, work, name, bank_bytes=room))
            load_s[name] = child.load_s
            batches = iter([list(range(start, start + size)) for start in range(0, rounds * size, size)])
            works[name] = lambda child=child, batches=batches: child.ask("logits", numbers=next(batches))
        timings = interleave(works, arguments.rounds)
    rates = {f"rows_per_s_{name}": size / timing.median_s for name, timing in timings.items()}
    setting = {"tasks": arguments.tasks, "bank_mb": arguments.bank_mb, "profile": arguments.profile}
    share = times_as_fast(timings["some"], timings["all"])
    yield {**setting, **rates, "share": share, "spread": timings["some"].spread, "open_s": load_s["some"]}


PROFILE = Column("profile", "profile")
CASES = (
    Case(
        "growth",
        "Throughput and memory along one axis at a time",
        (
            Column("axis", "axis"),
            PROFILE,
            Column("from", "first.value", "{:,}"),
            Column("per second", "first.per_s", "{:,.0f}"),
            Column("to", "last.value", "{:,}"),
            Column("per second", "last.per_s", "{:,.0f}"),
            Column("counted", "unit"),
            Column("grows with the power", "power", "{:.2f}"),
            Column("kB for one more", "bytes_each", "{:,.0f}", unit=1e3),
        ),
        ("data", "profile", "axis"),
        growth,
    ),
    Case(
        "bank",
        "Zipf traffic to more tasks than the bank has room for, against room for all",
        (
            Column("tasks", "tasks", "{:,}"),
            Column("room, MB", "bank_mb"),
            PROFILE,
            Column("rows/s", "rows_per_s_some", "{:,.0f}"),
            Column("rows/s, room for all", "rows_per_s_all", "{:,.0f}"),
            Column("share", "share", "{:.3f}"),
            Column("spread", "spread", "{:.2f}"),
            Column("engine opens in, s", "open_s", "{:.1f}"),
        ),
        ("tasks", "bank_mb", "profile"),
        bank,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__)
    parser.add_argument("--profile", default="cpu")
    parser.add_argument("--axis", nargs="*", choices=AXES, default=list(AXES))
    parser.add_argument("--tasks", type=int, default=10_000, help="of the case bank (default: %(default)s)")
    parser.add_argument("--bank-mb", type=int, default=120, help="room for adapters (default: %(default)s)")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
