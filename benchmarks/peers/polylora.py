"""polylora: mixed batches in torch. It refuses adapters that were trained with dropout, and has no heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled
from benchmarks.peers import batches
from benchmarks.peers.adapters import Heads, read_all
from benchmarks.peers.base import LIBRARY, RANK, Batched, Peer, classifier, tensor_bytes

PEERS = (
    Peer(
        "polylora",
        "polylora:Polylora",
        requirements=("polylora==0.1.1",),
        cannot=f"{LIBRARY}; no heads; refuses adapters trained with dropout; its kernels need CUDA",
    ),
)


class Polylora(Batched):
    """Its own wrapper round the encoder, batches of like length."""

    def __init__(self, scratch: str) -> None:
        from polylora import PolyLoraConfig, PolyLoraModel

        super().__init__()
        adapters = read_all()
        config = PolyLoraConfig(max_gpu_adapters=len(adapters), max_rank=RANK, target_modules=["query", "value"])
        self._model: Any = PolyLoraModel(classifier().bert, config).eval()
        for task, adapter in adapters.items():
            folder = adapter.rewritten(Path(scratch) / "polylora", lora_dropout=0.0)
            self._model.load_adapter_from_disk(task, str(folder))
        self._heads = Heads(adapters)
        self.weights = tensor_bytes(self._model) + sum(adapter.nbytes() for adapter in adapters.values())

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:  # noqa: ARG002
        return batches.by_length([len(i) for i in ids])

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        import torch

        array, mask = map(torch.from_numpy, batches.padded(ids))
        with torch.inference_mode():
            pooled = self._model(input_ids=array, attention_mask=mask, adapter_ids=list(tasks)).pooler_output
        return self._heads.of(np.asarray(pooled.numpy()), tasks)
