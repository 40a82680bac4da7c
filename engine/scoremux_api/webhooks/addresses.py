"""Where webhooks may point: https to public addresses, and hosts that the operator lists.

A platform chooses the URL, and this server sends a request there: without a check it would reach what only this server
can reach. A name is resolved once for each delivery, and the request goes to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from scoremux_client.errors import InputError

_LOOKUP_S, _THREADS, _MOST_KNOWN = 5.0, 16, 10_000
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


class WebhookAddresses:
    """Checks URLs, and finds the addresses to connect to."""

    def __init__(self, allowed: Collection[str] = (), resolve: Callable[[str, int], Sequence[str]] = resolved) -> None:
        """Take the hosts that the operator lists, which may have any address."""
        self._allowed, self._resolve = {host.lower() for host in allowed}, resolve
        self._running = dict[_Place, Future[Sequence[str]]]()  # one a host: a name that hangs takes one thread
        # Names that hang, and names that are new, take no threads of those whose last lookup ended in time.
        self._quick, self._new, self._slow = (ThreadPoolExecutor(_THREADS, "webhook-lookup") for _ in range(3))
        self._threads_of = dict[_Place, ThreadPoolExecutor]()

    async def of(self, url: str) -> tuple[httpx.URL, list[str]]:
        """Return the parts of a webhook's URL, and the addresses to which its requests may go.

        Raises:
            InputError: the URL is not one of a webhook, or its host has an address that is refused.
        """
        parsed = _parsed(url)
        host, is_listed = parsed.host, parsed.host in self._allowed
        try:
            addresses = await self._addresses((host, parsed.port or 443))
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

    async def _addresses(self, place: _Place) -> list[str]:
        """Return the addresses of a host; none where they are not found in time. Raises OSError, ValueError."""
        waiting = asyncio.wrap_future(lookup := self._lookup(place))
        in_time, _ = await asyncio.wait([waiting], timeout=_LOOKUP_S)
        if len(self._threads_of) >= _MOST_KNOWN:
            self._threads_of.clear()
        if in_time and not waiting.cancelled():
            self._threads_of[place] = self._quick
            return list(waiting.result())
        if lookup.running():
            self._threads_of[place] = self._slow
        waiting.cancel()  # and with it the lookup, if all threads were busy
        return []

    def _lookup(self, place: _Place) -> Future[Sequence[str]]:
        if (lookup := self._running.get(place)) is None:
            self._running[place] = lookup = self._threads_of.get(place, self._new).submit(self._resolve, *place)
            lookup.add_done_callback(lambda _: self._running.pop(place, None))
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
