"""How throughput and memory grow with tasks and with rows a call.

    python -m benchmarks growth --axis rows

All values of an axis take turns. Memory is that of a process that has scored the rows of one value.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
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
from benchmarks.stores import make_store, store_of
from benchmarks.timing import interleave, slope

AXES = {
    "tasks": (1, 3, 9, 27, 81, 243, 729, 2187),
    "rows": (1, 4, 16, 64, 512),
}


@dataclass(frozen=True)
class Point:
    """One value of an axis: the rows, what they run in, and how many go into a call."""

    rows: list[Labelled]
    repository: Path
    call_rows: int = 512


def points(axis: str, arguments: argparse.Namespace, work: Path) -> dict[int, Point]:
    """Return what to time for each value of an axis."""
    rows = data.sample(data_folder(arguments.data), arguments.rows)
    if axis == "tasks":
        whole = store_of(max(AXES[axis]), work)
        # 7 and powers of 3 share no factor: all tasks come in turn.
        return {
            value: Point([replace(row, task=f"task-{i * 7 % value:06}") for i, row in enumerate(rows)], whole)
            for value in AXES[axis]
        }
    store = make_store(work, arguments.data)
    return {value: Point(rows, store, call_rows=value) for value in AXES[axis]}


def score_all(child: Child, point: Point) -> None:
    """Score a point's rows, in calls of its size."""
    for start in range(0, len(point.rows), point.call_rows):
        child.logits(range(start, min(start + point.call_rows, len(point.rows))))


@case(
    columns=(
        "axis; profile; from = first.value:,; per second = first.per_s:,.0f; to = last.value:,; "
        "per second = last.per_s:,.0f; grows with the power = power:.2f; "
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
            children = {}
            for value, point in by_value.items():
                options = {"repository": point.repository.absolute(), "profile": arguments.profile}
                child = Child(ENGINE, options, point.rows, work / f"{axis}-{value}.log")
                children[value] = stack.enter_context(child)
            works = {str(v): partial(score_all, child, by_value[v]) for v, child in children.items()}
            timings = interleave(works, arguments.rounds)
            memory = {value: child.rss_bytes() for value, child in children.items()}
        measured = []
        for value, point in by_value.items():
            timing = timings[str(value)]
            rate = {"per_s": len(point.rows) / timing.median_s, "spread": timing.spread}
            measured.append({"value": value, **rate, "rss_bytes": memory[value]})
        setting = {"data": arguments.data, "profile": arguments.profile, "axis": axis}
        yield {**setting, **summary(measured)}


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the power of the axis that throughput grows with, and the bytes that one more of it costs."""
    values, rates = [float(m["value"]) for m in measured], [m["per_s"] for m in measured]
    power = slope([math.log(v) for v in values], [math.log(r) for r in rates]) if len(values) > 1 else None
    each = slope(values, [float(m["rss_bytes"]) for m in measured]) if len(values) > 1 else None
    ends = {"first": measured[0], "last": measured[-1], "share": rates[-1] / rates[0]}
    return {"points": measured, **ends, "power": power, "bytes_each": each}
