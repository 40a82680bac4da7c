"""The versions in memory, least recently used first, within a budget of bytes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from scoremux_engine.bank.pool import Pool
from scoremux_engine.bank.version import Version
from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import DTypes, SizeClass
from scoremux_engine.packages.package import TaskPackage


class Residents:
    """Versions by digest. Not thread-safe: the bank holds its lock around every call.

    A version that a batch has pinned stays where it is.

    Args:
        backbone: The graph whose inputs the tables are.
        dtypes: Types of the tables by graph input name; float32 where absent.
        budget_bytes: Most memory that the versions may take, in whole pages.
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
        if version is not None:
            self._versions.move_to_end(digest)
        return version

    def demote(self, digest: str) -> None:
        """Make a version the first to be evicted."""
        if digest in self._versions:
            self._versions.move_to_end(digest, last=False)

    def is_pinned(self, digest: str) -> bool:
        return self._pins[digest] > 0

    def insert(self, package: TaskPackage, *, evict: bool = True) -> Version | None:
        """Give a package a slot; one that has a slot already keeps it.

        Args:
            package: The version to keep in memory.
            evict: Whether it may take the room of others.

        Returns:
            The version, or None where there is no room.

        Raises:
            EngineError: The address space for a pool cannot be reserved.
        """
        version = self.get(package.digest)
        if version is not None:
            return version
        size = SizeClass.of(package.tables.tables, package.outputs)
        pool = self._pool(size)
        while not self._fits(pool.next_bytes):
            if not evict or not self._evict_one():
                return None
        slot = pool.write(package.tables.tables)
        version = Version.of(package, size, pool, slot)
        self._versions[package.digest] = version
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
            capacity = max(1, self._budget_bytes // Pool.bytes_of(self._backbone, size, self._dtypes))
            try:
                self._pools[size] = Pool(self._backbone, size, self._dtypes, capacity)
            except MemoryError as error:
                raise EngineError(
                    f"no address space for {self._budget_bytes:,} bytes of adapters can be reserved; lower bank_bytes"
                ) from error
        return self._pools[size]
