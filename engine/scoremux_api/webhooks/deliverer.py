"""Sends what is in the outbox, at least once and in order by row or batch.

Any number of processes may do so on one database: each leases the deliveries that it sends. A process that is killed
leaves its leases, which end. Each attempt opens a connection of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import anyio
import httpx
from standardwebhooks import Webhook

from scoremux_api.webhooks.addresses import WebhookAddresses
from scoremux_client.errors import InputError
from scoremux_client.transports.transport import Tls
from scoremux_review.database import outbox, schema
from scoremux_review.database.connection import Database
from scoremux_review.errors import DatabaseError

MOST_ATTEMPTS = 20
"""Attempts within about two days, after which a delivery is dead."""

LEASE_S = 30.0
"""Longer than an attempt takes, by more than the clocks of two machines differ."""

_log = logging.getLogger(__name__)


def pause_s(attempts: int) -> float:
    """Return the seconds from a failed attempt, the n-th, to the next: 5 × 3^(n − 1), at most 4 h, ± 20 %."""
    return random.uniform(0.8, 1.2) * min(14_400.0, 5.0 * 3.0 ** (attempts - 1))


@dataclass
class Deliverer:
    """The loop that sends deliveries. It belongs to one event loop.

    Attributes:
        tls: The certificates to trust, those of the system by default.
        attempt_s: How long a receiver may take for the head of its answer, finding its address included.
        poll_s: How often the outbox is looked at.
    """

    database: Database
    addresses: WebhookAddresses
    tls: Tls = field(default_factory=Tls)
    attempt_s: float = 10.0
    poll_s: float = 1.0

    def __post_init__(self) -> None:
        self._context, self._busy, self._wake = self.tls.context(), Counter[str](), asyncio.Event()
        self._ended: list[tuple[Any, float, str, str, float]] = []  # arguments of `outbox.end_lease`

    async def run(self) -> None:
        """Send until this is cancelled. What is being sent then is sent again when its lease ends."""
        async with anyio.create_task_group() as sending:
            while True:
                self._wake.clear()
                ended, self._ended = self._ended, []
                try:
                    leased, until = await asyncio.to_thread(self._turn, ended, dict(self._busy))
                except Exception as error:
                    _log.warning("webhooks wait: %s", error, exc_info=not isinstance(error, DatabaseError))
                    self._ended, leased, until = [*ended, *self._ended], [], 0.0
                for delivery in leased:
                    self._busy[delivery.webhook] += 1
                    sending.start_soon(self._deliver, delivery, until)
                with anyio.move_on_after(self.poll_s):
                    await self._wake.wait()

    def _turn(self, ended: Sequence[Any], busy: Mapping[str, int]) -> tuple[list[Any], float]:
        """Keep what attempts brought, and lease what is due now; return it, and the lease's end."""
        with self.database.read() as connection:  # most of the time there is nothing to do, which needs no lock
            if not ended and not outbox.due(connection, self.database.now(), busy):
                return [], 0.0
        with self.database.write() as connection:
            for attempt in ended:
                outbox.end_lease(connection, *attempt)
            now = self.database.now()
            return outbox.due(connection, now, busy, now + LEASE_S), now + LEASE_S

    async def _deliver(self, delivery: Any, until: float) -> None:
        """Send one delivery, and note what came of it."""
        try:
            if until - self.database.now() < LEASE_S / 2:
                return  # this process was stopped for a while: another one may have the lease by now
            delivered, answer = await self._attempt(delivery)
            attempts = delivery.attempts + 1
            state = schema.DELIVERED if delivered else schema.DEAD if attempts >= MOST_ATTEMPTS else schema.WAITING
            self._ended.append((delivery, until, state, answer, self.database.now() + pause_s(attempts)))
        finally:
            self._busy[delivery.webhook] -= 1
            self._wake.set()

    async def _attempt(self, delivery: Any) -> tuple[bool, str]:
        """Return whether the receiver took a delivery, and what it answered or why it did not."""
        try:
            # Unlike a client, a transport uses no proxy of the environment, which would resolve the name again.
            async with httpx.AsyncHTTPTransport(verify=self._context) as transport:
                answer = await asyncio.wait_for(self._send(transport, delivery), self.attempt_s)
        except asyncio.TimeoutError:
            return False, f"no answer within {self.attempt_s:g} s"
        except (InputError, httpx.ConnectError) as error:
            return False, str(error)
        except Exception as error:  # whatever it was, it counts as an attempt
            return False, f"no answer: {type(error).__name__}"
        redirects = "; redirects are not followed" if answer.is_redirect else ""
        return answer.is_success, f"status {answer.status_code}{redirects}"

    async def _send(self, transport: httpx.AsyncHTTPTransport, delivery: Any) -> httpx.Response:
        """Send a delivery, signed with each secret, to an address that was checked; return the head of the answer."""
        url, addresses = await self.addresses.of(delivery.url)
        at, keys = datetime.now(timezone.utc), json.loads(delivery.secrets)
        headers = {
            "host": url.netloc.decode(), "content-type": "application/json", "user-agent": "scoremux",
            "connection": "close", "webhook-id": delivery.id, "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(Webhook(key).sign(delivery.id, at, delivery.body) for key in keys),
        }  # fmt: skip
        # The certificate is checked for the host of the URL, not for the address.
        times = httpx.Timeout(self.attempt_s, connect=self.attempt_s / 3).as_dict()
        options: dict[str, Any] = {"sni_hostname": url.raw_host.decode(), "timeout": times}

        def post(address: str) -> Awaitable[httpx.Response]:
            target = url.copy_with(host=address)
            request = httpx.Request("POST", target, headers=headers, content=delivery.body, extensions=options)
            return transport.handle_async_request(request)

        for address in addresses[:-1]:
            with suppress(httpx.ConnectError, httpx.ConnectTimeout):
                return await post(address)
        return await post(addresses[-1])
