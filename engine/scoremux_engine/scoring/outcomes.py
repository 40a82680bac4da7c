"""Levels → the wire's output tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.batch import AdmittedRow, Batch
from scoremux_engine.scoring.levels import decide, nearest

Columns = dict[str, npt.NDArray[Any]]


def columns(batch: Batch, out: Outputs, *, embeddings: bool = False) -> Columns:
    """Return every output tensor by name, batch dimension first (see `scoremux_client.contract`).

    out: NaN in rows without a score; with `embeddings`, EMBEDDING is among the tensors. An admitted row whose logits
    are not finite gets a status: its largest logit would be no score.
    """
    logits = out.logits
    broken = {r.place for r in batch.admitted if not np.isfinite(logits[r.place, : r.version.outputs]).all()}
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
    for (levels, outputs), members in _by_width(batch.admitted).items():
        places = [row.place for row in members]
        points = np.array([row.version.task.levels for row in members])
        if outputs == 1:
            level[places, 0] = nearest(logits[places, 0], points)
        else:
            decided = decide(logits[places, :levels])
            level[places, 0], probabilities[places, :levels] = decided.level, decided.probabilities
        score[places, 0] = points[np.arange(len(places)), level[places, 0]]
    confidence = np.full((size, 1), np.nan, dtype=np.float32)
    condition = np.full((size, 1), b"", dtype=np.object_)
    route = np.array([contract.route_without_score(s).encode() for s in batch.status], dtype=np.object_)[:, None]
    level_range = np.full((size, 2), contract.NO_RANGE, dtype=np.int32)
    for row in batch.admitted:
        place = row.place
        version[place, 0] = row.version.digest.encode()
        tokens[place, 0], truncated[place, 0] = len(row.tokens.ids), row.tokens.truncated
        decision = row.version.decider.decide(
            int(level[place, 0]),
            probabilities[place, : len(row.version.task.levels)].tolist(),
            row.condition,
            row.tokens.truncated,
            None if out.pooled is None else out.pooled[place],
        )
        confidence[place, 0], level_range[place] = decision.confidence, decision.level_range
        condition[place, 0], route[place, 0] = decision.condition.encode(), decision.route.encode()
    for place, (coding, found) in batch.coded.items():
        version[place, 0], condition[place, 0] = coding.digest.encode(), found.code.encode()
    scores = (status, level, score, probabilities, version, tokens, truncated)
    values: tuple[Any, ...] = (*scores, confidence, condition, route, level_range)
    embedding = {contract.EMBEDDING.name: out.pooled} if embeddings and out.pooled is not None else {}
    return {**{spec.name: value for spec, value in zip(contract.OUTPUTS, values, strict=True)}, **embedding}


def _by_width(admitted: list[AdmittedRow]) -> dict[tuple[int, int], list[AdmittedRow]]:
    """Return the rows by their task's number of levels and their head's number of outputs."""
    by_width: dict[tuple[int, int], list[AdmittedRow]] = {}
    for row in admitted:
        by_width.setdefault((len(row.version.task.levels), row.version.outputs), []).append(row)
    return by_width
