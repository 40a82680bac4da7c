"""How much may wait in the scorer, and for how long: bounds of the queue, and the terms that a request names."""

import json
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from scoremux_client.contract import BATCH, DEADLINE_MS
from scoremux_engine.errors import DroppedError
from scoremux_engine.scoring.permission import WATCHER
from scoremux_engine.scoring.row_request import ANY_TERMS, Terms

QUEUE_ROWS = 16_384
QUEUE_BYTES = 64 << 20
_MOST_DEADLINE_MS = 1e10

_KEPT = 128
"""One in this many rows and bytes is kept for small requests."""

_SMALL = 16
"""A small request takes one in this many of those at most."""

_LEAST_PAUSE_S, _MOST_PAUSE_S, _FIRST_PAUSE_S = 0.1, 30.0, 1.0


class Sized(Protocol):
    """A request: its texts, how many bytes they have, and whose it is."""

    texts: list[bytes]
    size_bytes: int
    terms: Terms


@dataclass
class _Load:
    """The size of the requests that wait."""

    rows: int = 0
    batch_rows: int = 0
    size_bytes: int = 0

    def add(self, request: Sized, sign: int = 1) -> None:
        self.rows += sign * len(request.texts)
        self.batch_rows += sign * len(request.texts) * request.terms.batch
        self.size_bytes += sign * request.size_bytes


class Room:
    """Bounds the queue: of all, and of each access token. Thread-safe.

    A token's rows may take as much room as they leave: alone it gets half, two get a third each, and there is always
    some for one more. A request that is larger than that is let in when nothing else waits. A few rows and bytes are
    kept for small requests, and the watcher's canary always gets in.

    rows, size_bytes: the most that may wait, 0 for QUEUE_ROWS and QUEUE_BYTES.
    """

    def __init__(self, rows: int = 0, size_bytes: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_rows, self._most_bytes = rows or QUEUE_ROWS, size_bytes or QUEUE_BYTES
        self._clock = clock
        self._lock = threading.Lock()
        self._all, self._of = _Load(), dict[str, _Load]()
        self._left_rows, self._busy_since = 0, clock()

    @property
    def rows(self) -> tuple[int, int]:
        """How many rows of interactive requests and of batch jobs were let in and have not left."""
        with self._lock:
            return self._all.rows - self._all.batch_rows, self._all.batch_rows

    def enter(self, request: Sized) -> None:
        """Take room for a request until it leaves. Raises DroppedError, with a time to come back, if there is none."""
        rows, tenant = len(request.texts), request.terms.tenant
        with self._lock:
            tenant_load = self._of.get(tenant.name, _Load())
            free_rows, free_bytes = self._most_rows - self._all.rows, self._most_bytes - self._all.size_bytes
            pause = f"send again in {self._pause_s(rows):.1f} s"
            kept_rows, kept_bytes = self._most_rows // _KEPT, self._most_bytes // _KEPT
            if rows * _SMALL <= kept_rows and request.size_bytes * _SMALL <= kept_bytes:
                kept_rows = kept_bytes = 0
            full = rows > free_rows - kept_rows or request.size_bytes > free_bytes - kept_bytes
            if self._all.rows and full and tenant.name != WATCHER:
                raise DroppedError("full", f"{self._all.rows} rows wait already: {pause}")
            too_much = tenant_load.rows + rows > free_rows or tenant_load.size_bytes + request.size_bytes > free_bytes
            if tenant.name not in ("", WATCHER) and tenant_load.rows and too_much:
                raise DroppedError("token_full", f"{tenant_load.rows} rows of this token wait already: {pause}")
            if not self._all.rows:
                self._left_rows, self._busy_since = 0, self._clock()
            self._of[tenant.name] = tenant_load
            for load in (tenant_load, self._all):
                load.add(request)

    def leave(self, request: Sized) -> None:
        """Give back the room that `enter` took."""
        name = request.terms.tenant.name
        with self._lock:
            self._left_rows += len(request.texts)
            tenant_load = self._of.setdefault(name, _Load())  # a request without rows may have been the last
            for load in (self._all, tenant_load):
                load.add(request, -1)
            if not tenant_load.rows:
                del self._of[name]

    def _pause_s(self, rows: int) -> float:
        """Return after how many seconds `rows` rows will have left, at the rate since this server was last idle."""
        busy_s = self._clock() - self._busy_since
        if not self._left_rows or busy_s <= 0:
            return _FIRST_PAUSE_S
        return min(max(rows * busy_s / self._left_rows, _LEAST_PAUSE_S), _MOST_PAUSE_S)


def read_terms(parameters: str) -> Terms:
    """Return the terms among a request's parameters (a JSON object); malformed ones count for nothing."""
    if DEADLINE_MS not in parameters and BATCH not in parameters:
        return ANY_TERMS
    try:
        values = json.loads(parameters)
        deadline_ms = float(values.get(DEADLINE_MS, _MOST_DEADLINE_MS))
        batch = values.get(BATCH) in (True, "true", 1)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return ANY_TERMS
    if math.isnan(deadline_ms):
        return ANY_TERMS
    return Terms(deadline=time.monotonic() + min(deadline_ms, _MOST_DEADLINE_MS) / 1000, batch=batch)
