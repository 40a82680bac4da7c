"""Reading for the bank: packages, each by one thread at a time, and the thread that follows the store."""

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol
from weakref import WeakValueDictionary

from scoremux_engine.errors import EngineError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store.store import Store

_LOOK_EVERY_S = 0.05
_RETRY_S = 1.0

Complete = Callable[[TaskPackage], TaskPackage]
"""Adds to a package what has to be computed once for it. Called from several threads."""

log = logging.getLogger(__name__)


class PackageReader:
    """Reads packages of a store, and completes them. Thread-safe.

    A version that fails is not read again for a second, and the log names it once. count: packages read; failures:
    reads that failed, repeated ones too.
    """

    def __init__(self, store: Store, backbone: Backbone, complete: Complete | None = None) -> None:
        self._store = store
        self._backbone = backbone
        self._complete = complete
        self._lock = threading.Lock()
        self._reading = WeakValueDictionary[str, threading.Lock]()
        self._in_use = WeakValueDictionary[str, TaskPackage]()
        self._retry_at: dict[str, float] = {}
        self.count = 0
        self.failures = 0

    def read(self, task: str, digest: str) -> TaskPackage | None:
        """Return a version, read here or by another thread; None if it failed now or less than a second ago."""
        with self._lock:
            lock = self._reading.setdefault(digest, threading.Lock())
        with lock:
            if time.monotonic() < self._retry_at.get(digest, 0.0):
                return None
            try:
                package = self._in_use.get(digest) or self._read(digest)
            except Exception as error:
                self.note_failure(task, digest, error)
                return None
        self._retry_at.pop(digest, None)
        return package

    def note_failure(self, task: str, digest: str, error: Exception) -> None:
        """Log why a version is not served, once, and let no one read it again for a second."""
        with self._lock:
            first = digest not in self._retry_at
            self.failures += 1
            self._retry_at[digest] = time.monotonic() + _RETRY_S
        if first:
            # The message of an unforeseen error may quote its input; its type does not.
            why = error if isinstance(error, EngineError) else type(error).__name__
            log.error("task %s: version %s is not served: %s", task, digest[:12], why)

    def _read(self, digest: str) -> TaskPackage:
        try:
            package = self._store.read_package(digest, self._backbone)
            package = self._complete(package) if self._complete else package
        finally:
            with self._lock:
                self.count += 1
        self._in_use[digest] = package
        return package


class FollowsStore(Protocol):
    def refresh(self) -> None: ...

    def load_live(self) -> None: ...


class Loader:
    """A thread that keeps a bank up to date while batches are scored; it ends with its bank.

    It looks at the store twenty times a second (one stat), and whenever it is woken.
    """

    def __init__(self, bank: FollowsStore) -> None:
        self._bank = weakref.ref(bank)
        self._wake_up = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Look now; the first call starts the thread."""
        self._wake_up.set()
        if self._thread is None:
            arguments = self._bank, self._wake_up
            self._thread = threading.Thread(target=_follow, args=arguments, name="bank-loader", daemon=True)
            self._thread.start()


def _follow(reference: weakref.ref[FollowsStore], wake_up: threading.Event) -> None:
    logged = ""
    while True:
        wake_up.wait(_LOOK_EVERY_S)
        wake_up.clear()
        bank = reference()
        if bank is None:
            return
        try:
            bank.refresh()
            bank.load_live()
            logged = ""
        except Exception as error:
            # The next batch meets the same error and reports it; this thread only must not end.
            if type(error).__name__ != logged:
                logged = type(error).__name__
                log.error("the store cannot be read: %s", logged)
        del bank  # else this thread would keep it alive
