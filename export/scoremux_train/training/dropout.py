"""Dropout whose masks depend on the table, the epoch and the row alone, not on the batch a row is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from scoremux_train.recipe import derived_key
from scoremux_train.training.batches import StepRow

_STEPS = 256
"""Rates are rounded to multiples of 1/256: one random byte an element."""


class RowDropout:
    """Draws masks, 0 or 1 / (1 − rate), in the same order in every forward pass.

    A row draws D bytes for each of its own tokens at each call; what is padded gets none.
    """

    def __init__(self, rows: Sequence[StepRow], step: int) -> None:
        keys = [derived_key(row.of.seed, row.of.name, "dropout", step, row.example.key) for row in rows]
        self._drawers = [np.random.Philox(key=key) for key in keys]
        self._dropped = [round(row.of.recipe.dropout * _STEPS) for row in rows]

    def mask(self, spans: Sequence[tuple[int, int]], x: torch.Tensor) -> torch.Tensor:
        """Return a mask for x float [M, D], float32. spans: the places of each row in x."""
        drawn = np.zeros(x.shape, np.uint8)
        for (start, stop), drawer in zip(spans, self._drawers, strict=True):
            part = drawn[start:stop].reshape(-1)
            part[:] = drawer.random_raw(-(-part.size // 8)).view(np.uint8)[: part.size]
        mask = np.zeros(x.shape, np.float32)
        if len(set(self._dropped)) == 1:
            dropped = self._dropped[0]
            np.multiply(drawn >= dropped, np.float32(_STEPS / (_STEPS - dropped)), out=mask)
        else:
            for (start, stop), dropped in zip(spans, self._dropped, strict=True):
                scale = np.float32(_STEPS / (_STEPS - dropped))
                np.multiply(drawn[start:stop] >= dropped, scale, out=mask[start:stop])
        return torch.from_numpy(mask)
