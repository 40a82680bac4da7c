"""Orders in which responses come, and what it costs that one's task is not the task before it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.saf import SafRow


def in_turn(rows: Sequence[SafRow], each: int) -> list[int]:
    """Return row numbers, `each` of every task, such that no two neighbours are of one task."""
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        found.setdefault(row.task, []).append(number)
    return [numbers[turn % len(numbers)] for turn in range(each) for numbers in found.values()]


def cost_ms(switched: Sequence[Sequence[float]], stayed: Sequence[Sequence[float]], seed: int = 0) -> dict[str, float]:
    """Return the median over rows of (switched − stayed) in ms, and the 95 % interval of that median by bootstrap.

    Both: seconds by round and row, the same rows in the same places. A row's time is its fastest round's: what else
    the machine does only ever adds to it.
    """
    gaps = (np.min(switched, axis=0) - np.min(stayed, axis=0)) * 1e3
    draw = np.random.default_rng(seed)
    medians = np.median(draw.choice(gaps, (2000, len(gaps))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return {"median_ms": float(np.median(gaps)), "low_ms": float(low), "high_ms": float(high)}
