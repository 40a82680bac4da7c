"""Sends the deliveries of the outbox, at least once and in order by row or batch.

Any number of processes may do so on one database: each leases the deliveries that it sends. A process that is killed
leaves its leases, which end. Each attempt opens a connection of its own.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from ssl import SSLContext, create_default_context
from typing import Any

import anyio
import httpcore
from standardwebhooks import Webhook

from scoremux_desk.api.webhooks.addresses import NotLookedUpError, WebhookAddresses
from scoremux_desk.database.connection import Database
from scoremux_desk.errors import DatabaseError
from scoremux_desk.reading import outbox
from scoremux_files import InputError

LEASE_S = 30.0
"""Longer than an attempt takes, by more than the clocks of two machines differ."""

_HEAD_BYTES = 16_384
"""Most that is read of an answer: its head, with those of status 1xx before it."""

_log = logging.getLogger(__name__)


class _HeadStream(httpcore.AsyncNetworkStream):
    """A connection of which no more is read than a head may be long."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _HEAD_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._left:
            raise httpcore.RemoteProtocolError(f"the head has more than {_HEAD_BYTES:,} bytes")
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()


@dataclass
class Deliverer:
    """The loop that sends deliveries. It belongs to one event loop.

    Attributes:
        tls: With the certificates to trust, those of the system by default.
        attempt_s: How long a receiver may take for the head of its answer, finding its address included.
        poll_s: How often the outbox is looked at.
        in_force: Returns the keys of the tokens that are in force, by name: others get nothing.
    """

    database: Database
    addresses: WebhookAddresses
    tls: SSLContext = field(default_factory=create_default_context)
    attempt_s: float = 10.0
    poll_s: float = 1.0
    in_force: Callable[[], Mapping[str, str] | None] = lambda: None

    def __post_init__(self) -> None:
        self._busy = Counter[str]()
        self._wake = asyncio.Event()
        self._ended: list[tuple[Any, float, float, bool | None, str]] = []  # arguments of `outbox.end_lease`

    async def run(self) -> None:
        """Send until this is cancelled. The next process sends again the deliveries that were being sent."""
        try:
            await self._run()
        finally:
            with anyio.CancelScope(shield=True), suppress(DatabaseError):
                await asyncio.to_thread(self._keep, self._ended)

    async def _run(self) -> None:
        async with anyio.create_task_group() as sending:
            while True:
                self._wake.clear()
                ended = self._ended
                self._ended = []
                try:
                    with anyio.CancelScope(shield=True):
                        leased, until = await asyncio.to_thread(self._turn, ended, dict(self._busy))
                except Exception as error:
                    _log.warning("webhooks wait: %s", error, exc_info=not isinstance(error, DatabaseError))
                    self._ended = [*ended, *self._ended]
                    leased = []
                    until = 0.0
                for delivery in leased:
                    self._busy[delivery.webhook] += 1
                    sending.start_soon(self._deliver, delivery, until)
                with anyio.move_on_after(self.poll_s):
                    await self._wake.wait()

    def _keep(self, ended: Sequence[Any]) -> None:
        with self.database.write() as connection:
            for attempt in ended:
                outbox.end_lease(connection, *attempt)

    def _turn(self, ended: Sequence[Any], busy: Mapping[str, int]) -> tuple[list[Any], float]:
        """Keep the results of attempts, and lease the deliveries that are due; return them, and the lease's end."""
        in_force = self.in_force()
        with self.database.read() as connection:  # most of the time there is nothing to do, which needs no lock
            if not ended and not outbox.due(connection, self.database.now(), busy, None, in_force):
                return [], 0.0
        with self.database.write() as connection:
            for attempt in ended:
                outbox.end_lease(connection, *attempt)
            now = self.database.now()
            return outbox.due(connection, now, busy, now + LEASE_S, in_force), now + LEASE_S

    async def _deliver(self, delivery: Any, until: float) -> None:
        """Send one delivery, and note what came of it."""
        delivered = None
        answer = "the API was stopped"
        try:
            # This process may have been stopped for a while: then another one may have the lease by now.
            if until - self.database.now() > LEASE_S / 2:
                delivered, answer = await self._attempt(delivery)
        finally:
            self._ended.append((delivery, until, self.database.now(), delivered, answer))
            self._busy[delivery.webhook] -= 1
            self._wake.set()

    async def _attempt(self, delivery: Any) -> tuple[bool | None, str]:
        """Return whether the receiver took a delivery (None: nothing was tried), and what it answered or why not."""
        try:
            status = await asyncio.wait_for(self._send(delivery), self.attempt_s)
        except asyncio.TimeoutError:
            return False, f"no answer within {self.attempt_s:g} s"
        except NotLookedUpError as error:
            return False if error.began else None, str(error)
        except (InputError, httpcore.ConnectError) as error:
            return False, str(error)
        except Exception as error:  # whatever it was, it counts as an attempt
            return False, f"no answer: {type(error).__name__}"
        redirects = "; redirects are not followed" if status // 100 == 3 else ""
        return status // 100 == 2, f"status {status}{redirects}"

    async def _send(self, delivery: Any) -> int:
        """Send a delivery, signed with each secret, to an address that was checked; return the status of the answer."""
        # Names that fail and names that do not are looked up apart.
        url, addresses = await self.addresses.of(
            delivery.url, (delivery.token, delivery.failures >= outbox.FEW_FAILURES)
        )
        at = datetime.now(timezone.utc)
        keys = json.loads(delivery.secrets)
        body = delivery.body.encode()
        headers: dict[bytes | str, bytes | str] = {
            "host": url.netloc.decode(),
            "content-length": str(len(body)),
            "content-type": "application/json",
            "user-agent": "scoremux",
            "connection": "close",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(Webhook(key).sign(delivery.id, at, delivery.body) for key in keys),
        }
        port = url.port or (443 if url.scheme == "https" else 80)
        host = url.raw_host.decode()
        stream = await self._connected(addresses, port, host if url.scheme == "https" else "")
        try:
            target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=port, target=url.raw_path)
            options = {"timeout": {"read": self.attempt_s, "write": self.attempt_s}}
            request = httpcore.Request("POST", target, headers=headers, content=body, extensions=options)
            connection = httpcore.AsyncHTTP11Connection(target.origin, _HeadStream(stream))
            return (await connection.handle_async_request(request)).status
        finally:
            await stream.aclose()

    async def _connected(self, addresses: Sequence[str], port: int, host: str) -> httpcore.AsyncNetworkStream:
        """Return a connection to the first address that takes one; with a host, encrypted, and its certificate checked.

        Unlike a client, this uses no proxy of the environment, which would resolve the name again.
        """
        backend = httpcore.AnyIOBackend()
        timeout_s = self.attempt_s / 3
        for number, address in enumerate(addresses, start=1):
            try:
                stream = await backend.connect_tcp(address, port, timeout_s)
                return await stream.start_tls(self.tls, host, timeout_s) if host else stream
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise httpcore.ConnectError("the host has no address")
