"""Slots: tables of many task versions side by side, which the graph reads in place."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import numpy as np

from scoremux_engine.backbone import BackboneSpec
from scoremux_engine.tables import Array, DTypes, SizeClass, Tables, fill, input_shapes


class Pool:
    """`capacity` slots of one size class. `tables`: graph input name → [capacity, …], handed to the graph whole.

    The address space is reserved at once and memory is used as slots are written, so a pool never moves: a batch may
    read its slots while others are being written.
    """

    def __init__(self, backbone: BackboneSpec, size: SizeClass, dtypes: DTypes, capacity: int) -> None:
        shapes = input_shapes(backbone, size)
        # numpy's zeros are pages that the kernel hands out when they are written.
        self.tables = Tables(
            {n: np.zeros((capacity, *shape), dtype=dtypes.get(n, np.dtype(np.float32))) for n, shape in shapes.items()}
        )
        self.slot_bytes: int = sum(array[0].nbytes for array in self.tables.arrays.values())
        self._free = list(range(capacity))  # a heap: low slots first keep the memory in use dense

    @staticmethod
    def bytes_of(backbone: BackboneSpec, size: SizeClass, dtypes: DTypes) -> int:
        """Return what one slot of this class takes."""
        return Pool(backbone, size, dtypes, 1).slot_bytes

    def take(self, tables: Mapping[str, Array]) -> int:
        """Write an adapter's tables into a free slot and return it; there must be one."""
        slot = heapq.heappop(self._free)
        for name, array in self.tables.arrays.items():
            fill(array[slot], name, tables.get(name))
        return slot

    def give_back(self, slot: int) -> None:
        """Make a slot free again."""
        heapq.heappush(self._free, slot)

    def view(self, slot: int) -> dict[str, Array]:
        """Return a slot's tables by graph input name."""
        return {name: array[slot] for name, array in self.tables.arrays.items()}
