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
    """x · mask / (1 − rate) for x float [B, S, D]; called in the same order in every forward pass.

    A row draws S·D bytes for its own tokens at each call; what is padded gets none.
    """

    def __init__(self, rows: Sequence[StepRow], step: int) -> None:
        self._rows = rows
        keys = [derived_key(row.of.seed, row.of.name, "dropout", step, row.example.key) for row in rows]
        self._drawers = [np.random.Philox(key=key) for key in keys]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mask = np.zeros((len(self._rows), *x.shape[1:]), np.float32)
        by_token = x.dim() == 3 and x.shape[0] == len(self._rows)  # some models hand over what all rows share
        for i, (row, drawer) in enumerate(zip(self._rows, self._drawers, strict=True)):
            dropped = round(row.of.recipe.dropout * _STEPS)
            part = mask[i, : len(row.tokens)] if by_token else mask[i]
            drawn = drawer.random_raw(-(-part.size // 8)).view(np.uint8)[: part.size].reshape(part.shape)
            np.multiply(drawn >= dropped, np.float32(_STEPS / (_STEPS - dropped)), out=part)
        return x * torch.from_numpy(mask).to(x.device, x.dtype)
