"""What an address means, and which headers go with every request."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from scoremux_client.contract import GRANT_HEADER, OUTPUTS, TensorSpec
from scoremux_client.errors import InputError
from scoremux_client.transports.transport import Tls, Transport

if TYPE_CHECKING:
    from scoremux_client.transports.grpc import GrpcTransport

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
) -> "GrpcTransport":
    """Return the transport for ``host:port``, ``grpc://host:port`` or ``grpcs://host:port``. Nothing is sent yet.

    Certificates with ``host:port`` mean that the connection is encrypted. Raises InputError where the address makes no
    sense, or where credentials would be readable on the network and `insecure` is not true (None: it is not offered).
    """
    from scoremux_client.transports.grpc import GrpcTransport  # here: `import scoremux` does not pay for it

    scheme, host, address = _parse(url)
    secure = scheme == "grpcs" or tls is not None
    if secure and scheme == "grpc" and "://" in url:
        raise InputError(f"{url} is not encrypted but certificates were given; say grpcs:// or leave them out")
    if not (secure or insecure or _CREDENTIALS.isdisjoint(headers or {}) or _loopback(host)):
        anyway = "" if insecure is None else ", or say insecure=True (--insecure) to send it anyway"
        raise InputError(
            f"{address} is another machine and the connection is not encrypted, so the token could be read on the way; "
            f"use grpcs://{address}{anyway}"
        )
    return GrpcTransport(address, (tls or Tls()) if secure else None, headers, outputs=outputs, batch=batch)


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
    return [
        connect(url, tls, headers, insecure=insecure, outputs=outputs, batch=batch) if isinstance(url, str) else url
        for url in urls
    ]


def headers_with(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """Return the headers every request carries, names in lower case. Raises InputError, which never shows a value."""
    # Spaces around a value mean nothing in HTTP.
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


def _parse(url: str) -> tuple[str, str, str]:
    """Return scheme, host and ``host:port``."""
    try:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if parts.scheme in ("http", "https"):
        # A password in the address is not repeated.
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        raise InputError(
            f"{address} is an HTTP address, but the client speaks gRPC: give Triton's host:port or grpcs://host:port; "
            "a program that speaks HTTP uses POST /v1/score of `scoremux api`"
        )
    if parts.scheme not in ("grpc", "grpcs") or not parts.hostname or port is None:
        raise InputError(f"{url.rpartition('@')[2]!r} is not an address; say host:port or grpcs://host:port")
    if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise InputError(
            "an address has a user, a path, a query or a fragment; say host:port; credentials go into token or headers"
        )
    return parts.scheme, parts.hostname, parts.netloc


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
