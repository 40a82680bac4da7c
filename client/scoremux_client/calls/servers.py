"""The servers of one client: which are up, which has the fewest requests, and when a failed request is sent again."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b

from scoremux_client.calls.attempt import Attempt, Notify, Server, error_of, is_silent, submit
from scoremux_client.calls.merged import MergingTransport
from scoremux_client.calls.request_size import RequestSize
from scoremux_client.errors import BusyError, InputError, RejectedError, TransportError, UnavailableError
from scoremux_client.rows import Answer, Response, Scored, encode
from scoremux_client.transports.transport import Transport

_GRACE_S = 0.25
"""How late a transport may be with its own deadline before the request is cancelled."""

_PROBE = [Response(task="", text="")]
"""A row without a task costs nothing and gets a status, which proves that the model answers. Triton's own readiness
stays green for a while after the process that scores has died."""

_LEAST_PROBE_S = 10.0
_HOT_ROWS, _REMEMBERED_ROWS = 32, 1 << 16
"""Least rows of a hot task, and the rows of a client after which older ones count half."""


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
        """Return the wait after a number of failures in a row, in seconds."""
        # The exponent is bounded, or a long outage overflows.
        return random.uniform(0, min(self.cap_s, self.base_s * 2 ** min(failures - 1, 30)))


NO_RETRIES = Retries(patience_s=0, contact_s=0)
"""Every failure is raised at once."""


class Servers:
    """Shared by the calls of a client, from any thread.

    A server that fails is left alone until it answers a probe. Probes are sent from timers, as long as there is a call
    that may need the server: a call whose caller is busy with its rows delays no other.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        retries: Retries,
        timeout_s: float | None = None,
        *,
        merged: RequestSize | None = None,
        mixed_arithmetic: bool = False,
    ) -> None:
        self._merged = merged
        self._mixed_arithmetic = mixed_arithmetic
        self._retries = retries
        self._timeout_s = timeout_s
        # As long as a batch may be computed before it, but no longer than any request of this client.
        probe_s = max(_LEAST_PROBE_S, retries.patience_s)
        self._probe_s = probe_s if timeout_s is None else min(probe_s, timeout_s)
        self.last_error: TransportError = UnavailableError("no server has been tried")
        self._transports = transports
        self._rows_of, self._rows = Counter[str | bytes](), 0
        self._begin()

    @property
    def patience_s(self) -> float:
        """How long a request is tried, in seconds."""
        retries = self._retries
        return retries.patience_s if self._answered else min(retries.patience_s, retries.contact_s)

    def join(self, notify: Notify) -> None:
        """Begin a call. `notify` is called, from any thread, when a server comes up or fails a probe."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._calls.append(notify)
            for server in self._servers:
                self._probe_if_down(server)

    def leave(self, notify: Notify) -> None:
        """End a call. The last one cancels the probes in flight."""
        with self._lock:
            self._calls.remove(notify)
            probes = [] if self._calls else [server.probe for server in self._servers if server.probe]
        for probe in probes:
            probe.cancel()

    def home(self, task: str | bytes) -> Server | None:
        """Return the server of a task, the same in each client of these servers; None where any server will do.

        Rendezvous hashing: while a server is down, its tasks alone move, to all others.
        """
        if len(self._servers) == 1:
            return None
        with self._lock:
            self._rows_of[task] += 1
            self._rows += 1
            if self._rows > _REMEMBERED_ROWS:
                self._rows_of = Counter({name: half for name, count in self._rows_of.items() if (half := count // 2)})
                self._rows = self._rows_of.total()
            if self._rows_of[task] > max(_HOT_ROWS, self._rows / (50 * len(self._servers))):
                return None
            up = [server for server in self._servers if server.up] or self._servers
            return max(up, key=lambda server: _weight(server.name, task))

    def send(
        self,
        responses: Sequence[Response],
        deadline: float | None,
        notify: Notify,
        *,
        avoid: Server | None,
        alone: bool = False,
        home: Server | None = None,
    ) -> Attempt | None:
        """Send rows to a server that is up, not to `avoid` if there is another; None if no server is up.

        It is `home`, unless `home` has more requests than 1.5 times the servers' mean and 2: then the one with fewest.

        `deadline` is that of the call, by `time.monotonic`. `notify` is called, from any thread, after the attempt.
        `alone`: never in one request with rows of other calls.
        """
        now = time.monotonic()
        left_s = None if deadline is None else max(0.0, deadline - now)
        timeout_s = min((limit for limit in (self._timeout_s, left_s) if limit is not None), default=None)
        with self._lock:
            # Without retries a request does not wait for a probe: it is the probe.
            up = [server for server in self._servers if server.up or not self.patience_s]
            if not up:
                return None
            server = min(up, key=lambda server: (server is avoid, len(server.attempts), server.rows))
            most = 1.5 * sum(len(one.attempts) for one in up) / len(up) + 2
            if home in up and home is not avoid and len(home.attempts) <= most:
                server = home
            server.rows += len(responses)
            expires_at = None if timeout_s is None else now + timeout_s + _GRACE_S
            attempt = Attempt(server, responses, now, expires_at, len(server.attempts))
            server.attempts.add(attempt)
        attempt.answer = submit(server.transport if alone else server.merging, encode(responses), timeout_s)
        attempt.answer.add_done_callback(partial(attempt.end, deadline, notify))
        return attempt

    def check_arithmetic(self, server: Server, outcomes: Sequence[Scored]) -> None:
        """Raise RejectedError if another server computes in another arithmetic than this one did."""
        names = {scored.arithmetic for scored in outcomes} - {""}
        if self._mixed_arithmetic or len(self._servers) == 1 or not names:
            return
        with self._lock:
            server.arithmetic = min(names)
            names.update(other.arithmetic for other in self._servers if other.arithmetic)
        if len(names) > 1:
            raise RejectedError(
                f"the servers compute in different arithmetics ({', '.join(sorted(names))}), so that equal responses "
                "would get different scores: name servers of one, or allow it with mixed_arithmetic"
            )

    def pause_s(self, failures: int, server: Server, error: TransportError) -> float:
        """Return for how many seconds to wait before a request is sent again that failed so often, now on a server."""
        fails_over = failures == 1 and any(other.up for other in self._servers if other is not server)
        if fails_over:
            return 0.0
        server_pause_s = error.pause_s if isinstance(error, BusyError) else 0.0
        return server_pause_s + self._retries.pause_s(failures)

    def close(self) -> None:
        """Close every transport."""
        for transport in self._transports:
            transport.close()

    def _begin(self) -> None:
        """Begin without calls: a forked child must not use its parent's calls or lock."""
        self._pid, self._lock = os.getpid(), threading.RLock()
        self._servers = [
            Server(transport, MergingTransport(transport, self._merged) if self._merged else transport, self._judge)
            for transport in self._transports
        ]
        for place, server in enumerate(self._servers):
            server.name = getattr(server.transport, "url", "") or str(place)
        self._calls: list[Notify] = []
        self._answered = False

    def _judge(self, server: Server, error: TransportError | None) -> None:
        """Note how a request ended."""
        with self._lock:
            if error is None or not is_silent(error):
                self._came_up(server)
                return
            self.last_error = error
            server.up = False
            self._probe_if_down(server)

    def _came_up(self, server: Server) -> None:
        self._answered = True
        server.failed_probes = 0
        if not server.up:
            server.up = True
            self._notify_calls()

    def _probe_if_down(self, server: Server, pause_s: float = 0.0) -> None:
        if server.up or server.probing:
            return
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
            server.probe, unneeded = probe, not self._calls
        probe.add_done_callback(lambda answer: self._probed(server, answer))
        if unneeded:
            probe.cancel()

    def _probed(self, server: Server, probe: Answer) -> None:
        with self._lock:
            server.probing, server.probe = False, None
            error = error_of(probe, _PROBE)
            if error is None or not is_silent(error):
                self._came_up(server)
            elif not server.up and self._calls:
                server.failed_probes += 1
                self.last_error = error
                self._probe_if_down(server, self._retries.pause_s(server.failed_probes))
                self._notify_calls()

    def _notify_calls(self) -> None:
        for notify in self._calls:
            notify()


@lru_cache(maxsize=1 << 17)
def _weight(server: str, task: str | bytes) -> bytes:
    return blake2b(f"{server}\0{task!r}".encode("utf-8", "replace"), digest_size=8).digest()
