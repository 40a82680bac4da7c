"""Levels and probabilities → confidence, range, condition and route of each row, as its version's decision says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_engine.scoring.batch import Batch


def columns(
    batch: Batch,
    level: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float32],
    pooled: npt.NDArray[np.float32] | None,
) -> tuple[npt.NDArray[Any], ...]:
    """Return CONFIDENCE float32 [B, 1], CONDITION and ROUTE object [B, 1], LEVEL_RANGE int32 [B, 2].

    Rows are decided one by one.

    Args:
        batch: The rows, those that turned out to have no score taken out.
        level: int32 [B, 1].
        probabilities: float32 [B, L_max], NaN beyond a task's levels.
        pooled: float32 [B, H], the vectors of the rows whose decisions need them at least; None if none does.
    """
    confidence = np.full((batch.size, 1), np.nan, dtype=np.float32)
    condition = np.full((batch.size, 1), b"", dtype=np.object_)
    level_range = np.full((batch.size, 2), contract.NO_RANGE, dtype=np.int32)
    route = np.array([contract.route_without_score(s).encode() for s in batch.status], dtype=np.object_)[:, None]
    for row in batch.admitted:
        place, decider = row.place, row.version.decider
        if decider is None:
            route[place, 0] = contract.MACHINE.encode()
            continue
        own = probabilities[place, : len(row.version.task.levels)].tolist()
        sure, level_range[place] = decider.confidence(own, int(level[place, 0]))
        confidence[place, 0] = sure
        condition[place, 0] = row.condition.code.encode() if row.condition else b""
        vector = None if pooled is None else pooled[place]
        route[place, 0] = decider.route(sure, row.condition, row.tokens.truncated, vector).encode()
    for place, (_, found) in batch.coded.items():
        condition[place, 0] = found.code.encode()
    return confidence, condition, route, level_range
