"""Logits → level, score, probabilities. Every step is per row, so a row's bits do not depend on its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Levels:
    """level int32 [B], probabilities float32 [B, L]."""

    level: npt.NDArray[np.int32]
    probabilities: npt.NDArray[np.float32]


def nearest(values: npt.NDArray[np.float32], points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """level[b] = argmin |points[b] − value[b]|, the lower level on a tie.

    values float32 [B], what heads with one output gave; points float64 [B, L], ascending: of tasks that all have L
    levels.
    """
    closest: npt.NDArray[np.int64] = np.abs(points - values.astype(np.float64)[:, None]).argmin(axis=1)
    return closest.astype(np.int32)


def decide(logits: npt.NDArray[np.float32]) -> Levels:
    """level = argmax(logits), the lower level on a tie; p[i] = exp(z[i] − max z) / Σ exp(z − max z).

    logits float32 [B, L], of tasks that all have L levels: the sum runs over a row's own levels only, one after the
    other in float64, whatever the widest task beside it is.
    """
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    total = powers[:, 0].copy()
    for column in powers.T[1:]:
        total += column
    level = logits.argmax(axis=1).astype(np.int32)
    return Levels(level, (powers / total[:, None]).astype(np.float32))
