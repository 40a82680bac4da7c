"""latefuse: mixed batches in torch, every batch of one shape. Its loader wants the keys of an encoder alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.adapters import PREFIX, read_all, rewritten
from benchmarks.peers.base import tensor_bytes
from benchmarks.peers.peer import RANK, Floats
from benchmarks.saf import SafRow, minilm

RENAME = {f"{PREFIX}bert.encoder.": f"{PREFIX}encoder."}
"""A SEQ_CLS adapter's keys name the encoder inside the classifier; latefuse wants those of an encoder alone."""


class Latefuse:
    """One pipeline for every length in `lengths`, with weights of its own; a row goes to the shortest that holds it.

    rows: what every batch is filled up to. Rows longer than the longest are truncated.
    """

    def __init__(self, scratch: str, lengths: Sequence[int], rows: int) -> None:
        from latefuse import MultiTenantClassifier

        adapters = read_all()
        folders = {
            task: rewritten(adapter, Path(scratch) / "latefuse", config={}, rename=RENAME, head=False)
            for task, adapter in adapters.items()
        }
        self._pipelines: dict[int, Any] = {}
        for length in lengths:
            made: Any = MultiTenantClassifier.from_pretrained(
                str(minilm()), lora_rank=RANK, batch_size=rows, max_seq_len=length
            )
            for task, adapter in adapters.items():
                made.register_adapter(task, str(folders[task]))
                made.heads.load(task, *adapter.head())
            self._pipelines[length] = made
        first = self._pipelines[lengths[0]]
        self._bytes: int = tensor_bytes(first.model) + first.store.memory_bytes() + first.heads.memory_bytes()
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        lengths = sorted(self._pipelines)
        needed = [len(ids) for ids in self._tokens.of(rows)]
        fits = [next((length for length in lengths if length >= tokens), lengths[-1]) for tokens in needed]
        parts = [[i for i, fit in enumerate(fits) if fit == length] for length in lengths]

        def run(number: int) -> Floats:
            part = parts[number]
            if not part:
                return np.empty((0, 5), dtype=np.float32)
            pipeline = self._pipelines[lengths[number]]
            found = pipeline.logits([rows[i].text for i in part], [rows[i].task for i in part])
            return np.asarray(found, dtype=np.float32)

        return batches.scattered(len(rows), parts, run)

    def weights_bytes(self) -> int:
        return self._bytes * len(self._pipelines)

    def close(self) -> None: ...
