"""Levels and probabilities → confidence, condition and route of each row, as its version's decision says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_engine.scoring.batch import Batch

Pooled = dict[int, npt.NDArray[np.float32]]
"""Place of a row → the vector that the head read, float32 [H]."""


def columns(
    batch: Batch,
    level: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float32],
    pooled: Mapping[int, npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[Any], ...]:
    """Return CONFIDENCE float32 [B, 1], CONDITION and ROUTE object [B, 1]. Rows are decided one by one.

    Args:
        batch: The rows, those that turned out to have no score taken out.
        level: int32 [B, 1].
        probabilities: float32 [B, L_max], NaN beyond a task's levels.
        pooled: Vectors of the rows whose decision needs them, by place.
    """
    confidence = np.full((batch.size, 1), np.nan, dtype=np.float32)
    condition = np.full((batch.size, 1), b"", dtype=np.object_)
    route = np.array([contract.route_without_score(s).encode() for s in batch.status], dtype=np.object_)[:, None]
    for row in batch.admitted:
        place, decider = row.place, row.version.decider
        if decider is None:
            route[place, 0] = contract.MACHINE.encode()
            continue
        own = probabilities[place, : row.version.levels].tolist()
        sure = decider.confidence(own, int(level[place, 0]))
        confidence[place, 0] = sure
        condition[place, 0] = row.condition.code.encode() if row.condition else b""
        route[place, 0] = decider.route(sure, row.condition, row.tokens.truncated, pooled.get(place)).encode()
    for place, (_, found) in batch.coded.items():
        condition[place, 0] = found.code.encode()
    return confidence, condition, route
