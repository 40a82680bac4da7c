"""How throughput and memory grow with tasks, rank, rows a call, tokens a row and threads; and a bank that is too small.

    python -m benchmarks growth --axis rank threads
    python -m benchmarks bank --tasks 10000

All values of an axis take turns. Memory is that of a process that has scored the rows of one value.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.case import ONE_PROFILE, case, data_folder
from benchmarks.child import ENGINE, Child
from benchmarks.data import Labelled
from benchmarks.rows import Row
from benchmarks.stores import make_store, store_of_copies
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
    rows = data.sample(data_folder(arguments.data), arguments.rows)
    if axis == "tasks":
        whole = store_of_copies(max(AXES[axis]), arguments.data, work)
        # 7 and powers of 3 share no factor: all tasks come in turn.
        return {
            value: Point([replace(row, task=f"task-{i * 7 % value:05}") for i, row in enumerate(rows)], whole)
            for value in AXES[axis]
        }
    if axis == "rank":
        return {v: Point(rows, make_store(work, arguments.data, (v,))) for v in AXES[axis]}
    store = make_store(work, arguments.data)
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


def open_child(point: Point, profile: str, work: Path, name: str, **options: Any) -> Child:
    """Start an engine for a point's rows."""
    settings = [f"threads={point.threads}"] if point.threads else []
    made = {"repository": point.repository.absolute(), "profile": profile, "settings": settings, **options}
    return Child(ENGINE, made, point.rows, work / f"{name}.log")


def score_all(child: Child, point: Point) -> None:
    """Score a point's rows, in calls of its size."""
    for start in range(0, len(point.rows), point.call_rows):
        child.logits(range(start, min(start + point.call_rows, len(point.rows))))


@case(
    columns=(
        "axis; profile; from = first.value:,; per second = first.per_s:,.0f; to = last.value:,; "
        "per second = last.per_s:,.0f; counted = unit; grows with the power = power:.2f; "
        "kB for one more = bytes_each/1e3:,.0f"
    ),
    keys="data profile axis",
    options={**ONE_PROFILE, "--axis": {"nargs": "*", "choices": AXES, "default": list(AXES)}},
)
def growth(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Throughput and memory along one axis at a time."""
    for axis in arguments.axis:
        by_value = points(axis, arguments, work)
        with ExitStack() as stack:
            children = {
                value: stack.enter_context(open_child(point, arguments.profile, work, f"{axis}-{value}"))
                for value, point in by_value.items()
            }
            works = {str(v): partial(score_all, child, by_value[v]) for v, child in children.items()}
            timings = interleave(works, arguments.rounds)
            memory = {value: child.memory()["rss_bytes"] for value, child in children.items()}
        measured = []
        for value, point in by_value.items():
            timing = timings[str(value)]
            rate = {"per_s": point.amount / timing.median_s, "spread": timing.spread}
            measured.append({"value": value, **rate, "rss_bytes": memory[value]})
        setting = {"data": arguments.data, "profile": arguments.profile, "axis": axis}
        yield {**setting, "unit": next(iter(by_value.values())).unit, **summary(measured)}


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the power of the axis that throughput grows with, and the bytes that one more of it costs."""
    values, rates = [float(m["value"]) for m in measured], [m["per_s"] for m in measured]
    power = slope([math.log(v) for v in values], [math.log(r) for r in rates]) if len(values) > 1 else None
    each = slope(values, [float(m["rss_bytes"]) for m in measured]) if len(values) > 1 else None
    ends = {"first": measured[0], "last": measured[-1], "share": rates[-1] / rates[0]}
    return {"points": measured, **ends, "power": power, "bytes_each": each}


@case(
    columns=(
        "tasks = tasks:,; room, MB = bank_mb; profile; rows/s = rows_per_s_some:,.0f; "
        "rows/s, room for all = rows_per_s_all:,.0f; share = share:.3f; spread = spread:.2f; "
        "engine opens in, s = open_s:.1f"
    ),
    keys="tasks bank_mb profile",
    options={
        **ONE_PROFILE,
        "--tasks": {"type": int, "default": 10_000, "help": "in the store (default: %(default)s)"},
        "--bank-mb": {"type": int, "default": 120, "help": "room for adapters (default: %(default)s)"},
    },
)
def bank(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Zipf traffic to more tasks than the bank has room for, against room for all."""
    repository, draw = store_of_copies(arguments.tasks, arguments.data, work), random.Random(1)
    names = [f"task-{n:05}" for n in draw.sample(range(arguments.tasks), arguments.tasks)]
    rounds, size = arguments.rounds + 2, arguments.rows
    sampled = data.sample(data_folder(arguments.data), size)
    tasks = data.popular("zipf", names, rounds * size, draw)
    point = Point([replace(sampled[i % size], task=task) for i, task in enumerate(tasks)], repository)
    with ExitStack() as stack:
        works, load_s = {}, {}
        for name, room in (("all", arguments.tasks * TASK_BYTES), ("some", arguments.bank_mb * 1_000_000)):
            child = stack.enter_context(open_child(point, arguments.profile, work, name, bank_bytes=room))
            load_s[name] = child.load_s
            batches = iter([list(range(start, start + size)) for start in range(0, rounds * size, size)])
            works[name] = lambda child=child, batches=batches: child.logits(next(batches))
        timings = interleave(works, arguments.rounds)
    rates = {f"rows_per_s_{name}": size / timing.median_s for name, timing in timings.items()}
    setting = {"tasks": arguments.tasks, "bank_mb": arguments.bank_mb, "profile": arguments.profile}
    share = times_as_fast(timings["some"], timings["all"])
    yield {**setting, **rates, "share": share, "spread": timings["some"].spread, "open_s": load_s["some"]}
