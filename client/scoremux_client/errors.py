"""Errors of the client.

    ScoremuxError
    ├── InputError                 what the caller passed in cannot be sent or read
    └── TransportError             rows were sent and no answer came; `.rows` says which
        ├── UnavailableError       the connection was refused or lost, or the server is starting, stopping or restarting
        │   └── BusyError          the server's queue is full
        ├── DeadlineError          the deadline passed
        └── RejectedError          the server refused the request as a whole
            └── TooLargeError      because of its size; the client sends its rows again in smaller requests

Scoring has no side effects, so the client sends a request again after an UnavailableError or a DeadlineError. A request
that was refused would be refused again. No message ever holds a response's text.
"""

import re
from collections.abc import Sequence

from scoremux_files.errors import InputError as InputError
from scoremux_files.errors import ScoremuxError as ScoremuxError

_MOST_SPANS = 8
_PAUSE = re.compile(r"send again in ([0-9]+(?:\.[0-9]+)?) s")


class TransportError(ScoremuxError):
    """A request failed. `rows` are the positions, in the call's own order, of the rows that got no outcome by it."""

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = rows

    def at(self, rows: Sequence[int]) -> "TransportError":
        """Return the same error, naming the rows it concerns (ascending positions)."""
        where = f"{'row' if len(rows) == 1 else 'rows'} {spans(rows)}: " if rows else ""
        error = type(self)(f"{where}{self}", rows)
        error.__cause__ = self.__cause__
        return error


class UnavailableError(TransportError):
    """The connection was refused or lost, or the server is starting, stopping or restarting."""


class BusyError(UnavailableError):
    """The server's queue is full, or it takes no more requests from this client for now."""

    @property
    def pause_s(self) -> float:
        """Seconds after which the server says to send again; 0 where it does not say."""
        pause = _PAUSE.search(str(self))
        return float(pause[1]) if pause else 0.0


class DeadlineError(TransportError):
    """No answer within the deadline."""


class RejectedError(TransportError):
    """The server refused the request as a whole."""


class TooLargeError(RejectedError):
    """The server refused the request because of its size, and it has one row only."""


def spans(rows: Sequence[int]) -> str:
    """Return ascending positions in short form.

    >>> spans([0, 1, 2, 7])
    '0–2, 7'
    """
    runs: list[list[int]] = []
    for row in rows:
        if not runs or row != runs[-1][1] + 1:
            runs.append([row, row])
        runs[-1][1] = row
    shown = ", ".join("–".join(map(str, dict.fromkeys(run))) for run in runs[:_MOST_SPANS])
    return shown if len(runs) <= _MOST_SPANS else f"{shown} and others ({len(rows)} in all)"
