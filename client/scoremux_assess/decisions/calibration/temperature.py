"""Temperatures: one a task, shrunk to that of all tasks together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scoremux_assess.decisions.calibration.labelled_scores import LOG_TEMPERATURES, Floats, LabelledScores

_FOLDS = 5
_SPREAD = 0.3
"""Standard deviation of tasks' temperatures around the pooled one, on a log scale."""


def fit_temperatures(tasks: Sequence[LabelledScores]) -> tuple[float, list[float]]:
    """Return the temperature of all rows together, and each task's own.

    T = argmin NLL(human | p^(1/T)) + (log T − log T_pooled)² / 2σ²; a task with few rows stays near the pooled one.
    """
    return _fit([rows.losses.sum(axis=0) for rows in tasks])


def held_out_temperatures(tasks: Sequence[LabelledScores]) -> list[Floats]:
    """Return a temperature for each row of each task, fitted without the row, whose label has no part in it."""
    temperatures = [np.ones(len(rows)) for rows in tasks]
    by_fold = [np.stack([rows.losses[fold::_FOLDS].sum(axis=0) for fold in range(_FOLDS)]) for rows in tasks]
    for fold in range(_FOLDS):
        _, by_task = _fit([sums.sum(axis=0) - sums[fold] for sums in by_fold])
        for of_rows, value in zip(temperatures, by_task, strict=True):
            of_rows[fold::_FOLDS] = value
    return temperatures


def _fit(losses: Sequence[Floats]) -> tuple[float, list[float]]:
    pooled = _lowest(np.sum(losses, axis=0)) if np.any(losses) else 0.0
    by_task = [_lowest(loss + ((LOG_TEMPERATURES - pooled) / _SPREAD) ** 2 / 2) for loss in losses]
    return round(float(np.exp(pooled)), 6), [round(float(np.exp(log)), 6) for log in by_task]


def _lowest(loss: Floats) -> float:
    """Return the logarithm of the temperature at which the loss is lowest."""
    place = int(loss.argmin())
    if not 0 < place < len(loss) - 1:
        return float(LOG_TEMPERATURES[place])
    before, here, after = loss[place - 1 : place + 2]
    bend = before - 2 * here + after
    return float(LOG_TEMPERATURES[place] + (LOG_TEMPERATURES[1] - LOG_TEMPERATURES[0]) * (before - after) / (2 * bend))
