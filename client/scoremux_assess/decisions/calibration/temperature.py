"""Temperatures: one a task, shrunk to that of all tasks together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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
        made = Rows(self.probabilities[rows], self.level[rows], self.human[rows])
        if "losses" in vars(self):  # computed once for all that are taken
            vars(made)["losses"] = self.losses[rows]
        return made

    @property
    def errors(self) -> npt.NDArray[np.bool_]:
        """Which rows have another level than the human's, bool [B]."""
        return np.asarray(self.level != self.human)

    @cached_property
    def losses(self) -> Floats:
        """The negative log-likelihood of each row's human level at each temperature of `_LOGS`, float64 [B, T]."""
        logs = np.log(np.maximum(self.probabilities, np.finfo(np.float32).tiny))
        logs -= logs.max(axis=1, keepdims=True, initial=-np.inf)
        given = logs[np.arange(len(self)), self.human]
        each = [np.log(np.exp(logs * power).sum(axis=1)) - power * given for power in np.exp(-_LOGS)]
        return np.stack(each, axis=1)


def fit_temperatures(tasks: Sequence[Rows]) -> tuple[float, list[float]]:
    """Return the temperature of all rows together, and each task's own.

    T = argmin NLL(human | p^(1/T)) + (log T − log T_pooled)² / 2σ²; a task with few rows stays near the pooled one.
    """
    return _fit([rows.losses.sum(axis=0) for rows in tasks])


def held_out_temperatures(tasks: Sequence[Rows]) -> list[Floats]:
    """Return a temperature for each row of each task, fitted without the row: its own level must not make it surer."""
    found = [np.ones(len(rows)) for rows in tasks]
    by_fold = [np.stack([rows.losses[fold::_FOLDS].sum(axis=0) for fold in range(_FOLDS)]) for rows in tasks]
    for fold in range(_FOLDS):
        _, own = _fit([sums.sum(axis=0) - sums[fold] for sums in by_fold])
        for temperatures, value in zip(found, own, strict=True):
            temperatures[fold::_FOLDS] = value
    return found


def _fit(losses: Sequence[Floats]) -> tuple[float, list[float]]:
    pooled = _lowest(np.sum(losses, axis=0)) if np.any(losses) else 0.0
    own = [_lowest(loss + ((_LOGS - pooled) / _SPREAD) ** 2 / 2) for loss in losses]
    return round(float(np.exp(pooled)), 6), [round(float(np.exp(x)), 6) for x in own]


def _lowest(loss: Floats) -> float:
    """Return the logarithm of the temperature at which the loss is lowest."""
    place = int(loss.argmin())
    if not 0 < place < len(loss) - 1:
        return float(_LOGS[place])
    before, here, after = loss[place - 1 : place + 2]
    bend = before - 2 * here + after
    return float(_LOGS[place] + (_LOGS[1] - _LOGS[0]) * (before - after) / (2 * bend))
