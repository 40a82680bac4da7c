"""The seam: what a backbone runner does."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scoremux_engine import backbone as names
from scoremux_engine.tables import DTypes, Tables


class BackboneRunner(Protocol):
    """logits = head(encoder(input_ids, attention_mask), tables)[group]

    overlap: how many calls of `run` may be under way at once, from several threads. streams: how many of them compute
    side by side, so that a small batch is worth splitting. in_place: whether `run` reads tables where they lie, so that
    large ones cost no more than small ones. dtypes: the types it takes tables in.
    precision: what it computes in, by name.
    """

    overlap: int
    streams: int
    in_place: bool
    dtypes: DTypes
    precision: str

    def run(
        self,
        input_ids: npt.NDArray[np.int64],
        attention_mask: npt.NDArray[np.int64],
        group: npt.NDArray[np.int64],
        tables: Tables,
    ) -> npt.NDArray[np.float32]:
        """Return logits float32 [B, L_max] for input_ids and attention_mask int64 [B, S] and group int64 [B].

        A row's logits depend on that row and its group's tables alone, bit for bit.
        """
        ...


def row_feeds(
    input_ids: npt.NDArray[np.int64], attention_mask: npt.NDArray[np.int64], group: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """Return the graph's inputs that differ by micro-batch, under their names; the tables are the others."""
    return {names.INPUT_IDS: input_ids, names.ATTENTION_MASK: attention_mask, names.GROUP: group}
