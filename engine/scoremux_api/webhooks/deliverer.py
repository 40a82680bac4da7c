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
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import httpx
from standardwebhooks import Webhook

from scoremux_api.webhooks.addresses import WebhookAddresses, parsed_url
from scoremux_client.errors import InputError
from scoremux_client.transports.transport import Tls
from scoremux_review.database import outbox
from scoremux_review.database.connection import Database
from scoremux_review.errors import DatabaseError

MOST_ATTEMPTS = 20
"""Attempts within about two days, after which a delivery is dead."""

LEASE_S = 30.0
"""Longer than an attempt takes, by more than the clocks of two machines differ."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _FACTOR = 5.0, 14_400.0, 3
_BODY_S = 2.0
_MOST_READ_BYTES = 65_536
_log = logging.getLogger(__name__)
_Ended = tuple[Any, float, str, str, float]
"""What `outbox.end_lease` takes."""


def pause_s(attempts: int) -> float:
    """Return the seconds from a failed attempt, the n-th, to the next: 5 × 3^(n − 1), at most 4 h, ± 20 %."""
    return random.uniform(0.8, 1.2) * float(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * _FACTOR ** (attempts - 1)))


class Deliverer:
    """The loop that sends deliveries. It belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        addresses: WebhookAddresses,
        tls: Tls | None = None,
        *,
        attempt_s: float = 10.0,
        poll_s: float = 1.0,
    ) -> None:
        """Take the outbox, the rule for addresses, and the certificates to trust (default: those of the system).

        Args:
            attempt_s: How long a receiver may take for the head of its answer, finding its address included.
            poll_s: How often the outbox is looked at.
        """
        self._database, self._addresses = database, addresses
        self._attempt_s, self._poll_s = attempt_s, poll_s
        self._tls = (tls or Tls()).context()
        self._busy: Counter[str] = Counter()
        self._sending: set[asyncio.Task[None]] = set()
        self._ended: list[_Ended] = []
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Send until this is cancelled. What is being sent then is sent again when its lease ends."""
        try:
            while True:
                self._wake.clear()
                ended, self._ended = self._ended, []
                try:
                    leased, until = await asyncio.to_thread(self._turn, ended, dict(self._busy))
                except DatabaseError as error:
                    _log.warning("webhooks wait for the database: %s", error)
                    self._ended, leased, until = [*ended, *self._ended], [], 0.0
                for delivery in leased:
                    self._busy[delivery.webhook] += 1
                    task = asyncio.create_task(self._deliver(delivery, until))
                    self._sending.add(task)
                    task.add_done_callback(self._sending.discard)
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._poll_s)
        finally:
            for task in self._sending:
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)

    def _turn(self, ended: Sequence[_Ended], busy: Mapping[str, int]) -> tuple[Sequence[Any], float]:
        """Keep what attempts brought, and lease what is due now; return it, and the lease's end."""
        now = self._database.now()
        with self._database.read() as connection:  # nothing to do is the rule, and needs no lock
            if not ended and not outbox.due(connection, now, busy):
                return [], 0.0
        with self._database.write() as connection:
            now = self._database.now()
            for attempt in ended:
                outbox.end_lease(connection, *attempt)
            return outbox.lease(connection, now, now + LEASE_S, busy), now + LEASE_S

    async def _deliver(self, delivery: Any, until: float) -> None:
        """Send one delivery, and note what came of it."""
        try:
            if until - self._database.now() < LEASE_S / 2:
                return  # this process was stopped for a while: another one may have the lease by now
            delivered, answer = await self._attempt(delivery)
            attempts = delivery.attempts + 1
            state = outbox.DELIVERED if delivered else outbox.DEAD if attempts >= MOST_ATTEMPTS else outbox.WAITING
            self._ended.append((delivery, until, state, answer, self._database.now() + pause_s(attempts)))
        finally:
            self._busy[delivery.webhook] -= 1
            self._wake.set()

    async def _attempt(self, delivery: Any) -> tuple[bool, str]:
        """Return whether the receiver took a delivery, and what it answered or why it did not."""
        # A proxy of the environment would resolve the name again.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            try:
                answer = await asyncio.wait_for(self._send(transport, delivery), self._attempt_s)
            except asyncio.TimeoutError:
                return False, f"no answer within {self._attempt_s:g} s"
            except (InputError, httpx.ConnectError) as error:
                return False, str(error)
            except (httpx.HTTPError, OSError, ValueError) as error:
                return False, f"no answer: {type(error).__name__}"
            # The status decides. The rest is read for receivers that stop working where the connection is closed.
            with suppress(httpx.HTTPError, asyncio.TimeoutError):
                await asyncio.wait_for(_read_some(answer), _BODY_S)
            redirects = "; redirects are not followed" if answer.is_redirect else ""
            return answer.is_success, f"status {answer.status_code}{redirects}"

    async def _send(self, transport: httpx.AsyncHTTPTransport, delivery: Any) -> httpx.Response:
        """Send a delivery to an address that was checked; return the head of the answer. Raises as httpx does."""
        url = parsed_url(delivery.url)
        addresses = await self._addresses.of(delivery.url)
        request = httpx.Request(
            "POST", url.copy_with(host=addresses[delivery.attempts % len(addresses)]),
            headers=_headers(delivery, url), content=delivery.body.encode(),
            # The certificate is checked for the host of the URL, not for the address.
            extensions={"sni_hostname": url.raw_host.decode(), "timeout": httpx.Timeout(self._attempt_s).as_dict()},
        )  # fmt: skip
        return await transport.handle_async_request(request)


async def _read_some(answer: httpx.Response) -> None:
    read = 0
    async for part in answer.aiter_raw():
        read += len(part)
        if read > _MOST_READ_BYTES:
            return


def _headers(delivery: Any, url: httpx.URL) -> dict[str, str]:
    """Return the headers of Standard Webhooks, signed with each secret of the webhook, and the host's name."""
    at = datetime.now(timezone.utc)
    signatures = (Webhook(secret).sign(delivery.id, at, delivery.body) for secret in json.loads(delivery.secrets))
    return {
        "host": url.netloc.decode(), "content-type": "application/json", "user-agent": "scoremux",
        "connection": "close", "webhook-id": delivery.id,
        "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": " ".join(signatures),
    }  # fmt: skip
