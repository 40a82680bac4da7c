"""Errors of the client.

    ScoremuxError
    ├── InputError             what the caller passed in cannot be sent or read
    └── TransportError         rows were sent and no answer came; `.rows` says which
        ├── UnavailableError   no server there, or it is shutting down
        ├── DeadlineError      the deadline passed
        └── RejectedError      the server refused the request as a whole

No message ever holds a response's text.
"""

from __future__ import annotations


class ScoremuxError(Exception):
    """Base of every error this project raises on purpose."""


class InputError(ScoremuxError):
    """What the caller passed in cannot be sent or read."""


class TransportError(ScoremuxError):
    """A request failed. `rows` are the positions, in the call's own order, of the rows it carried."""

    def __init__(self, message: str, rows: range = range(0)) -> None:
        super().__init__(message)
        self.rows = rows

    def at(self, rows: range) -> TransportError:
        """Return the same error, naming the rows it concerns."""
        error = type(self)(f"rows {rows.start}–{rows.stop - 1}: {self}", rows)
        error.__cause__ = self.__cause__
        return error


class UnavailableError(TransportError):
    """No server answers there, or it is starting or shutting down."""


class DeadlineError(TransportError):
    """No answer within the deadline."""


class RejectedError(TransportError):
    """The server refused the request as a whole."""
