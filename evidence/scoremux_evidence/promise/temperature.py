"""Temperatures: one a task, shrunk to that of all tasks together; rows have the columns of `scored.as_columns`."""

from collections.abc import Mapping, Sequence

import numpy as np

from scoremux_decide.decision import NONE, OWN, POOLED, Temperature
from scoremux_evidence.rows.similar_texts import connected_rows
from scoremux_evidence.rows.table import Floats, Rows

_LOGS = np.linspace(np.log(0.1), np.log(10.0), 47)
"""Logarithms of the temperatures at which the loss is computed; between them it is taken for a parabola."""

_FOLDS = 5
_SPREAD = 0.3
"""Standard deviation of tasks' temperatures around the pooled one, on a log scale."""


Change = tuple[float, float, float]
"""A change of the Brier score, with its 95 % interval."""


def temperatures_of(
    tasks: Mapping[str, Rows],
) -> tuple[dict[str, Temperature], dict[str, Floats], dict[str, Change]]:
    """Return the temperature of each task; those of its rows that the row's own label has no part in; and worse tasks.

    A task is worse where a temperature makes its confidences worse on held-out rows; it keeps a temperature of 1.
    """
    pooled, values = fit_temperatures([*tasks.values()])
    held_out = dict(zip(tasks, held_out_temperatures([*tasks.values()]), strict=True))
    changes = changes_of_brier(tasks, held_out)
    worse = {name: change for name, change in changes.items() if change[1] > 0}
    temperatures = {}
    for (name, rows), value in zip(tasks.items(), values, strict=True):
        temperatures[name] = Temperature(value, OWN, len(rows)) if len(rows) else Temperature(pooled, POOLED, 0)
        if name in worse:
            temperatures[name] = Temperature(1.0, NONE, len(rows))
            held_out[name] = np.ones(len(rows))
    return temperatures, held_out, worse


def fit_temperatures(tasks: Sequence[Rows]) -> tuple[float, list[float]]:
    """Return the temperature of all rows together, and each task's own.

    T = argmin NLL(human | p^(1/T)) + (log T − log T_pooled)² / 2σ²; a task with few rows stays near the pooled one.
    """
    return _fit([_weighted(rows).sum(axis=0) for rows in tasks])


def held_out_temperatures(tasks: Sequence[Rows]) -> list[Floats]:
    """Return a temperature for each row of each task, fitted without its student's rows and without equal texts."""
    temperatures = [np.ones(len(rows)) for rows in tasks]
    # Rows of one student, and equal texts, are in the same fold.
    folds = [connected_rows([rows.student, rows.text]) % _FOLDS for rows in tasks]
    losses = [_weighted(rows) for rows in tasks]
    totals = [loss.sum(axis=0) for loss in losses]
    for fold in range(_FOLDS):
        parts = zip(totals, losses, folds, strict=True)
        rest = [total - loss[of_task == fold].sum(axis=0) for total, loss, of_task in parts]
        for of_rows, of_task, value in zip(temperatures, folds, _fit(rest)[1], strict=True):
            of_rows[of_task == fold] = value
    return temperatures


def at_temperature(rows: Rows, temperature: float | Floats) -> Floats:
    """Return calibrated probabilities, float64 [B, L]: those of the scorer, but for last bits.

    temperature: of all rows, or of each.
    """
    scaled = rows.probabilities ** (1 / np.broadcast_to(temperature, len(rows)))[:, None]
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def _losses(rows: Rows) -> Floats:
    """Return the negative log-likelihood of each row's human level at each of `_LOGS`, float64 [B, T]."""
    logs = np.log(np.maximum(rows.probabilities, np.finfo(np.float32).tiny))
    logs -= logs.max(axis=1, keepdims=True, initial=-np.inf)
    of_human = logs[np.arange(len(rows)), rows.human]
    losses = []
    for power in np.exp(-_LOGS):
        total = np.exp(logs * power).sum(axis=1)
        losses.append(np.log(total) - power * of_human)
    return np.stack(losses, axis=1)


def _weighted(rows: Rows) -> Floats:
    """Return losses whose weights add up to the number of rows of equal weight that tell as much (Kish)."""
    weight = rows.weight
    return np.asarray(_losses(rows) * (weight * weight.sum() / max((weight**2).sum(), 1e-300))[:, None])


def _fit(losses: Sequence[Floats]) -> tuple[float, list[float]]:
    pooled = _lowest(np.sum(losses, axis=0)) if np.any(losses) else 0.0
    by_task = [_lowest(loss + ((_LOGS - pooled) / _SPREAD) ** 2 / 2) for loss in losses]
    return round(float(np.exp(pooled)), 6), [round(float(np.exp(log)), 6) for log in by_task]


def _lowest(loss: Floats) -> float:
    """Return the logarithm of the temperature at which the loss is lowest."""
    place = int(loss.argmin())
    if not 0 < place < len(loss) - 1:
        return float(_LOGS[place])
    before, here, after = loss[place - 1 : place + 2]
    bend = before - 2 * here + after
    return float(_LOGS[place] + (_LOGS[1] - _LOGS[0]) * (before - after) / (2 * bend))


def changes_of_brier(tasks: Mapping[str, Rows], held_out: Mapping[str, Floats]) -> dict[str, Change]:
    """Return how temperatures change the Brier score of confidences on rows that they were not fitted to, by task.

    Mean of (confidence − right)² with the temperature minus that without, and its 95 % interval: above 0 is worse.
    """
    changes = {}
    for name, rows in tasks.items():
        right = rows.machine == rows.human
        place = np.arange(len(rows))
        after, before = (at_temperature(rows, value)[place, rows.machine] for value in (held_out[name], 1.0))
        change = (after - right) ** 2 - (before - right) ** 2
        weight = rows.weight / max(rows.weight.sum(), 1e-300)
        mean = float((weight * change).sum())
        half = 1.96 * float(np.sqrt((weight**2 * (change - mean) ** 2).sum()))
        changes[name] = (mean, mean - half, mean + half)
    return changes
