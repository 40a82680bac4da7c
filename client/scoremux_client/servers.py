"""The servers of one client: which are up, which has the fewest requests, and when a failed request is sent again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from scoremux_client.errors import BusyError, DeadlineError, InputError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Columns, Response, encode
from scoremux_client.transports.transport import Transport

LATE = "no answer within the deadline of the request"
_PROBE = [Response(task="", text="")]
"""A row without a task costs nothing and gets a status, which proves that the model answers. Triton's own readiness
stays green for a while after the process that scores has died."""

_LEAST_PROBE_S = 10.0


@dataclass(frozen=True)
class Retries:
    """Exponential backoff with full jitter: before try n + 1 a uniform draw from 0…min(cap_s, base_s · 2ⁿ⁻¹) seconds.

    patience_s: how long a request is tried, counted from the first time that it failed or found no server up.
        0 never tries again.
    contact_s: the same as long as no server has answered this client yet, so that a wrong address is reported soon.
    """

    patience_s: float = 30.0
    contact_s: float = 10.0
    base_s: float = 0.1
    cap_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("patience_s", "contact_s", "base_s", "cap_s"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 0 or more")

    def pause_s(self, failures: int) -> float:
        """Return the wait after so many failures in a row, in seconds."""
        # The exponent is bounded, or a long outage overflows.
        return random.uniform(0, min(self.cap_s, self.base_s * 2 ** min(failures - 1, 30)))


NO_RETRIES = Retries(patience_s=0, contact_s=0)
"""Every failure is raised at once."""


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


class Servers:
    """Shared by the calls of a client, from any thread.

    A server that fails is left alone until it answers a probe. Probes are sent from timers, as long as there is a call
    that may need the server: a call whose caller is busy with the rows it was given holds nobody up.
    """

    def __init__(self, transports: Sequence[Transport], retries: Retries, timeout_s: float | None = None) -> None:
        self.retries = retries
        # As long as a batch may be computed before it, but no longer than any request of this client.
        probe_s = max(_LEAST_PROBE_S, retries.patience_s)
        self._probe_s = probe_s if timeout_s is None else min(probe_s, timeout_s)
        self.last_error: TransportError = UnavailableError("no server has been tried")
        self._servers = [Server(transport) for transport in transports]
        self._calls: list[Callable[[], None]] = []
        self._answered = False
        self._uses = 0
        self._lock = threading.RLock()

    @property
    def patience_s(self) -> float:
        """How long a request is tried, in seconds."""
        return self.retries.patience_s if self._answered else min(self.retries.patience_s, self.retries.contact_s)

    def join(self, wake: Callable[[], None]) -> None:
        """Begin a call. `wake` is called, from any thread, when a server comes up or fails a probe."""
        with self._lock:
            self._calls.append(wake)
            for server in self._servers:
                if not server.up and not server.probing:
                    self._probe_in(server, 0)

    def leave(self, wake: Callable[[], None]) -> None:
        """End a call. The last one cancels the probes in flight."""
        with self._lock:
            self._calls.remove(wake)
            probes = [] if self._calls else [server.probe for server in self._servers if server.probe]
        for probe in probes:
            probe.cancel()

    def acquire(self, avoid: Server | None = None) -> Server | None:
        """Return the server for one request, None while none is up; the caller must release it.

        Args:
            avoid: a server to leave out if another one is up.
        """
        with self._lock:
            # Without retries a request does not wait for a probe: it is the probe.
            up = [server for server in self._servers if server.up or not self.patience_s]
            up = [server for server in up if server is not avoid] or up
            if not up:
                return None
            server = min(up, key=lambda server: (server.in_flight, server.last_used))
            self._uses += 1
            server.in_flight, server.last_used = server.in_flight + 1, self._uses
            return server

    def release(self, server: Server) -> None:
        """Count a request out, however it ended."""
        with self._lock:
            server.in_flight -= 1

    def report(self, server: Server, error: TransportError | None) -> None:
        """Note how a request ended; not for one that was cancelled, which says nothing about its server."""
        with self._lock:
            if error is None or not _silent(error):
                self._came_up(server)
                return
            self.last_error = error
            if server.up:
                server.up = False
                if not server.probing:
                    self._probe_in(server, 0)

    def another_is_up(self, server: Server | None) -> bool:
        """Whether a server other than this one is up."""
        return any(other.up for other in self._servers if other is not server)

    def close(self) -> None:
        """Close every transport."""
        for server in self._servers:
            server.transport.close()

    def _came_up(self, server: Server) -> None:
        self._answered = True
        server.failed_probes = 0
        if not server.up:
            server.up = True
            self._wake_calls()

    def _probe_in(self, server: Server, pause_s: float) -> None:
        server.probing = True
        timer = threading.Timer(pause_s, self._probe, [server])
        timer.daemon = True
        timer.start()

    def _probe(self, server: Server) -> None:
        with self._lock:
            if not self._calls:
                server.probing = False
                return
        # Without the lock: a transport may have one of its own.
        probe = submit(server.transport, encode(_PROBE), self._probe_s)
        with self._lock:
            server.probe, unwanted = probe, not self._calls
        probe.add_done_callback(lambda done: self._probed(server, done))
        if unwanted:
            probe.cancel()

    def _probed(self, server: Server, probe: Future[Columns]) -> None:
        with self._lock:
            server.probing, server.probe = False, None
            error = error_of(probe)
            if error is None or not _silent(error):
                self._came_up(server)
            elif not server.up and self._calls:
                server.failed_probes += 1
                self.last_error = error
                self._probe_in(server, self.retries.pause_s(server.failed_probes))
                self._wake_calls()

    def _wake_calls(self) -> None:
        for wake in self._calls:
            wake()


def submit(transport: Transport, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
    """Send one request. Never raises: the future does."""
    try:
        return transport.submit(inputs, timeout_s)
    except Exception as error:
        future: Future[Columns] = Future()
        future.set_exception(error)
        return future


def error_of(future: Future[Columns]) -> TransportError | None:
    """Return why a finished request brought nothing, None if it brought an answer."""
    try:
        error = future.exception()
    except CancelledError:
        return DeadlineError(LATE)
    if error is None or isinstance(error, TransportError):
        return error
    # The caller's own transport. The message may quote what it was given, in a traceback too.
    return RejectedError(f"the transport raised {type(error).__name__}")


def _silent(error: TransportError) -> bool:
    # Any other answer, a refusal included, proves that the server is there.
    return isinstance(error, (UnavailableError, DeadlineError)) and not isinstance(error, BusyError)
