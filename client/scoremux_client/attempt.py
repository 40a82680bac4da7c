"""One attempt: rows that are sent to one server once, and why they may have no answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from scoremux_client.errors import BusyError, DeadlineError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Columns, Response, encode, to_bytes
from scoremux_client.transports.transport import Transport, plain

LATE = "no answer within the deadline of the request"
_FEWEST_QUOTED, _QUOTED_LETTERS = 8, 40
"""Letters of a response's beginning that a server's words hold if they quote it: the least, the most to look for."""


@dataclass(eq=False)
class Server:
    """One address and what this client knows of it. Guarded by the lock of its `Servers`."""

    transport: Transport
    up: bool = True
    probing: bool = False
    probe: Future[Columns] | None = None
    in_flight: int = 0
    last_used: int = 0
    failed_probes: int = 0
    arithmetic: str = ""


@dataclass(eq=False)
class Attempt:
    """Rows that were sent to a server once. Times are those of `time.monotonic`.

    Attributes:
        expires_at: When the server gets no more time; None for ever.
        ahead: Requests of this client that were on the server before this one.
        ended_at: When the answer or a failure came, and the server was judged by it; 0 before.
    """

    server: Server
    responses: Sequence[Response]
    sent_at: float
    expires_at: float | None
    ahead: int
    answer: Future[Columns] = field(default_factory=Future)
    ended_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an answer may come yet."""
        return not self.ended_at and (self.expires_at is None or time.monotonic() < self.expires_at)


def submit(transport: Transport, responses: Sequence[Response], timeout_s: float | None) -> Future[Columns]:
    """Send one request. Never raises: the future does."""
    try:
        return transport.submit(encode(responses), timeout_s)
    except Exception as error:
        future: Future[Columns] = Future()
        future.set_exception(error)
        return future


def error_of(answer: Future[Columns], responses: Sequence[Response]) -> TransportError | None:
    """Return why a finished request has no answer, None if it has one."""
    if answer.cancelled():
        return DeadlineError(LATE)
    error = answer.exception()
    if error is None:
        return None
    if not isinstance(error, TransportError):
        # The caller's own transport. The message may quote what it was given, in a traceback too.
        return RejectedError(f"the transport raised {type(error).__name__}")
    beginnings = {plain(to_bytes(r.text).decode(errors="replace"))[:_QUOTED_LETTERS] for r in responses}
    if any(len(text) >= _FEWEST_QUOTED and text in str(error) for text in beginnings):
        return type(error)("the server's words quote a response, so they are not shown")
    return error


def is_silent(error: TransportError) -> bool:
    # Any other answer, a refusal included, proves that the server is there.
    return isinstance(error, (UnavailableError, DeadlineError)) and not isinstance(error, BusyError)
