"""Levels → the wire's output tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_engine.scoring import decisions
from scoremux_engine.scoring.batch import AdmittedRow, Batch
from scoremux_engine.scoring.decisions import Pooled
from scoremux_engine.scoring.levels import decide

Columns = dict[str, npt.NDArray[Any]]


def columns(batch: Batch, logits: npt.NDArray[np.float32], pooled: Pooled | None = None) -> Columns:
    """Return every output tensor by name, batch dimension first (see `scoremux_client.contract`).

    logits float32 [B, L_max], NaN in rows without a score. An admitted row whose logits are not finite gets a status:
    its largest logit would be no score. pooled: the vectors of the rows whose decision needs them, by place.
    """
    broken = {r.place for r in batch.admitted if not np.isfinite(logits[r.place, : r.version.levels]).all()}
    if broken:
        batch = batch.without(broken, Status.NOT_FINITE)
    size = batch.size
    status = np.array([s.value.encode() for s in batch.status], dtype=np.object_).reshape(size, 1)
    level = np.full((size, 1), -1, dtype=np.int32)
    score = np.full((size, 1), np.nan, dtype=np.float32)
    probabilities = np.full(logits.shape, np.nan, dtype=np.float32)
    version = np.full((size, 1), b"", dtype=np.object_)
    tokens = np.zeros((size, 1), dtype=np.int32)
    truncated = np.zeros((size, 1), dtype=np.bool_)
    for width, members in _by_levels(batch.admitted).items():
        places = [row.place for row in members]
        decided = decide(logits[places, :width])
        level[places, 0] = decided.level
        score[places, 0] = [r.version.task.levels[lv] for r, lv in zip(members, decided.level, strict=True)]
        probabilities[places, :width] = decided.probabilities
    for row in batch.admitted:
        version[row.place, 0] = row.version.digest.encode()
        tokens[row.place, 0], truncated[row.place, 0] = len(row.tokens.ids), row.tokens.truncated
    routing = decisions.columns(batch, level, probabilities, pooled or {})
    for place, (coding, _) in batch.coded.items():
        version[place, 0] = coding.digest.encode()
    values = (status, level, score, probabilities, version, tokens, truncated, *routing)
    return {spec.name: value for spec, value in zip(contract.OUTPUTS, values, strict=True)}


def _by_levels(admitted: list[AdmittedRow]) -> dict[int, list[AdmittedRow]]:
    by_levels: dict[int, list[AdmittedRow]] = {}
    for row in admitted:
        by_levels.setdefault(row.version.levels, []).append(row)
    return by_levels
