"""How much may wait in the scorer, and for how long: bounds of the queue, and the terms that a request names."""

from __future__ import annotations

import json
import threading
import time
from typing import Protocol

from scoremux_client.contract import BATCH, DEADLINE_MS
from scoremux_engine.errors import DroppedError
from scoremux_engine.scoring.row_request import ANY_TERMS, Terms

QUEUE_ROWS = 16_384
QUEUE_BYTES = 64 << 20
_MOST_DEADLINE_MS = 1e10


class Sized(Protocol):
    """A request: its texts, and how many bytes they have."""

    texts: list[bytes]
    size_bytes: int


class Room:
    """Bounds what waits. Thread-safe. A request that is larger than the room is let in when nothing else waits.

    Args:
        rows: The most rows, 0 for QUEUE_ROWS.
        size_bytes: The most bytes of text, 0 for QUEUE_BYTES.
    """

    def __init__(self, rows: int = 0, size_bytes: int = 0) -> None:
        self._most_rows, self._most_bytes = rows or QUEUE_ROWS, size_bytes or QUEUE_BYTES
        self._lock = threading.Lock()
        self._rows = self._bytes = 0

    def enter(self, request: Sized) -> None:
        """Take room for a request until it leaves. Raises DroppedError where there is none."""
        rows, size_bytes = len(request.texts), request.size_bytes
        with self._lock:
            full = self._rows + rows > self._most_rows or self._bytes + size_bytes > self._most_bytes
            if full and self._rows:
                raise DroppedError("full", f"{self._rows} rows wait already; try again in a second")
            self._rows += rows
            self._bytes += size_bytes

    def leave(self, request: Sized) -> None:
        """Give back what `enter` took."""
        with self._lock:
            self._rows -= len(request.texts)
            self._bytes -= request.size_bytes


def read_terms(parameters: str) -> Terms:
    """Return the terms among a request's parameters (a JSON object); what cannot be understood counts for nothing."""
    if DEADLINE_MS not in parameters and BATCH not in parameters:
        return ANY_TERMS
    try:
        values = json.loads(parameters)
        deadline_ms = float(values.get(DEADLINE_MS, _MOST_DEADLINE_MS))
        batch = values.get(BATCH) in (True, "true", 1)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ANY_TERMS
    return Terms(deadline=time.monotonic() + min(deadline_ms, _MOST_DEADLINE_MS) / 1000, batch=batch)
