"""The versions in memory, least recently used first, within a budget of bytes."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from scoremux_engine.backbone import BackboneSpec
from scoremux_engine.bank.pool import Pool
from scoremux_engine.bank.version import Version
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.tables import DTypes, SizeClass


class Residents:
    """Versions by digest. Not safe for several threads by itself: the bank holds its lock around every call.

    A version that a batch has pinned stays where it is. `budget_bytes` counts slots in use.
    """

    def __init__(self, backbone: BackboneSpec, dtypes: DTypes, budget_bytes: int) -> None:
        self._backbone = backbone
        self._dtypes = dtypes
        self._budget_bytes = budget_bytes
        self._pools: dict[SizeClass, Pool] = {}
        self._versions: OrderedDict[str, Version] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self.used_bytes = 0
        self.evictions = 0

    def __len__(self) -> int:
        return len(self._versions)

    def __contains__(self, digest: object) -> bool:
        return digest in self._versions

    def get(self, digest: str) -> Version | None:
        """Return a version and note that it was used."""
        version = self._versions.get(digest)
        if version is not None:
            self._versions.move_to_end(digest)
        return version

    @property
    def has_room(self) -> bool:
        """Whether one more version of the largest kind so far fits without another leaving."""
        most = max((pool.slot_bytes for pool in self._pools.values()), default=0)
        return self._fits(most)

    def demote(self, digest: str) -> None:
        """Make a version the first to leave."""
        if digest in self._versions:
            self._versions.move_to_end(digest, last=False)

    def keep(self, package: TaskPackage, *, evict: bool = True) -> Version | None:
        """Give a package a slot, and others' room where `evict` allows it; None if there is no room.

        A package that is there already keeps its slot. Raises EngineError where the budget cannot be reserved at all.
        """
        version = self.get(package.digest)
        if version is not None:
            return version
        pool = self._pool(size := SizeClass.of(package.tables.tables, package.levels))
        if not self._make_room(pool.slot_bytes, evict):
            return None
        version = Version(package.task, package.digest, size, pool, pool.take(package.tables.tables))
        self._versions[package.digest] = version
        self.used_bytes += pool.slot_bytes
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

    def _make_room(self, size_bytes: int, evict: bool) -> bool:
        while not self._fits(size_bytes):
            if not evict or not self._evict_one():
                return False
        return True

    def _fits(self, size_bytes: int) -> bool:
        return self.used_bytes + size_bytes <= self._budget_bytes

    def _evict_one(self) -> bool:
        """Evict the least recently used version that no batch has pinned."""
        for digest, version in self._versions.items():
            if self._pins[digest] or version.pool is None:
                continue
            version.pool.give_back(version.slot)
            del self._versions[digest]
            self.used_bytes -= version.pool.slot_bytes
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
