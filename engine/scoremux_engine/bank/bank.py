"""The bank: the task versions that batches score with, in memory within a budget."""

import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from scoremux_client.contract import DIGEST_PATTERN, Status
from scoremux_engine.bank.live import Described, LiveVersions
from scoremux_engine.bank.loader import Complete, Loader, PackageReader
from scoremux_engine.bank.residents import Residents, Version
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import DTypes, size_class
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store.store import Store

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
BUDGET_BYTES = min(4 << 30, MACHINE_BYTES)
"""Memory for adapters unless set otherwise; it is taken as tasks are loaded, not at once."""

_UNPIN_WAIT_S = 2.0


@dataclass(frozen=True)
class BankStats:
    """tasks: in the manifest; resident: versions in memory, used_bytes: theirs; the others count since the start.

    loads: packages read; waits: those that a batch waited for; evictions: versions that made room for others;
    failures: packages that failed their checks.
    """

    tasks: int
    resident: int
    used_bytes: int
    loads: int
    waits: int
    evictions: int
    failures: int


class Bank:
    """The versions that batches score with; the store's manifest decides which version of a task is live.

    A small manifest is read by the batch that finds it changed. A large one is read by the loader's thread, and a batch
    waits for that only where a row names a task that is not known yet. A batch waits for packages of its own rows that
    are not in memory. A live version that cannot be loaded is not served: the one before it is.

    Args:
        background: Whether a thread loads what is published; without it, versions are loaded when a row needs them.
        complete: Adds the tables that are computed once for a package; None: nothing.
    """

    def __init__(
        self,
        store: Store,
        backbone: Backbone,
        dtypes: DTypes | None = None,
        budget_bytes: int = BUDGET_BYTES,
        *,
        background: bool = True,
        complete: Complete | None = None,
    ) -> None:
        self._store = store
        self._live = LiveVersions(store, backbone.spec.digest)
        self._reader = PackageReader(store, backbone, complete)
        self._residents = Residents(backbone.spec, dtypes or {}, budget_bytes)
        self._lock = threading.Lock()  # around every call of `_residents`
        self._unpinned = threading.Condition(self._lock)
        self._loading = threading.Lock()
        self._unloaded = False
        self._waits = 0
        self._loader = Loader(self) if background else None

    @property
    def tasks(self) -> list[str]:
        """Ids that rows may name, of live tasks and traits, in order."""
        return sorted(self._live.described())

    def described(self) -> Described:
        """Return the live tasks, followed as far as the manifest is now: see `LiveVersions.described`."""
        self.refresh()
        return self._live.described()

    @property
    def levels_max(self) -> int:
        """L_max over the live tasks that were described, in memory or not; 1 while there is none."""
        return self._live.levels_max

    @property
    def stats(self) -> BankStats:
        with self._lock:
            return BankStats(
                tasks=len(self._live.tasks),
                resident=len(self._residents),
                used_bytes=self._residents.used_bytes,
                loads=self._reader.count,
                waits=self._waits,
                evictions=self._residents.evictions,
                failures=self._reader.failures,
            )

    def refresh(self) -> None:
        """Follow a changed manifest; one stat where it did not change.

        The tasks of a large store are described by `load_live`, in the loader's thread, or by `describe`. Raises
        StoreError where the store never could be read, so the tasks are unknown.
        """
        changed = self._live.update()
        if self._loader is None or not self._live.large:
            self._live.describe()
        if changed:
            self._note_change()

    def describe(self) -> None:
        """Read the levels of live tasks that are not known yet: `levels_max` is that of all then."""
        while not self._live.describe():
            self.refresh()

    def checkout(self, requests: int = 1) -> "BatchVersions":
        """Give versions to requests; they stay in place until each closed them. Raises StoreError as `refresh`."""
        if self._loader is None:
            self.refresh()
        elif self._live.check_manifest():
            self._note_change()
        return BatchVersions(self, requests)

    def expect(self, tasks: Iterable[str | bytes]) -> None:
        """Fetch what rows of these tasks will need, all at once, where the store is in a bucket."""
        if self._store.origin:
            names = {str(task, "utf-8", "replace") if isinstance(task, bytes) else task for task in tasks}
            live = self._live.tasks
            digests = {live.get(name) or live.get(name.rpartition(".")[0]) for name in names}
            self._store.begin_fetching(digest for digest in digests if digest and digest not in self._residents)

    def check_in(self, versions: "BatchVersions") -> None:
        """Let versions leave their places once the last of their requests has closed them."""
        with self._unpinned:
            versions.requests -= 1
            if versions.requests <= 0:
                pinned, versions.pinned = versions.pinned, []
                self._residents.unpin(pinned)
                self._unpinned.notify_all()

    def load_live(self) -> None:
        """Load the live versions that are not in memory, as long as there is room.

        A new version of a task that is in memory takes the room of the one before; such versions come first. Does
        nothing where nothing changed since it last ended.
        """
        with self._loading:
            if not self._unloaded:
                return
            self._unloaded = False
            live = self._live.tasks
            done = (
                self._load_all(self._live.awaiting_load, live) and self._live.describe() and self._load_all(live, live)
            )
            self._unloaded |= not done

    def _load_all(self, tasks: Iterable[str], live: dict[str, str]) -> bool:
        """Load these of the live tasks. Return False where it stopped because the manifest changed meanwhile."""
        full = False
        for task in tasks:
            if self._live.outdated or self._live.tasks is not live or self._store.unreachable:
                return False  # a large store takes seconds to load
            digest = live.get(task)
            if digest is None:
                continue
            if digest in self._residents:
                self._live.note_loaded(task, digest)
                continue
            replaces = any(earlier in self._residents for earlier in self._live.earlier(task))
            if not replaces and (full or not self._residents.has_room):
                continue
            package = self._reader.read(task, digest)
            if package is None:
                self._unloaded = True  # to be tried again
            elif package.task.id == task:
                full |= not self._load(package, replaces)
        return True

    def find(self, task: str, digest: str | None, batch: "BatchVersions") -> Version | Status:
        """Return the live version of a task, or the one of `digest`, pinned for `batch`; or why there is none.

        task: The id of a task, or of an item with the name of one of its traits.
        """
        found = self._find(task, digest, batch)
        item, _, trait = task.rpartition(".")
        if found is Status.UNKNOWN_TASK and item:
            whole = self._find(item, digest, batch)
            return (whole.trait(trait) or found) if isinstance(whole, Version) else whole
        return Status.HAS_TRAITS if isinstance(found, Version) and found.task.traits else found

    def _find(self, task: str, digest: str | None, batch: "BatchVersions") -> Version | Status:
        if digest is not None:
            # A digest becomes a path.
            exists = re.fullmatch(DIGEST_PATTERN, digest) and (digest in self._residents or self._store.has(digest))
            return self._version(task, digest, batch) if exists else Status.UNKNOWN_TASK
        if task not in self._live.tasks and self._live.outdated and self._live.update():
            self._note_change()
        live = self._live.tasks.get(task)
        if live is None:
            return Status.UNKNOWN_TASK
        for candidate in (live, *self._live.earlier(task)):
            version = self._version(task, candidate, batch)
            if isinstance(version, Version):
                return version
        return Status.TASK_UNAVAILABLE

    def _note_change(self) -> None:
        self._unloaded = True
        if self._loader is not None:
            self._loader.wake()

    def _version(self, task: str, digest: str, batch: "BatchVersions") -> Version | Status:
        with self._lock:
            version = self._residents.get(digest)
            if version is not None:
                return self._pin(version, batch) if version.task.id == task else Status.UNKNOWN_TASK
        package = self._reader.read(task, digest)
        if package is None:
            return Status.TASK_UNAVAILABLE
        if package.task.id != task:
            return Status.UNKNOWN_TASK
        try:
            with self._lock:
                self._waits += 1
                version = self._insert(package)
                if version is not None:
                    return self._pin(version, batch)
            # All slots are pinned, by this very batch: the version lives as long as the batch.
            return Version.of(package, size_class(package.tables, package.outputs))
        except Exception as error:
            self._reader.note_failure(task, digest, error)
            return Status.TASK_UNAVAILABLE

    def _load(self, package: TaskPackage, replaces: bool) -> bool:
        """Put a live version into memory, where the one before was if it `replaces` one. Return whether it fits."""
        try:
            with self._unpinned:
                if self._insert(package, evict=False) is not None:
                    return True
                if not replaces:
                    return False
                earlier = self._live.earlier(package.task.id)
                self._unpinned.wait_for(lambda: not any(map(self._residents.is_pinned, earlier)), _UNPIN_WAIT_S)
                return self._insert(package) is not None
        except Exception as error:
            self._reader.note_failure(package.task.id, package.digest, error)
            self._unloaded = True
            return True

    def _insert(self, package: TaskPackage, *, evict: bool = True) -> Version | None:
        """Put a version into memory; a live one takes the room of its task's earlier versions first."""
        task, live = package.task.id, self._live.tasks.get(package.task.id) == package.digest
        if live:
            for earlier in reversed(self._live.earlier(task)):
                self._residents.demote(earlier)
        version = self._residents.insert(package, evict=evict)
        if version is not None and live:
            self._live.note_loaded(task, package.digest)
        return version

    def _pin(self, version: Version, batch: "BatchVersions") -> Version:
        self._residents.pin(version)
        batch.pinned.append(version)
        return version


class BatchVersions:
    """The versions of requests: within them a task has one version, whatever is published meanwhile.

    requests: how many are to close it.
    """

    def __init__(self, bank: Bank, requests: int) -> None:
        self._bank = bank
        self.requests = requests
        self._versions: dict[tuple[str, str | None], Version | Status] = {}
        self.pinned: list[Version] = []

    def find(self, task: str, digest: str | None = None) -> Version | Status:
        """Return the live version of a task, or the one with this digest; or the status of a row that asks for it."""
        key = task, digest
        if key not in self._versions:
            self._versions[key] = self._bank.find(task, digest, self)
        return self._versions[key]

    def close(self) -> None:
        """Give the versions back for one request."""
        self._bank.check_in(self)

    def __enter__(self) -> "BatchVersions":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
