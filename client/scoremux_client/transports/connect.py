"""Which transport an address chooses, and which headers go with every request."""

import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

from scoremux_client.contract import GRANT_HEADER, OUTPUTS, TensorSpec
from scoremux_client.errors import InputError
from scoremux_client.transports.transport import Tls, Transport

_SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}
_CREDENTIALS = {"authorization", GRANT_HEADER}
_VISIBLE = frozenset(map(chr, range(0x20, 0x7F)))


def connect(
    url: str,
    tls: Tls | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    insecure: bool | None = False,
    outputs: Sequence[TensorSpec] = OUTPUTS,
    batch: bool = False,
) -> Transport:
    """Return the transport for ``host:port`` or a URL of grpc, grpcs, http or https. Nothing is sent yet.

    Certificates with ``host:port`` mean that the connection is encrypted. Raises InputError where the address makes no
    sense, or where credentials would be readable on the network and `insecure` is not true (None: it is not offered).
    """
    scheme, host, address, path = _parse(url)
    secure = _SCHEMES[scheme] or tls is not None
    if secure and "://" in url and not _SCHEMES[scheme]:
        raise InputError(f"{url} is not encrypted but certificates were given; say {scheme}s:// or leave them out")
    if not (secure or insecure or _CREDENTIALS.isdisjoint(headers or {}) or _loopback(host)):
        anyway = "" if insecure is None else ", or say insecure=True (--insecure) to send it anyway"
        raise InputError(
            f"{address} is another machine and the connection is not encrypted, so the token could be read on the way; "
            f"use {scheme}s://{address}{anyway}"
        )
    certificates = (tls or Tls()) if secure else None
    # Imported here: a user of one protocol does not pay for the other.
    if scheme.startswith("http"):
        from scoremux_client.transports.http import HttpTransport

        return HttpTransport(address, path, certificates, headers, outputs=outputs, batch=batch)
    if path:
        raise InputError(f"{url} has a path, which gRPC has no use for; say host:port")
    from scoremux_client.transports.grpc import GrpcTransport

    return GrpcTransport(address, certificates, headers, outputs=outputs, batch=batch)


def connect_all(
    urls: Sequence[str | Transport],
    tls: Tls | None,
    headers: Mapping[str, str],
    *,
    insecure: bool | None,
    outputs: Sequence[TensorSpec] = OUTPUTS,
    batch: bool = False,
) -> list[Transport]:
    """Return a transport for each address; those given as transports stay as they are. Raises as `connect` does."""
    if not urls:
        raise InputError("an address is missing; give one at least")
    transports: list[Transport] = []
    with ExitStack() as opened:  # closed again if a later address makes no sense
        for url in urls:
            transport = url
            if isinstance(transport, str):
                transport = connect(transport, tls, headers, insecure=insecure, outputs=outputs, batch=batch)
                opened.callback(transport.close)
            transports.append(transport)
        opened.pop_all()
    return transports


def headers_with(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """Return the headers every request carries, names in lower case. Raises InputError, which never shows a value."""
    # Spaces around a value mean nothing in HTTP, and httpx refuses to send them.
    sent = {name.lower(): value.strip(" ") for name, value in (headers or {}).items()}
    if token is not None:
        if "authorization" in sent:
            raise InputError("there is a token and a header authorization; give one of them")
        sent["authorization"] = f"Bearer {token}".strip(" ")
    for name, value in sent.items():
        if not name or not set(name) <= _VISIBLE - {" ", ":"}:
            raise InputError("a header's name is empty or has characters that HTTP does not allow")
        if not set(value) <= _VISIBLE:
            raise InputError(f"the header {name} has characters that HTTP does not allow")
    return sent


def _parse(url: str) -> tuple[str, str, str, str]:
    """Return scheme, host, ``host:port`` and path."""
    try:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES or not parts.hostname or port is None:
        raise InputError(f"{url!r} is not an address; say host:port, grpcs://host:port or https://host:port")
    if parts.username is not None or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise InputError("an address has a user, a query or a fragment; credentials go into token or headers")
    return parts.scheme, parts.hostname, parts.netloc, parts.path.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
