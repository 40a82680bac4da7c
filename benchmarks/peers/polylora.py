"""polylora: mixed batches in torch. It refuses adapters that were trained with dropout, and has no heads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.adapters import read_all, rewritten
from benchmarks.peers.base import classifier, tensor_bytes
from benchmarks.peers.heads import Heads
from benchmarks.peers.peer import RANK, Floats
from benchmarks.saf import SafRow


class Polylora:
    """Its own wrapper round the encoder, batches of like length."""

    def __init__(self, scratch: str) -> None:
        from polylora import PolyLoraConfig, PolyLoraModel

        adapters = read_all()
        config = PolyLoraConfig(max_gpu_adapters=len(adapters), max_rank=RANK, target_modules=["query", "value"])
        self._model: Any = PolyLoraModel(classifier().bert, config).eval()
        for task, adapter in adapters.items():
            folder = rewritten(adapter, Path(scratch) / "polylora", config={"lora_dropout": 0.0}, head=False)
            self._model.load_adapter_from_disk(task, str(folder))
        self._heads = Heads(adapters)
        self._bytes = tensor_bytes(self._model) + sum(adapter.nbytes() for adapter in adapters.values())
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        import torch

        ids = self._tokens.of(rows)
        parts = batches.by_length([len(i) for i in ids])

        def run(number: int) -> Floats:
            part = parts[number]
            tasks = [rows[i].task for i in part]
            array, mask = map(torch.from_numpy, batches.padded([ids[i] for i in part]))
            with torch.inference_mode():
                pooled = self._model(input_ids=array, attention_mask=mask, adapter_ids=tasks).pooler_output
            return self._heads.of(np.asarray(pooled.numpy()), tasks)

        return batches.scattered(len(rows), parts, run)

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None: ...
