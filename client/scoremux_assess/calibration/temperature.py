"""Temperatures: one a task, shrunk to that of all tasks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEAST, _MOST = 0.1, 10.0
_SPREAD = 0.3
"""Standard deviation of tasks' temperatures around the pooled one, on a log scale."""

_STEPS = 60
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Rows:
    """Labelled rows of one task: probabilities float64 [B, L], level and human int64 [B]."""

    probabilities: Floats
    level: Ints
    human: Ints

    def __len__(self) -> int:
        return len(self.human)

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> Rows:
        """Return some of the rows."""
        return Rows(self.probabilities[rows], self.level[rows], self.human[rows])

    @property
    def errors(self) -> npt.NDArray[np.bool_]:
        """Which rows have another level than the human's, bool [B]."""
        return np.asarray(self.level != self.human)


def fit_temperatures(tasks: Sequence[Rows]) -> tuple[float, list[float]]:
    """Return the temperature of all rows together, and each task's own.

    T = argmin NLL(human | p^(1/T)) + (log T − log T_pooled)² / 2σ²; a task with few rows stays near the pooled one.
    """
    logs = [np.log(np.maximum(rows.probabilities, np.finfo(np.float32).tiny)) for rows in tasks]

    def loss(x: float, number: int) -> float:
        scaled = logs[number] * np.exp(-x)
        top = scaled.max(axis=1)
        total = np.log(np.exp(scaled - top[:, None]).sum(axis=1)) + top
        return float((total - scaled[np.arange(len(scaled)), tasks[number].human]).sum())

    def penalised(x: float, number: int) -> float:
        return loss(x, number) + ((x - pooled) / _SPREAD) ** 2 / 2

    filled = [number for number, rows in enumerate(tasks) if len(rows)]
    if not filled:
        return 1.0, [1.0] * len(tasks)
    pooled = _least(lambda x: sum(loss(x, number) for number in filled))
    own = [pooled] * len(tasks)
    for number in filled:
        own[number] = _least(partial(penalised, number=number))
    return round(float(np.exp(pooled)), 6), [round(float(np.exp(x)), 6) for x in own]


def _least(call: Callable[[float], float]) -> float:
    """Return where a function with one minimum is least, between the logarithms of `_LEAST` and `_MOST`."""
    low, high = float(np.log(_LEAST)), float(np.log(_MOST))
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = call(left), call(right)
    for _ in range(_STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = call(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = call(right)
    return (low + high) / 2
