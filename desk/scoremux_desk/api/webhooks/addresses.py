"""Where webhooks may point: https to public addresses, and hosts that the operator lists.

A platform chooses the URL, and this server sends a request there: without a check it would reach what only this server
can reach. A name is resolved once for each delivery, and the request goes to the address that was checked.
"""

import asyncio
import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from scoremux_files import InputError, ScoremuxError

_LOOKUP_S = 5.0
_POLL_S = 0.02
MOST_LOOKUPS, MOST_OF_CALLER = 64, 2
"""Names that are looked up at once: in all, and in one lane of a token, of which it has three."""
_Place = tuple[str, int]
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
_REFUSED = (
    "168.63.129.16/32",  # metadata of Azure
    "192.0.0.0/24",  # protocol assignments, metadata of Oracle's cloud
    "192.88.99.0/24",  # 6to4 relays
    "2001::/23",  # Teredo and other protocol assignments
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4, which has an IPv4 address within
    "3fff::/20",  # documentation
)
_REFUSED_NETWORKS = [ipaddress.ip_network(network) for network in _REFUSED]


def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses that this machine has for a host. Raises OSError or UnicodeError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address is the same machine for everyone on the Internet."""
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _REFUSED_NETWORKS if network.version == ip.version):
        return False
    # The other networks of IPv6 are local, or have IPv4 addresses within (::ffff:0:0/96, 64:ff9b::/96).
    return ip in _PUBLIC_IPV6 if ip.version == 6 else ip.is_global and not ip.is_multicast


class NotLookedUpError(ScoremuxError):
    """A name cannot be looked up now. began: whether it was tried, and did not end in time."""

    def __init__(self, host: str, began: bool) -> None:
        super().__init__(f"{host} cannot be looked up now: {'no answer' if began else 'too many lookups'}")
        self.began = began


class WebhookAddresses:
    """Checks URLs, and finds the addresses to connect to."""

    def __init__(self, allowed: Collection[str] = (), resolve: Callable[[str, int], Sequence[str]] = resolved) -> None:
        """Take the hosts, or HOST:PORT, that the operator lists, which may have any address."""
        self._allowed = {host.lower() for host in allowed}
        self._resolve = resolve
        self._running = dict[_Place, Future[Sequence[str]]]()  # one a host: a name that hangs takes one thread
        self._threads = ThreadPoolExecutor(MOST_LOOKUPS, "webhook-lookup")
        self._used = Counter[Hashable]()
        self._lock = threading.Lock()

    async def of(self, url: str, lane: Hashable = None) -> tuple[httpx.URL, list[str]]:
        """Return the parts of a webhook's URL, and the addresses to which its requests may go.

        Args:
            lane: Whose name it is: names that hang hold up the others of their lane alone.

        Raises:
            InputError: the URL is not one of a webhook, or its host has an address that is refused.
            NotLookedUpError: the name servers do not answer, or too many names are looked up.
        """
        parsed = _parsed(url)
        host = parsed.host
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        is_listed = not self._allowed.isdisjoint((host, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
        try:
            addresses = await self._addresses((host, port), lane)
            is_open = bool(addresses) and (is_listed or all(map(is_public, addresses)))
        except (OSError, ValueError):
            is_open = False
        if not is_open:  # one sentence for all reasons: names of the operator's network are not for platforms
            raise InputError(
                f"{host} does not resolve to public addresses alone; the operator can list it: --allow-webhook {host}"
            )
        is_local = is_listed and all(ipaddress.ip_address(address).is_loopback for address in addresses)
        if parsed.scheme != "https" and not is_local:
            raise InputError("a webhook takes https; http is for a listed host on the machine of the API")
        return parsed, addresses

    async def _addresses(self, place: _Place, lane: Hashable) -> list[str]:
        """Return the addresses of a host. Raises OSError, ValueError, NotLookedUpError."""
        deadline = time.monotonic() + _LOOKUP_S
        while (lookup := self._lookup(place, lane)) is None:
            if time.monotonic() > deadline:
                raise NotLookedUpError(place[0], began=False)
            await asyncio.sleep(_POLL_S)
        waiting = asyncio.wrap_future(lookup)
        await asyncio.wait([waiting], timeout=deadline - time.monotonic())
        if not waiting.done():
            raise NotLookedUpError(place[0], began=True)
        try:
            return list(waiting.result())
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise NotLookedUpError(place[0], began=True) from None
            raise

    def _lookup(self, place: _Place, lane: Hashable) -> Future[Sequence[str]] | None:
        """Return the lookup of a host that runs, or a new one; None where the lane, or all of them, are busy."""
        with self._lock:
            if (running := self._running.get(place)) is not None:
                return running
            if self._used[lane] >= MOST_OF_CALLER or self._used.total() >= MOST_LOOKUPS:
                return None
            self._used[lane] += 1
            self._running[place] = lookup = self._threads.submit(self._resolve, *place)

        def end(_: object) -> None:
            with self._lock:
                self._running.pop(place, None)
                self._used -= Counter([lane])  # without those that are zero now

        lookup.add_done_callback(end)
        return lookup


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
        is_plain = parsed.host and not parsed.userinfo and not parsed.fragment and (parsed.port or 443) < 65_536
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError("the URL of the webhook is malformed") from error
    if parsed.scheme not in ("https", "http") or not is_plain:
        raise InputError("the URL of a webhook is https:// with a host, and has neither a user nor a fragment")
    return parsed
