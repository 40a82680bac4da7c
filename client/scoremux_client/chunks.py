"""Rows on their way: pairs of task and text that are sent once, and the requests they travel in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scoremux_client.errors import TransportError
from scoremux_client.response import Response
from scoremux_client.scored import Scored
from scoremux_client.servers import Server

_DEATHS = 2
"""Deaths of a server that a request may have been part of before its rows are suspected."""

_LONE_DEATHS = 3
"""Deaths with nothing of this client under way but one row, each at a moment drawn anew, that convict the row. Another
client may have a row that kills at the same time; that it strikes three such moments is the chance that is left."""

_PIECES = 16
"""Suspects are halved four times at once: a further request costs milliseconds, a further death costs a restart."""


@dataclass(eq=False, slots=True)
class Pair:
    """A (task, text) with its outcome, once it is known: `scored` or `error`. Rows that are identical share it."""

    response: Response
    scored: Scored | None = None
    error: TransportError | None = None


@dataclass(frozen=True)
class Failure:
    """A try that got no answer. era: the server's at that time.

    alone: it was one row, and nothing else of this client was under way on the server; arrived: it may have got there.
    """

    server: Server
    era: int
    alone: bool
    arrived: bool

    @property
    def by_death(self) -> bool:
        """Whether the server is known by now to have died then, and not at another time."""
        return self.arrived and self.era in self.server.died_in


@dataclass(eq=False)
class Chunk:
    """Pairs that go out in one request. number: place in the call. alone: nothing else may be under way beside it.

    failing_since: its first failure, on the servers' clock `served_s`. seen_up: the recoveries of servers after the
    last of which it waits until `ready_at`, if it goes out alone.
    """

    pairs: list[Pair]
    number: int
    alone: bool = False
    failures: tuple[Failure, ...] = ()
    failing_since: float | None = None
    ready_at: float = 0.0
    seen_up: int = -1

    @property
    def responses(self) -> list[Response]:
        """What is sent."""
        return [pair.response for pair in self.pairs]

    @property
    def deaths(self) -> int:
        """How many tries ended with their server."""
        return sum(failure.by_death for failure in self.failures)

    @property
    def suspect(self) -> bool:
        """Whether servers died too often over these rows to send them together again."""
        return self.deaths >= 1 and len(self.pairs) > 1 if self.alone else self.deaths >= _DEATHS

    @property
    def guilty(self) -> bool:
        """Whether this is one row that killed servers all by itself."""
        deaths = sum(failure.by_death and failure.alone for failure in self.failures)
        return self.alone and len(self.pairs) == 1 and deaths >= _LONE_DEATHS

    def pieces(self) -> list[Chunk]:
        """Return the same rows in smaller chunks that go out alone, one row at least in each."""
        size = -(-len(self.pairs) // _PIECES)
        starts = range(0, len(self.pairs), size)
        return [Chunk(self.pairs[start : start + size], self.number, alone=True) for start in starts]

    def halves(self) -> list[Chunk]:
        """Return the same rows in two chunks, or the chunk itself if it is one row."""
        if len(self.pairs) == 1:
            return [self]
        middle = len(self.pairs) // 2
        return [replace(self, pairs=part) for part in (self.pairs[:middle], self.pairs[middle:])]
