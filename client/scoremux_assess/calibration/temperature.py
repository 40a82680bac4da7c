"""Temperatures: one a task, shrunk to that of all tasks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LOGS = np.linspace(np.log(0.1), np.log(10.0), 47)
"""Logarithms of the temperatures at which the loss is computed; between them it is taken for a parabola."""

_FOLDS = 5
_SPREAD = 0.3
"""Standard deviation of tasks' temperatures around the pooled one, on a log scale."""


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
    return _fit([_losses(rows).sum(axis=1) for rows in tasks])


def held_out_temperatures(tasks: Sequence[Rows]) -> list[Floats]:
    """Return a temperature for each row of each task, fitted without the row: its own level must not make it surer."""
    losses = [_losses(rows) for rows in tasks]
    found = [np.ones(len(rows)) for rows in tasks]
    for fold in range(_FOLDS):
        held = [np.arange(len(rows)) % _FOLDS == fold for rows in tasks]
        _, own = _fit([loss[:, ~out].sum(axis=1) for loss, out in zip(losses, held, strict=True)])
        for temperatures, out, value in zip(found, held, own, strict=True):
            temperatures[out] = value
    return found


def _fit(losses: Sequence[Floats]) -> tuple[float, list[float]]:
    pooled = _lowest(np.sum(losses, axis=0)) if np.any(losses) else 0.0
    own = [_lowest(loss + ((_LOGS - pooled) / _SPREAD) ** 2 / 2) for loss in losses]
    return round(float(np.exp(pooled)), 6), [round(float(np.exp(x)), 6) for x in own]


def _losses(rows: Rows) -> Floats:
    """Return the negative log-likelihood of each row's human level at each temperature of `_LOGS`, [T, B]."""
    logs = np.log(np.maximum(rows.probabilities, np.finfo(np.float32).tiny))
    logs -= logs.max(axis=1, keepdims=True, initial=-np.inf)
    given = logs[np.arange(len(rows)), rows.human]
    return np.array([np.log(np.exp(logs * power).sum(axis=1)) - power * given for power in np.exp(-_LOGS)])


def _lowest(loss: Floats) -> float:
    """Return the logarithm of the temperature at which the loss is lowest."""
    place = int(loss.argmin())
    if not 0 < place < len(loss) - 1:
        return float(_LOGS[place])
    before, here, after = loss[place - 1 : place + 2]
    bend = before - 2 * here + after
    return float(_LOGS[place] + (_LOGS[1] - _LOGS[0]) * (before - after) / (2 * bend))
