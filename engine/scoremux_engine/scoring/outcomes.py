"""Levels → the wire's output tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring import routes
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
    for row in batch.admitted:
        version[row.place, 0] = row.version.digest.encode()
        tokens[row.place, 0], truncated[row.place, 0] = len(row.tokens.ids), row.tokens.truncated
    routing = routes.columns(batch, level, probabilities, out.pooled)
    for place, (coding, _) in batch.coded.items():
        version[place, 0] = coding.digest.encode()
    values = (status, level, score, probabilities, version, tokens, truncated, *routing)
    embedding = {contract.EMBEDDING.name: out.pooled} if embeddings and out.pooled is not None else {}
    return {**{spec.name: value for spec, value in zip(contract.OUTPUTS, values, strict=True)}, **embedding}


def _by_width(admitted: list[AdmittedRow]) -> dict[tuple[int, int], list[AdmittedRow]]:
    """Return the rows by their task's number of levels and their head's number of outputs."""
    by_width: dict[tuple[int, int], list[AdmittedRow]] = {}
    for row in admitted:
        by_width.setdefault((len(row.version.task.levels), row.version.outputs), []).append(row)
    return by_width
