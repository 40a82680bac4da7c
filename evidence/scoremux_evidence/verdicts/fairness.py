"""How much of the machine's error a group of students explains: RSMTool's OSA, OSD and CSD, and a fourth figure.

OSA, OSD and CSD (Loukina, Madnani and Zechner 2019) are adjusted R² of linear models of the error, machine minus human:
of its square by group; of itself by group; and of itself by group beyond the human's level. A bias that is positive at
low levels and negative at high ones is in none of them: `crossing` is the share that the interaction of group and level
explains beyond both.
"""

from typing import NamedTuple

import numpy as np

from scoremux_evidence.rows.table import Floats, Ints, Rows


class Fairness(NamedTuple):
    """The figures of a column of groups.

    Attributes:
        column: A column of the truth.
        task: A place among the tasks, −1 for all rows.
        figures: `osa`, `osd`, `csd` and `crossing`; NaN where they are not defined.
        rows: Rows in some group.
    """

    column: str
    task: int
    figures: dict[str, float]
    rows: int


def explained(ratings: Rows, group: Ints) -> dict[str, float]:
    """Return the figures of rows of one cell, all of which are in some group."""
    rows = float(ratings.times.sum())
    weight = ratings.times * ratings.weight
    weight = weight * (rows / weight.sum())
    error = ratings.machine - ratings.human
    groups = _indicators(group)
    levels = _indicators(ratings.human)
    both = (levels[:, :, None] * groups[:, None, :]).reshape(len(group), -1)
    by_level = _adjusted_r2(error, levels, weight, rows)
    additive = _adjusted_r2(error, np.hstack([groups, levels]), weight, rows)
    return {
        "osa": _adjusted_r2(error**2, groups, weight, rows),
        "osd": _adjusted_r2(error, groups, weight, rows),
        "csd": additive - by_level,
        "crossing": _adjusted_r2(error, both, weight, rows) - additive,
    }


def _indicators(column: Floats | Ints) -> Floats:
    """Return float64 [B, K]: 1 where a row has each of the K values."""
    return np.asarray(column[:, None] == np.unique(column)[None, :], np.float64)


def _adjusted_r2(y: Floats, design: Floats, weight: Floats, rows: float) -> float:
    """Return 1 − (residual / (n − rank)) / (total / (n − 1)) of a weighted linear model, NaN where that is 0 / 0."""
    root = np.sqrt(weight)
    coefficients, _, rank, _ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
    mean = (weight * y).sum() / rows
    total = float((weight * (y - mean) ** 2).sum())
    squares = float((weight * y * y).sum())
    if rows <= rank or total <= 1e-12 * max(1.0, squares):
        return float("nan")
    residual = float((weight * (y - design @ coefficients) ** 2).sum())
    return float(1 - (residual / (rows - rank)) / (total / (rows - 1)))
