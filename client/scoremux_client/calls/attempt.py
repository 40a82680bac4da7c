"""One attempt: rows that are sent to one server once, and why they may have no answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scoremux_client.answer_columns import decode
from scoremux_client.errors import BusyError, DeadlineError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Answer, Columns, Response, Scored, to_bytes
from scoremux_client.transports.transport import Transport, plain

Notify = Callable[[], None]
"""Called, from any thread, where a call may go on."""

_LATE = "no answer within the deadline of the request"
_FEWEST_QUOTED, _QUOTED_LETTERS = 8, 40
"""Letters of a response's beginning that a server's words hold if they quote it: the least, the most to look for."""


@dataclass(eq=False)
class Server:
    """One address and what this client knows of it. Guarded by the lock of its `Servers`, which `judge` it.

    merging: The transport for rows that may go with those of other calls. name: Its address, if that is known.
    rows: How many were sent to it.
    """

    transport: Transport
    merging: Transport
    judge: "Callable[[Server, TransportError | None], None]"
    up: bool = True
    probing: bool = False
    probe: Answer | None = None
    attempts: "set[Attempt]" = field(default_factory=set)
    rows: int = 0
    failed_probes: int = 0
    arithmetic: str = ""
    name: str = ""


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
    answer: Answer = field(default_factory=Answer)
    ended_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether an answer may come yet."""
        return not self.ended_at and (self.expires_at is None or time.monotonic() < self.expires_at)

    def end(self, deadline: float | None, notify: Notify, answer: Answer) -> None:
        """Have the server judged at once, whichever thread has the answer, so that other calls know."""
        ended_at = time.monotonic()
        self.server.attempts.discard(self)
        error = None if answer.cancelled() else error_of(answer, self.responses)
        # Neither a request that was cancelled nor one that the deadline of its call cut short says anything about the
        # server.
        cut_short = isinstance(error, DeadlineError) and deadline is not None and ended_at >= deadline
        if not answer.cancelled() and not cut_short:
            self.server.judge(self.server, error)
        self.ended_at = ended_at
        notify()

    def outcomes(self) -> list[Scored]:
        """Return the outcomes once the attempt is not open any more. Raises TransportError if it has none."""
        if not self.ended_at:  # the transport forgot its deadline
            self.answer.cancel()
            self.server.judge(self.server, DeadlineError(_LATE))
            raise DeadlineError(_LATE)
        if (error := error_of(self.answer, self.responses)) is not None:
            raise error
        try:
            return decode(self.responses, self.answer.result())
        except RejectedError:
            raise
        except Exception as bad:  # the caller's own transport
            raise RejectedError(f"an answer that cannot be read: {type(bad).__name__}") from None


def submit(transport: Transport, inputs: Columns, timeout_s: float | None) -> Answer:
    """Send one request. Never raises: the future does."""
    try:
        return transport.submit(inputs, timeout_s)
    except Exception as error:
        future = Answer()
        future.set_exception(error)
        return future


def error_of(answer: Answer, responses: Sequence[Response]) -> TransportError | None:
    """Return why a finished request has no answer, None if it has one."""
    if answer.cancelled():
        return DeadlineError(_LATE)
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
