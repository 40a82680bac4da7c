"""The bank: which version of each task is live, and the versions in memory."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.backbone import Backbone
from scoremux_engine.bank.loader import Loader
from scoremux_engine.bank.reads import Reads
from scoremux_engine.bank.residents import Residents
from scoremux_engine.bank.version import Version
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.task import Task
from scoremux_engine.store.reader import Stamp
from scoremux_engine.store.store import Store
from scoremux_engine.tables import DTypes, SizeClass

BUDGET_BYTES = 4 << 30
"""Memory for adapters unless told otherwise; it is used as tasks come in, not at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BankStats:
    """tasks: in the manifest; resident, used_bytes: versions in memory; the others count since the start.

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
    """Versions for batches, which borrow them; the manifest decides which version of a task is live.

    A change of the manifest is noticed at the next batch or by the loader, which reads changed packages beside the
    scoring. A batch waits only for packages of its own rows that are not in memory. A package that fails its checks is
    not served: the version before it stays.

    beside: whether there is a loader; without one, packages are read when a row asks for them.
    """

    def __init__(
        self,
        store: Store,
        backbone: Backbone,
        dtypes: DTypes | None = None,
        budget_bytes: int = BUDGET_BYTES,
        *,
        beside: bool = True,
    ) -> None:
        self._store = store
        self._backbone = backbone
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._filling = threading.Lock()
        self._residents = Residents(backbone.spec, dtypes or {}, budget_bytes)
        self._stamp: Stamp | None = None
        self._live: dict[str, str] = {}
        self._good: dict[str, str] = {}  # task → the version served last
        self._told: dict[str, Task] = {}
        self.levels_max = 1
        """L_max over the live tasks, in memory or not; 1 while there is none."""
        self._reads = Reads(store, backbone)
        self._behind = False
        self._complaint = ""
        self._waits = 0
        self._loader = Loader(self) if beside else None

    @property
    def tasks(self) -> list[str]:
        """Ids of the live tasks, in order."""
        return sorted(self._live)

    @property
    def stats(self) -> BankStats:
        with self._lock:
            return BankStats(
                tasks=len(self._live),
                resident=len(self._residents),
                used_bytes=self._residents.used_bytes,
                loads=self._reads.count,
                waits=self._waits,
                evictions=self._residents.evictions,
                failures=self._reads.failures,
            )

    def refresh(self) -> None:
        """Take over a changed manifest (one stat where it did not change).

        Raises StoreError where the store belongs to another backbone, and where it cannot be read and never was, or is
        not there: then nothing is known of its tasks, and to call them unknown would be an outcome for good.
        """
        with self._refreshing:
            try:
                stamp = self._store.stamp()
                if self._stamp is not None and stamp in (None, self._stamp):
                    return
                manifest = self._store.manifest()
            except StoreError as error:
                if self._stamp is None:
                    raise
                if str(error) != self._complaint:  # said once, not at every look
                    log.error("keeping the tasks already loaded: %s", error)
                self._complaint = str(error)
                return
            self._complaint = ""
            if manifest.backbone != self._backbone.spec.digest:
                raise StoreError(
                    f"{self._store.folder} belongs to backbone {manifest.backbone[:12]}, "
                    f"but {self._backbone.spec.digest[:12]} is loaded"
                )
            told = self._told_by(manifest.tasks)
            with self._lock:
                # What was live is what a new version that fails its checks falls back to.
                self._good = {task: d for task, d in {**self._live, **self._good}.items() if task in manifest.tasks}
                self._live, self._told, self._stamp = dict(manifest.tasks), told, stamp
            self.levels_max = max((len(task.levels) for task in told.values()), default=1)
            self._behind = True
        if self._loader is not None:
            self._loader.wake()

    def _told_by(self, live: Mapping[str, str]) -> dict[str, Task]:
        """Return what each live version says of itself, as far as it can be read yet."""
        told = {}
        for task, digest in live.items():
            known = self._told.get(digest)
            with suppress(PackageError):
                told[digest] = known or Task.read(self._store.package_folder(digest))
            if digest in told and told[digest].id != task:
                log.error(
                    "task %s: version %s is not served: it says it is task %s", task, digest[:12], told[digest].id
                )
        return told

    @contextmanager
    def borrow(self) -> Iterator[Loan]:
        """Lend versions to one batch: within it, a task has one version, and what it found stays in its place."""
        self.refresh()
        loan = Loan(self)
        try:
            yield loan
        finally:
            with self._lock:
                self._residents.unpin(loan.pinned)

    def load_live(self) -> None:
        """Read the live versions that are not in memory, as long as there is room; a new version of a task that is in
        memory makes room for itself. Does nothing where nothing changed since it last came to an end."""
        with self._filling:
            if not self._behind:
                return
            self._behind = False
            for task, digest in list(self._live.items()):
                replaces = self._good.get(task) in self._residents
                if digest in self._residents or not (replaces or self._residents.has_room):
                    continue
                package = self._reads.read(task, digest)
                if package is None:
                    self._behind = True  # to be tried again
                    continue
                with self._lock:
                    self._residents.keep(package, evict=replaces)

    def find(self, task: str, digest: str | None, loan: Loan) -> Version | None:
        """Return the live version of a task, or the one with this digest, pinned for `loan`; None if there is none."""
        if digest is not None:
            if not re.fullmatch(DIGEST_PATTERN, digest):
                return None  # a digest becomes a path
            known = digest in self._residents or self._store.package_folder(digest).is_dir()
            return self._version(task, digest, loan) if known else None
        live = self._live.get(task)
        if live is None:
            return None
        version = self._version(task, live, loan)
        before = self._good.get(task)
        if version is None:
            return None if before in (None, live) else self._version(task, before, loan)
        if before not in (None, live):
            with self._lock:
                self._residents.demote(before)
        self._good[task] = live
        return version

    def _version(self, task: str, digest: str, loan: Loan) -> Version | None:
        with self._lock:
            version = self._residents.get(digest)
            if version is not None:
                return self._lend(version, loan) if version.task.id == task else None
        package = self._reads.read(task, digest)
        if package is None or package.task.id != task:
            return None
        with self._lock:
            self._waits += 1
            version = self._residents.keep(package)
            if version is None:
                # All slots are pinned, by this very batch: the version lives as long as the batch.
                size = SizeClass.of(package.tables.tables, package.levels)
                return Version(package.task, package.digest, size, loose=package.tables.tables)
            return self._lend(version, loan)

    def _lend(self, version: Version, loan: Loan) -> Version:
        self._residents.pin(version)
        loan.pinned.append(version)
        return version


class Loan:
    """What one batch has borrowed."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._found: dict[tuple[str, str | None], Version | None] = {}
        self.pinned: list[Version] = []

    def find(self, task: str, digest: str | None = None) -> Version | None:
        """Return the live version of a task, or the one with this digest; None if there is none."""
        key = task, digest
        if key not in self._found:
            self._found[key] = self._bank.find(task, digest, self)
        return self._found[key]
