"""Where webhooks may point: https to public addresses, and whatever the operator lists.

A platform chooses the URL, and this server sends a request there: without a check it would reach what only this server
can reach. A name is resolved once for each delivery, and the request goes to the address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from scoremux_client.errors import InputError

Resolve = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host. Raises OSError or UnicodeError."""

_LOOKUPS = 32
_LOOKUP_S = 5.0
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
_REFUSED = [
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # metadata of Azure
        "192.0.0.0/24",  # protocol assignments, metadata of Oracle's cloud
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo and other protocol assignments
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which has an IPv4 address within
        "3fff::/20",  # documentation
    )
]


def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses that this machine has for a host."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether anyone on the Internet reaches the same machine under an address."""
    ip = ipaddress.ip_address(address)
    if any(ip in network for network in _REFUSED if network.version == ip.version):
        return False
    if ip.version == 6:  # whose other networks hold IPv4 addresses (::ffff:0:0/96, 64:ff9b::/96), or are local
        return ip in _PUBLIC_IPV6
    return ip.is_global and not ip.is_multicast


class WebhookAddresses:
    """Checks URLs, and finds the address to connect to."""

    def __init__(self, allowed: Collection[str] = (), resolve: Resolve = resolved) -> None:
        """Take the hosts that the operator lists: any address is allowed for them."""
        self._allowed = {host.lower() for host in allowed}
        self._resolve = resolve
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "webhook-lookup")  # one that hangs must not stop other work

    async def of(self, url: str) -> list[str]:
        """Return the addresses to which a request for a URL may go.

        Raises:
            InputError: the URL is not one of a webhook, or its host has an address that is refused.
        """
        parsed = parsed_url(url)
        host, is_listed = parsed.host, parsed.host in self._allowed
        lookup = asyncio.get_running_loop().run_in_executor(
            self._lookups, self._resolve, host, parsed.port or (443 if parsed.scheme == "https" else 80)
        )
        try:
            addresses = list(await asyncio.wait_for(lookup, _LOOKUP_S))
            local = all(ipaddress.ip_address(address).is_loopback for address in addresses)
            public = all(map(is_public, addresses))
        except (OSError, ValueError, asyncio.TimeoutError):
            addresses, local, public = [], False, False
        # One sentence for all reasons: names of the operator's network are not for platforms.
        if not addresses or not (public or is_listed):
            raise InputError(
                f"{host} does not resolve to public addresses alone; the operator can list it: --allow-webhook {host}"
            )
        if parsed.scheme != "https" and not (is_listed and local):
            raise InputError("a webhook takes https; http is for a listed host on the machine of the API")
        return addresses


def parsed_url(url: str) -> httpx.URL:
    """Return the parts of a webhook's URL. Raises InputError."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InputError("the URL of the webhook is malformed") from error
    is_plain = parsed.host and not parsed.userinfo and not parsed.fragment and (parsed.port or 443) < 65_536
    if parsed.scheme not in ("https", "http") or not is_plain:
        raise InputError("the URL of a webhook is https:// with a host, and has neither a user nor a fragment")
    return parsed
