"""Slots: tables of many task versions side by side, which the graph reads in place."""

from __future__ import annotations

import heapq
import math
import mmap
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import Array, DTypes, SizeClass, Tables, fill, input_shapes


class Pool:
    """`capacity` slots of one size class. `tables`: graph input name → [capacity, …], passed to the graph whole.

    Only address space is reserved; a slot takes memory when it is written and returns it when it is released. A pool
    never moves, so a batch may read its slots while others are written.

    Args:
        backbone: The graph whose inputs the tables are.
        size: R and L_max of every slot.
        dtypes: Types of the tables by graph input name; float32 where absent.
        capacity: Number of slots.

    Raises:
        MemoryError: The address space cannot be reserved.
    """

    def __init__(self, backbone: BackboneSpec, size: SizeClass, dtypes: DTypes, capacity: int) -> None:
        shapes = input_shapes(backbone, size)
        types = {name: dtypes.get(name, np.dtype(np.float32)) for name in shapes}
        self._stamps = np.zeros(capacity, np.int64)
        # Tables of prefixes have no bytes where there is no prefix.
        empty = {n: np.zeros((capacity, *shape), types[n]) for n, shape in shapes.items() if not math.prod(shape)}
        self._pages = {n: PagedArray((capacity, *shape), types[n]) for n, shape in shapes.items() if n not in empty}
        self.tables = Tables({**{name: pages.array for name, pages in self._pages.items()}, **empty}, self._stamps)
        self.slot_bytes: int = sum(array[0].nbytes for array in self.tables.arrays.values())
        self.used_bytes = 0
        """Memory that the slots in use take, in whole pages."""
        self._free = list(range(capacity))  # a heap: low slots first keep the memory in use dense

    @staticmethod
    def bytes_of(backbone: BackboneSpec, size: SizeClass, dtypes: DTypes) -> int:
        """Return the size of one slot of this class."""
        return Pool(backbone, size, dtypes, 1).slot_bytes

    @property
    def next_bytes(self) -> int:
        """Memory that the next slot would take: more than `slot_bytes` where it begins pages, less where it shares."""
        if not self._free:
            return self.slot_bytes
        return sum(pages.unused_bytes(self._free[0]) for pages in self._pages.values())

    def write(self, tables: Mapping[str, Array]) -> int:
        """Write an adapter's tables into a free slot and return it; there must be one."""
        slot = heapq.heappop(self._free)
        self.used_bytes += sum(pages.use(slot) for pages in self._pages.values())
        try:
            for name, array in self.tables.arrays.items():
                fill(array[slot], name, tables.get(name))
            self._stamps[slot] += 1
        except BaseException:
            self.release(slot)
            raise
        return slot

    def release(self, slot: int) -> None:
        """Make a slot free again and return its memory to the kernel."""
        self.used_bytes -= sum(pages.release(slot) for pages in self._pages.values())
        heapq.heappush(self._free, slot)

    def view(self, slot: int) -> dict[str, Array]:
        """Return a slot's tables by graph input name."""
        return {name: array[slot] for name, array in self.tables.arrays.items()}


class PagedArray:
    """An array [capacity, …] whose rows take memory only while they are in use.

    Args:
        shape: Its shape; the first size is the capacity.
        dtype: Its type.

    Raises:
        MemoryError: The address space cannot be reserved.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        size = shape[0] * self._row_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        try:
            self._memory = mmap.mmap(-1, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, flags=flags)
        except (OSError, OverflowError) as error:
            raise MemoryError from error
        # A huge page would take 2 MiB for the first row of every array.
        with suppress(AttributeError, OSError):
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        self.array: Array = np.frombuffer(self._memory, np.uint8, size).view(dtype).reshape(shape)
        self._rows_on = np.zeros(len(self._memory) // mmap.PAGESIZE, np.uint16)

    def unused_bytes(self, row: int) -> int:
        """Return the bytes of the pages of a row that no row uses."""
        return int(np.count_nonzero(self._rows_on[self._pages(row)] == 0)) * mmap.PAGESIZE

    def use(self, row: int) -> int:
        """Note that a row is in use; return the bytes of memory that this adds."""
        added = self.unused_bytes(row)
        self._rows_on[self._pages(row)] += 1
        return added

    def release(self, row: int) -> int:
        """Return the pages that only this row used to the kernel, and how many bytes they are."""
        pages = self._pages(row)
        self._rows_on[pages] -= 1
        # Other rows can share the first page and the last.
        unused = pages.start + np.flatnonzero(self._rows_on[pages] == 0)
        if not len(unused):
            return 0
        size = len(unused) * mmap.PAGESIZE
        self._memory.madvise(mmap.MADV_DONTNEED, int(unused[0]) * mmap.PAGESIZE, size)
        return size

    def _pages(self, row: int) -> slice:
        start = row * self._row_bytes
        return slice(start // mmap.PAGESIZE, -(-(start + self._row_bytes) // mmap.PAGESIZE))
