"""Interleaved timing: A B C A B C …, so that what the machine does meanwhile hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of every round, in order."""

    seconds: list[float]

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest − fastest) / median."""
        return (max(self.seconds) - min(self.seconds)) / self.median_s


def interleave(works: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, Timing]:
    """Run all works once a round, in turn, after `warm_up` untimed rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warm_up + rounds):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number >= warm_up:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(values) for name, values in seconds.items()}


def ratio(timings: Mapping[str, Timing], faster: str, slower: str) -> float:
    """Return how many times as fast `faster` is as `slower`: the median of the rounds' own ratios."""
    pairs = zip(timings[slower].seconds, timings[faster].seconds, strict=True)
    return statistics.median(slow / fast for slow, fast in pairs)
