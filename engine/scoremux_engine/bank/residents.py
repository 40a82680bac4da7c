"""The versions in memory: the slots that hold their tables, least recently used first, within a budget of bytes."""

import heapq
import math
import mmap
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scoremux_decide.apply import UNDECIDED, Decider
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.tables import Array, DTypes, Tables, fill, input_shapes, size_class
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.task import Task

_NO_RESERVE = 0x4000
"""MAP_NORESERVE of Linux, which Python 3.12 and older do not name: without it, a process of some banks cannot fork."""


@dataclass(frozen=True, eq=False)
class Version:
    """A task version in memory: its tables are in a slot of a pool, or in `own_tables` where no slot was free.

    Attributes:
        outputs: How many numbers the head gives: a logit for each level, or one value in points.
        prefix: The token ids whose keys and values are among the tables; empty without a prefix.
        whole: The version of the item, where this is one of its traits or their total; first: the place of the first
            logit that it reads.
    """

    task: Task
    digest: str
    size: SizeClass
    outputs: int
    pool: "Pool | None" = None
    slot: int = 0
    own_tables: Mapping[str, Array] | None = None
    decider: Decider = UNDECIDED
    prefix: tuple[int, ...] = ()
    whole: "Version | None" = None
    first: int = 0

    def trait(self, name: str) -> "Version | None":
        """Return a trait of the item, or the total, as a version of its own."""
        if name not in self.task.slices:
            return None
        task, first, end = self.task.slices[name]
        decider = self.decider.trait(name)
        return replace(self, task=task, outputs=end - first, decider=decider, whole=self, first=first)

    @classmethod
    def of(cls, package: TaskPackage, size: SizeClass, pool: "Pool | None" = None, slot: int = 0) -> "Version":
        """Return the version that a package is, with its tables in a slot, or else in its own memory."""
        return cls(
            package.task,
            package.digest,
            size,
            package.outputs,
            pool,
            slot,
            own_tables=None if pool else package.tables,
            decider=package.decider,
            prefix=package.prefix,
        )

    def prefix_tokens(self, ids: list[int], pad_id: int) -> int:
        """Return how many of a row's first tokens the prefix stands for: all of its own, or none.

        None where the row begins with other ids, and where nothing but padding tokens follows: the head reads the last
        token that is none, which has to be among those computed.
        """
        size = len(self.prefix)
        begins = size and tuple(ids[:size]) == self.prefix and any(token != pad_id for token in ids[size:])
        return size if begins else 0

    @property
    def tables(self) -> Mapping[str, Array]:
        """The tables by graph input name, without the leading G; a slot's are padded to `size`."""
        if self.pool is not None:
            return self.pool.view(self.slot)
        return self.own_tables or {}


class Pool:
    """`capacity` slots of one size class. `tables`: graph input name → [capacity, …], passed to the graph whole.

    Only address space is reserved; a slot takes memory when it is written and returns it when it is released. A pool
    never moves, so a batch may read its slots while others are written. `dtypes` has the types of the tables by graph
    input name; float32 where absent. Raises MemoryError where the address space cannot be reserved.
    """

    def __init__(self, backbone: BackboneSpec, size: SizeClass, dtypes: DTypes, capacity: int) -> None:
        self._pages = {
            name: PagedArray((capacity, *shape), dtypes.get(name, np.dtype(np.float32)))
            for name, shape in input_shapes(backbone, size).items()
        }
        self._writes = np.zeros(capacity, np.int64)
        self.tables = Tables({name: pages.array for name, pages in self._pages.items()}, self._writes)
        self.slot_bytes: int = sum(array[0].nbytes for array in self.tables.arrays.values())
        self.used_bytes = 0
        """Memory that the slots in use take, in whole pages."""
        self._free = list(range(capacity))  # a heap: low slots first keep the memory in use dense

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
        except BaseException:
            self.release(slot)
            raise
        self._writes[slot] += 1
        return slot

    def release(self, slot: int) -> None:
        """Make a slot free again and return its memory to the kernel."""
        self.used_bytes -= sum(pages.release(slot) for pages in self._pages.values())
        heapq.heappush(self._free, slot)

    def view(self, slot: int) -> dict[str, Array]:
        return {name: array[slot] for name, array in self.tables.arrays.items()}


class PagedArray:
    """An array [capacity, …] whose rows take memory only while they are in use. Raises MemoryError as `Pool`."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        size = shape[0] * self._row_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", _NO_RESERVE)
        try:
            # One page at least: without a prefix, an adapter's tables of it are empty.
            self._memory = mmap.mmap(-1, max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE, flags=flags)
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


class Residents:
    """Versions by digest. Not thread-safe: the bank holds its lock around each call.

    Their memory in whole pages is `budget_bytes` at most. A version that a batch has pinned stays where it is.
    """

    def __init__(self, backbone: BackboneSpec, dtypes: DTypes, budget_bytes: int) -> None:
        self._backbone = backbone
        self._dtypes = dtypes
        self._budget_bytes = budget_bytes
        self._pools: dict[SizeClass, Pool] = {}
        self._versions: OrderedDict[str, Version] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._versions)

    def __contains__(self, digest: object) -> bool:
        return digest in self._versions

    @property
    def used_bytes(self) -> int:
        return sum(pool.used_bytes for pool in self._pools.values())

    @property
    def has_room(self) -> bool:
        """Whether one more version of the largest kind so far fits without evicting another."""
        return self._fits(max((pool.slot_bytes for pool in self._pools.values()), default=0))

    def get(self, digest: str) -> Version | None:
        """Return a version and note that it was used."""
        version = self._versions.get(digest)
        if version:
            self._versions.move_to_end(digest)
        return version

    def demote(self, digest: str) -> None:
        """Make a version the first to be evicted."""
        if digest in self._versions:
            self._versions.move_to_end(digest, last=False)

    def is_pinned(self, digest: str) -> bool:
        return self._pins[digest] > 0

    def insert(self, package: TaskPackage, *, evict: bool = True) -> Version | None:
        """Give a package a slot, with `evict` that of others; one that has a slot already keeps it.

        Returns None where no slot is free. Raises EngineError where the address space for a pool cannot be reserved.
        """
        version = self.get(package.digest)
        if version is not None:
            return version
        size = size_class(package.tables, package.outputs)
        pool = self._pool(size)
        while not self._fits(pool.next_bytes):
            if not evict or not self._evict_one():
                return None
        slot = pool.write(package.tables)
        version = self._versions[package.digest] = Version.of(package, size, pool, slot)
        return version

    def pin(self, version: Version) -> None:
        """Keep a version in its place until `unpin`."""
        self._pins[version.digest] += 1

    def unpin(self, versions: Iterable[Version]) -> None:
        """Undo one `pin` of each."""
        for version in versions:
            self._pins[version.digest] -= 1
            if not self._pins[version.digest]:
                del self._pins[version.digest]

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self._budget_bytes

    def _evict_one(self) -> bool:
        """Evict the least recently used version that no batch has pinned."""
        for digest, version in self._versions.items():
            if self._pins[digest] or version.pool is None:
                continue
            version.pool.release(version.slot)
            del self._versions[digest]
            self.evictions += 1
            return True
        return False

    def _pool(self, size: SizeClass) -> Pool:
        if size not in self._pools:
            # A pool has a slot for every version that the budget has room for, so one that fits finds a slot free.
            capacity = max(1, self._budget_bytes // Pool(self._backbone, size, self._dtypes, 1).slot_bytes)
            try:
                self._pools[size] = Pool(self._backbone, size, self._dtypes, capacity)
            except MemoryError as error:
                raise EngineError(
                    f"no address space for {self._budget_bytes:,} bytes of adapters can be reserved; lower bank_bytes"
                ) from error
        return self._pools[size]
