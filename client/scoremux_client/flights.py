"""Requests under way."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from scoremux_client import rows
from scoremux_client.chunks import Chunk
from scoremux_client.errors import DeadlineError, RejectedError, TransportError
from scoremux_client.rows import Columns
from scoremux_client.scored import Scored
from scoremux_client.servers import Server, Ticket


@dataclass(eq=False)
class Flight:
    """A request under way: with a chunk and a ticket, or a probe of `server`; ahead: a probe ahead of its chunk."""

    future: Future[Columns]
    sent_at: float
    expires_at: float | None
    server: Server
    chunk: Chunk | None = None
    ticket: Ticket | None = None
    ahead: bool = False

    def outcome(self) -> tuple[list[Scored], TransportError | None]:
        """Return what a request brought, or why it brought nothing."""
        try:
            if not self.future.done() or self.future.cancelled():
                raise DeadlineError("no answer within the deadline of the request")
            columns = self.future.result()
            if self.chunk is None or self.ahead:
                return [], None
            return rows.decode(self.chunk.responses, columns), None
        except TransportError as error:
            return [], error
        except (Exception, CancelledError) as error:
            # A transport of the caller's own; its message may quote what it was given.
            own = RejectedError(f"the transport raised {type(error).__name__}")
            own.__cause__ = error
            return [], own
