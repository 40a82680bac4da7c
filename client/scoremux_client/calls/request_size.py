"""How many rows a request carries: learned from how long the requests before it took."""

from collections.abc import Sequence

from scoremux_client.contract import MAX_BATCH_ROWS
from scoremux_client.rows import Row

REQUEST_BYTES = 2 << 20
"""Text that a request carries at most, unless one row alone has more. A str counts its letters: near enough."""

_REQUEST_S = 1.0
"""Server time that a request should take: long enough for full batches, short enough to lose little with a server."""

_FIRST_ROWS, FEWEST_ROWS = 128, 16


class RequestSize:
    """How many rows a request carries: about one second of the server's work. Shared by the calls of a client.

    fixed: a number of rows that never changes; None adapts it.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self.rows = fixed or _FIRST_ROWS
        self._row_s: float | None = None

    def answered(self, rows: int, latency_s: float, ahead: int) -> None:
        """Learn from a request that took `latency_s`, with `ahead` requests of this client before it on its server."""
        if self._fixed or rows < FEWEST_ROWS:
            return  # the latency of a small request says little about a row
        row_s = latency_s / ((ahead + 1) * rows)
        self._row_s = row_s if self._row_s is None else (self._row_s + row_s) / 2
        target = int(_REQUEST_S / max(self._row_s, 1e-6))
        # At most twice or half at a time, so that one unusual answer does not swing it.
        self.rows = max(FEWEST_ROWS, self.rows // 2, min(target, self.rows * 2, MAX_BATCH_ROWS))

    def too_large(self) -> None:
        """Learn that a request got no answer in time, or was too large."""
        if not self._fixed:
            self.rows = max(FEWEST_ROWS, self.rows // 2)
            self._row_s = None

    def cut(self, rows: Sequence[Row]) -> tuple[int, bool]:
        """Return how many of the first rows fit into a request, and whether they fill it."""
        left_bytes = REQUEST_BYTES
        for count, row in enumerate(rows[: self.rows]):
            left_bytes -= len(row.response.text or "")
            if left_bytes < 0:
                return max(1, count), True
        return min(self.rows, len(rows)), len(rows) >= self.rows
