"""How many rows a request carries."""

from __future__ import annotations

from collections.abc import Sequence

from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.response import Response

_WORK_S = 1.0
"""Server time a request should take: long enough for full batches, short enough to lose little with a server."""

CHUNK_BYTES = 2 << 20
"""Text that a request carries at most, unless one row alone has more. A str counts its letters, that is near enough."""

_FIRST, _FEWEST = 128, 16
_MEMORY = 0.5


class Sizer:
    """Keeps requests near one second of the server's work. Shared by the calls of a client.

    fixed: a number of rows that never changes, None to adapt.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self.rows = fixed or _FIRST
        self._row_s: float | None = None

    def answered(self, rows: int, latency_s: float, queued: int) -> None:
        """Learn from a request that took `latency_s`, with `queued` of this client's before it on its server."""
        if self._fixed or rows < _FEWEST:
            return  # what a small request takes says little about a row
        row_s = latency_s / ((queued + 1) * rows)
        self._row_s = row_s if self._row_s is None else _MEMORY * self._row_s + (1 - _MEMORY) * row_s
        wanted = int(_WORK_S / max(self._row_s, 1e-6))
        # At most twice or half at a time: one odd answer must not swing it.
        self.rows = max(_FEWEST, self.rows // 2, min(wanted, self.rows * 2, MAX_BATCH_ROWS))

    def late(self) -> None:
        """Learn that a request got no answer in time, or was too large."""
        if not self._fixed:
            self.rows = max(_FEWEST, self.rows // 2)
            self._row_s = None


def fitting(responses: Sequence[Response], most_bytes: int) -> int:
    """Return how many of the first rows have texts of `most_bytes` together: one at least, where there is one."""
    for rows, response in enumerate(responses):
        most_bytes -= len(response.text)
        if most_bytes < 0 and rows:
            return rows
    return len(responses)
