"""Rows that are unlike the labelled rows of a task: how far a row's vector is from all of its levels' centres."""

import numpy as np
import numpy.typing as npt

from scoremux_decide.decision import Unusual
from scoremux_evidence.rows.table import Floats, Ints

_MOST_CENTRES = 16
"""With more levels than this, one centre serves all, so that `decision.json` stays small."""
_DIGITS = 6
"""Significant digits of numbers in `decision.json`."""
_SHRINKAGE = 0.3
"""How far the variances of dimensions are drawn towards their mean: with few rows they are uncertain."""


def fit_unusual(pooled: npt.NDArray[np.float32], level: Ints, quantile: float) -> Unusual | None:
    """Return centres, weights and the `quantile` of rows' distances to them; None for fewer than two rows.

    weight = 1 / (H · shrunk variance around the centres): the distance is Mahalanobis' with a diagonal covariance that
    is drawn towards its mean. The limit is taken from distances to centres computed without the row itself.

    Args:
        pooled: The vectors that the head read, float32 [B, H].
        level: The machine's, int64 [B]; levels with fewer than two rows have no centre.
        quantile: The share of rows that is not unusual.
    """
    vectors = pooled.astype(np.float64)
    if len(vectors) < 2:
        return None
    groups = [np.flatnonzero(level == value) for value in np.unique(level)]
    groups = [rows for rows in groups if len(rows) > 1]
    if not groups or len(groups) > _MOST_CENTRES:
        groups = [np.arange(len(vectors))]
    centres = np.array([vectors[rows].mean(axis=0) for rows in groups])
    within = np.concatenate([vectors[rows] - centre for rows, centre in zip(groups, centres, strict=True)])
    variance = within.var(axis=0) * len(within) / max(1, len(within) - len(groups))
    shrunk = (1 - _SHRINKAGE) * variance + _SHRINKAGE * variance.mean()
    weights = _rounded(1 / (len(shrunk) * np.maximum(shrunk, 1e-12)))
    centres = _rounded(centres)
    distances = []
    for centre, rows in zip(centres, groups, strict=True):
        differences = vectors - centre
        differences[rows] *= len(rows) / (len(rows) - 1)  # x − c' = (x − c) · n / (n − 1), c' without the row
        distances.append((differences * differences * weights).sum(axis=1))
    limit = float(np.quantile(np.min(distances, axis=0), quantile, method="higher"))
    return Unusual(float(_rounded(np.array([limit]))[0]), quantile, len(vectors), centres, weights)


def _rounded(values: Floats) -> Floats:
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.ravel()]).reshape(values.shape)
