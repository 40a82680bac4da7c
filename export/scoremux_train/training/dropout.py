"""Dropout whose masks depend on the table, the epoch and the row alone, not on the batch a row is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_STEPS = 256
"""Rates are rounded to multiples of 1/256: one random byte an element."""


@dataclass(frozen=True)
class Drawn:
    """What a row's masks are drawn from: 64 bits, how many tokens it has, and its dropout rate."""

    key: int
    tokens: int
    rate: float


class RowDropout:
    """x · mask / (1 − rate) for x float [B, S, D]; called in the same order in every forward pass.

    A row draws S·D bytes for its own tokens at each call; what is padded gets none.
    """

    def __init__(self, rows: Sequence[Drawn]) -> None:
        self._rows = rows
        self._drawers = [np.random.Philox(key=row.key) for row in rows]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mask = np.zeros((len(self._rows), *x.shape[1:]), np.float32)
        by_token = x.dim() == 3 and x.shape[0] == len(self._rows)  # some models hand over what all rows share
        for i, (row, drawer) in enumerate(zip(self._rows, self._drawers, strict=True)):
            dropped = round(row.rate * _STEPS)
            own = mask[i, : row.tokens] if by_token else mask[i]
            count = own.size
            drawn = drawer.random_raw(-(-count // 8)).view(np.uint8)[:count].reshape(own.shape)
            np.multiply(drawn >= dropped, np.float32(_STEPS / (_STEPS - dropped)), out=own)
        return x * torch.from_numpy(mask).to(x.device, x.dtype)
