"""Rows scored in this process with their vectors, those of tasks without an adapter with the backbone's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scoremux_client.contract import Status
from scoremux_client.rows import Response, Scored
from scoremux_engine.engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import size_class, stack
from scoremux_engine.runners.choose import choice_of
from scoremux_engine.runners.runner import BackboneRunner, Floats
from scoremux_engine.scoring.computation import pad
from scoremux_engine.store.store import Store
from scoremux_files.rows.readers import chunks

_ROWS, _TOKENS = 1024, 2048


def open_scorer(repository: Path) -> Callable[[Sequence[Response]], list[Scored]]:
    """Return what scores rows with a repository's backbone and live tasks; the store may be missing.

    Raises:
        BackboneError, RunnerError, StoreError: One of them cannot be opened.
    """
    backbone = Backbone.open(repository / "backbone" / "1")
    runner = choice_of(repository).make(backbone)
    store = Store(repository / "store")
    engine = Engine(backbone, store, runner) if store.stamp() else None

    def score(rows: Sequence[Response]) -> list[Scored]:
        texts, scored = [_text(row.text) for row in rows], list[Scored]()
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            if engine is not None:
                scored += engine.score_plainly(texts[part], [row.task for row in rows[part]], embeddings=True)
            else:
                scored += [Scored.without_score(row, Status.UNKNOWN_TASK) for row in rows[part]]
        cold = [n for n, outcome in enumerate(scored) if outcome.status is Status.UNKNOWN_TASK]
        vectors = backbone_vectors(backbone, runner, [texts[n] for n in cold])
        for n, vector in zip(cold, vectors, strict=True):
            scored[n] = replace(scored[n], embedding=vector)
        return scored

    return score


def backbone_vectors(backbone: Backbone, runner: BackboneRunner, texts: Sequence[str]) -> Floats:
    """Return the vectors that a head would read of responses alone, without an adapter: float32 [B, H]."""
    spec = backbone.spec
    tables = stack([{}], spec, size_class({}, 2), runner.dtypes).bare
    tokens = backbone.tokenizer.encode(texts)
    vectors = np.zeros((len(tokens), spec.pooled_size), np.float32)
    places_of: dict[int, list[int]] = {}
    for place, row in enumerate(tokens):
        places_of.setdefault(backbone.buckets.of(max(1, len(row.ids))), []).append(place)
    for bucket, places in places_of.items():
        for part in chunks(places, max(1, _TOKENS // bucket)):
            rows = pad([tokens[place] for place in part], np.zeros(len(part), np.int64), bucket, spec)
            vectors[part] = runner.run(rows, tables, pooled=True).pooled
    return vectors


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "replace")
