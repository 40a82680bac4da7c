"""Interleaved timing: A B C A B C …, so that whatever else the machine does affects all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)
WARM_UP = 2
"""Rounds that are run and not timed: a shape's first run makes its kernels."""


@dataclass(frozen=True)
class Timing:
    """Seconds of every timed round, in order."""

    seconds: list[float]

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest − fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median_s


def interleave(
    works: Mapping[Name, Callable[[], object]],
    rounds: int,
    warm_up: int = WARM_UP,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Name, Timing]:
    """Run all works once a round, in turn; time the rounds after the first `warm_up`."""
    seconds: dict[Name, list[float]] = {name: [] for name in works}
    for number in range(warm_up + rounds):
        for name, work in works.items():
            started = clock()
            work()
            if number >= warm_up:
                seconds[name].append(clock() - started)
    return {name: Timing(values) for name, values in seconds.items()}


def figures(timing: Timing, rows: int) -> dict[str, float]:
    """Return what a result row says of one timing."""
    return {"rows_per_s": rows / timing.median_s, "spread": timing.spread, "rounds": len(timing.seconds)}


def times_as_fast(one: Timing, other: Timing) -> float:
    """Return how many times as fast `one` is as `other`: the median of the rounds' own ratios."""
    return statistics.median(b / a for a, b in zip(one.seconds, other.seconds, strict=True))


def slope(x: list[float], y: list[float]) -> float:
    """Return the Theil–Sen slope of y over x: the median slope of all pairs of points, which outliers do not move."""
    first, second = np.triu_indices(len(x), 1)
    runs, rises = np.subtract.outer(x, x)[first, second], np.subtract.outer(y, y)[first, second]
    return float(np.median(rises[runs != 0] / runs[runs != 0]))
