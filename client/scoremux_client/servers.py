"""The servers of one client: which are up, which has the least to do, and which one died while it had our rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    ServerDiedError,
    ServerDownError,
    TransportError,
    UnavailableError,
)
from scoremux_client.retries import Retries
from scoremux_client.transport import Transport


@dataclass(eq=False)
class Server:
    """One address and what this client knows of it. Guarded by the lock of its `Servers`.

    era: counts its recoveries, so that a failure from before one is not held against it. died_in: the eras that ended
    with its death, seen while it was thought alive. sent: requests so far. holder: the call that has it for itself, or
    waits for that; lent: whether the holder's request is under way.
    """

    transport: Transport
    up: bool = True
    answered: bool = False
    lost: bool = False
    era: int = 0
    died_in: set[int] = field(default_factory=set)
    sent: int = 0
    outstanding: int = 0
    last_turn: int = 0
    holder: object = None
    lent: bool = False
    probing: bool = False
    probe_failures: int = 0
    probe_at: float = 0.0


@dataclass(frozen=True, eq=False)
class Ticket:
    """The right to one request to `server`, with what was known of it at that moment; holder: who has it alone."""

    server: Server
    era: int
    sent: int
    queued: int
    holder: object


class Servers:
    """Shared by the calls of a client, from any thread. `clock` gives seconds."""

    def __init__(
        self, transports: Sequence[Transport], retries: Retries, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.retries = retries
        self.clock = clock
        self._servers = [Server(transport) for transport in transports]
        self._lock = threading.RLock()
        self._watchers: list[Callable[[], None]] = []
        self._turn = 0
        self._out_since: float | None = None
        self._outages_s = 0.0

    @property
    def patience_s(self) -> float:
        """How long rows are tried again, in seconds."""
        known = any(server.answered for server in self._servers)
        return self.retries.patience_s if known else min(self.retries.patience_s, self.retries.contact_s)

    @property
    def out_s(self) -> float:
        """For how long no server has been up, in seconds."""
        since = self._out_since
        return 0.0 if since is None else self.clock() - since

    @property
    def served_s(self) -> float:
        """A clock, in seconds, that stands still while no server is up."""
        with self._lock:
            return self.clock() - self._outages_s - self.out_s

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever a server comes up or becomes free for others."""
        with self._lock:
            self._watchers.append(wake)

    def take(self, call: object, *, alone: bool = False, avoid: Server | None = None) -> Ticket | None:
        """Return a ticket for the server with the fewest requests of ours, None while there is none to have.

        alone: only where nothing else of this client is under way; the server is kept free for that until then.
        avoid: a server to leave out if there is another.
        """
        with self._lock:
            free = [s for s in self._servers if s.up and s.holder is None]
            if alone:
                for server in self._servers:
                    if server.holder is call and not server.up:
                        server.holder = None  # it may never come back
                if free and not any(s.holder is call for s in self._servers):
                    _least_loaded(free, avoid).holder = call
                free = [s for s in self._servers if s.holder is call and s.up and not s.outstanding]
            if not free:
                return None
            server = _least_loaded(free, avoid)
            self._turn += 1
            server.last_turn = self._turn
            server.sent += 1
            server.outstanding += 1
            server.lent = server.lent or alone
            return Ticket(server, server.era, server.sent, server.outstanding - 1, call if alone else None)

    def give_back(self, ticket: Ticket, error: TransportError | None) -> bool:
        """Note how a request ended. Return whether nothing else of this client was under way there meanwhile."""
        server = ticket.server
        with self._lock:
            self._end(ticket)
            if error is None or not _silent(error):
                self.came_up(server)
            elif ticket.era == server.era:
                self._went_down(server, error)
            if ticket.holder or server.holder is not None:
                self._wake_all()
            return ticket.queued == 0 and server.sent == ticket.sent

    def drop(self, ticket: Ticket) -> None:
        """Note that a request was cancelled: that says nothing about its server."""
        with self._lock:
            self._end(ticket)
            self._wake_all()

    def release(self, call: object) -> None:
        """Let go of servers that a call waits to have for itself, and has no more use for."""
        # A call reserves for itself alone, so that most calls, which never do, need no lock to know.
        if not self.is_reserved_for(call):
            return
        with self._lock:
            for server in self._servers:
                if server.holder is call and not server.lent:
                    server.holder = None
            self._wake_all()

    def is_reserved_for(self, call: object) -> bool:
        """Whether a server is kept free for a call that waits until the requests of others there have ended."""
        return any(server.holder is call and not server.lent for server in self._servers)

    @property
    def recoveries(self) -> int:
        """How often a server came back."""
        return sum(server.era for server in self._servers)

    def up_besides(self, server: Server) -> bool:
        """Whether another server is up."""
        return any(other.up for other in self._servers if other is not server)

    def next_probe_at(self) -> float | None:
        """When the next probe is due; None while none is."""
        with self._lock:
            return min((s.probe_at for s in self._servers if not s.up and not s.probing), default=None)

    def due_for_probe(self) -> list[Server]:
        """Return the servers to probe now. Whoever asks must report each with `probed`."""
        with self._lock:
            now = self.clock()
            due = [s for s in self._servers if not s.up and not s.probing and s.probe_at <= now]
            for server in due:
                server.probing = True
            return due

    def probed(self, server: Server, error: TransportError | None) -> None:
        """Note a probe's outcome."""
        with self._lock:
            server.probing = False
            if error is None or not _silent(error):
                self.came_up(server)
                return
            server.probe_failures += 1
            server.probe_at = self.clock() + self.retries.pause_s(server.probe_failures)
            if server.lost and isinstance(error, ServerDownError):
                self._died(server)
            self._wake_all()  # whoever is awake first sends the next one

    def came_up(self, server: Server) -> None:
        """Note that somebody answers there."""
        with self._lock:
            server.answered, server.lost, server.probe_failures = True, False, 0
            if not server.up:
                server.up = True
                server.era += 1
                self._outages_s += self.out_s
                self._out_since = None
                self._wake_all()

    def leave(self, call: object, wake: Callable[[], None], probes: Sequence[Server]) -> None:
        """Forget a call that ends, with the probes it had under way."""
        with self._lock:
            self._watchers.remove(wake)
            for server in self._servers:
                if server.holder is call:
                    server.holder = None
            for server in probes:
                server.probing = False
            self._wake_all()

    def close(self) -> None:
        """Close every transport."""
        for server in self._servers:
            server.transport.close()

    def _end(self, ticket: Ticket) -> None:
        server = ticket.server
        server.outstanding -= 1
        if ticket.holder is not None and server.holder is ticket.holder:
            server.holder, server.lent = None, False

    def _went_down(self, server: Server, error: TransportError) -> None:
        if server.up:
            server.up, server.probe_at = False, self.clock()
            if self._out_since is None and not any(s.up for s in self._servers):
                self._out_since = self.clock()
            server.answered |= isinstance(error, ServerDiedError)
            # A lost connection may be the network's doing: only a server that is then found dead has died.
            server.lost = server.answered
            self._wake_all()
        if server.lost and isinstance(error, ServerDownError):
            self._died(server)

    def _died(self, server: Server) -> None:
        server.lost = False
        server.died_in.add(server.era)

    def _wake_all(self) -> None:
        for wake in self._watchers:
            wake()


def _silent(error: TransportError) -> bool:
    # Whatever else comes back, a refusal included, proves that somebody is there.
    return isinstance(error, (UnavailableError, DeadlineError)) and not isinstance(error, BusyError)


def _least_loaded(servers: Sequence[Server], avoid: Server | None) -> Server:
    """Return the server with the fewest requests, `avoid` only where it is the only one."""
    return min((s for s in servers if s is not avoid), key=_load, default=None) or servers[0]


def _load(server: Server) -> tuple[int, int]:
    return server.outstanding, server.last_turn
