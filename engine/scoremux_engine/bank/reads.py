"""Reading packages for the bank: each by one thread at a time, and not over and over where one fails."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future

from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store.store import Store

_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Reads:
    """Safe for several threads. count: packages read; failures: those that failed their checks, tries counted."""

    def __init__(self, store: Store, backbone: Backbone) -> None:
        self._store = store
        self._backbone = backbone
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[TaskPackage]] = {}
        self._failed: dict[str, float] = {}  # digest → when to try again
        self.count = 0
        self.failures = 0

    def read(self, task: str, digest: str) -> TaskPackage | None:
        """Read a version, or wait for the thread that is reading it; `task` is who asks for it.

        None if it failed its checks, now or less than a second ago; the log says why, once.
        """
        if time.monotonic() < self._failed.get(digest, 0.0):
            return None
        with self._lock:
            future = self._under_way.get(digest)
            mine = future is None
            if future is None:
                future = self._under_way[digest] = Future()
        if mine:
            self._read(digest, future)
        try:
            package = future.result()
        except EngineError as error:
            self._note_failure(task, digest, error)
            return None
        self._failed.pop(digest, None)
        return package

    def _read(self, digest: str, future: Future[TaskPackage]) -> None:
        try:
            future.set_result(self._store.read_package(digest, self._backbone))
        except BaseException as error:
            future.set_exception(error)
        finally:
            with self._lock:
                self.count += 1
                del self._under_way[digest]

    def _note_failure(self, task: str, digest: str, error: EngineError) -> None:
        if digest not in self._failed:
            log.error("task %s: version %s is not served: %s", task, digest[:12], error)
        with self._lock:
            self.failures += 1
            self._failed[digest] = time.monotonic() + _RETRY_S
