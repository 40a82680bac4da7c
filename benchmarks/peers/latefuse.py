"""latefuse: mixed batches in torch, every batch of one shape. Its loader wants the keys of an encoder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled, minilm
from benchmarks.peers import batches
from benchmarks.peers.adapters import ENCODER_ALONE, read_all
from benchmarks.peers.base import LIBRARY, RANK, Batched, Peer, tensor_bytes

KEYS = "SEQ_CLS keys must be renamed; transformers 4"
PEERS = (
    Peer(
        "latefuse, 128 tokens",
        "latefuse:Latefuse",
        {"lengths": [128], "batch_rows": 32},
        ("latefuse==0.1.0",),
        cannot=f"{LIBRARY}; texts longer than its one shape; {KEYS}",
        default=True,
        rounds=1,
    ),
    Peer(
        "latefuse, a pipeline a length",
        "latefuse:Latefuse",
        {"lengths": [32, 64, 96, 128, 192, 256, 384, 512], "batch_rows": 16},
        ("latefuse==0.1.0",),
        cannot=f"{LIBRARY}; one shape and rank a pipeline; {KEYS}",
        rounds=1,
    ),
)


class Latefuse(Batched):
    """One pipeline for every length in `lengths`, with weights of its own; a row goes to the shortest that holds it.

    batch_rows: what every batch is filled up to. Rows longer than the longest are truncated.
    """

    def __init__(self, scratch: str, lengths: Sequence[int], batch_rows: int) -> None:
        from latefuse import MultiTenantClassifier

        super().__init__()
        adapters = read_all()
        folders = {t: str(a.rewritten(Path(scratch) / "latefuse", ENCODER_ALONE)) for t, a in adapters.items()}
        self._pipelines: dict[int, Any] = {}
        for length in lengths:
            made: Any = MultiTenantClassifier.from_pretrained(
                str(minilm()), lora_rank=RANK, batch_size=batch_rows, max_seq_len=length
            )
            for task, adapter in adapters.items():
                made.register_adapter(task, folders[task])
                made.heads.load(task, *adapter.head())
            self._pipelines[length] = made
        first = self._pipelines[lengths[0]]
        one = tensor_bytes(first.model) + first.store.memory_bytes() + first.heads.memory_bytes()
        self.weights = one * len(lengths)

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        lengths = sorted(self._pipelines)
        needed = [len(ids) for ids in self.tokens.of(rows)]
        fits = [next((length for length in lengths if length >= tokens), lengths[-1]) for tokens in needed]
        parts = [[i for i, fit in enumerate(fits) if fit == length] for length in lengths if length in fits]

        def run(part: list[int]) -> Floats:
            pipeline = self._pipelines[fits[part[0]]]
            found = pipeline.logits([rows[i].text for i in part], [rows[i].task for i in part])
            return np.asarray(found, dtype=np.float32)

        return batches.scattered(len(rows), parts, run)
