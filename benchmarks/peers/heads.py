"""Heads for peers that stop at the pooled representation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.peers.adapters import Adapter
from benchmarks.peers.peer import Floats


class Heads:
    """The 27 heads, stacked."""

    def __init__(self, adapters: Mapping[str, Adapter]) -> None:
        pairs = [adapter.head() for adapter in adapters.values()]
        self._weight = np.stack([weight for weight, _ in pairs])
        self._bias = np.stack([bias for _, bias in pairs])
        self._slot = {task: slot for slot, task in enumerate(adapters)}

    def of(self, pooled: Floats, tasks: Sequence[str]) -> Floats:
        """logits[i] = pooled[i] @ W[task[i]].T + b[task[i]]: float32 [B, H] → [B, 5]."""
        slots = [self._slot[task] for task in tasks]
        logits: Floats = np.einsum("bh,blh->bl", pooled, self._weight[slots]) + self._bias[slots]
        return logits


class Pooler:
    """BERT's pooler in numpy: tanh(x @ W.T + b) of the first token's state."""

    def __init__(self, weight: Floats, bias: Floats) -> None:
        self._weight, self._bias = weight, bias

    def of(self, first: Floats) -> Floats:
        """float32 [B, H] → [B, H]."""
        pooled: Floats = np.tanh(first @ self._weight.T + self._bias)
        return pooled
