"""How a chunk of rows reaches a server: the seam that `scoremux_client.testing` replaces."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Protocol
from urllib.parse import urlsplit

from scoremux_client.errors import InputError
from scoremux_client.rows import Columns
from scoremux_client.security import Tls

_SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}


class Transport(Protocol):
    """Sends one chunk; the future gives the output tensors or raises a `TransportError`.

    `submit` never waits. A future that is cancelled takes its request with it. Both may be called from any thread.
    """

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]: ...

    def close(self) -> None: ...


def connect(url: str, tls: Tls | None = None, headers: Mapping[str, str] | None = None) -> Transport:
    """Return the transport for ``host:port`` or a URL of grpc, grpcs, http or https. Nothing is sent yet.

    Raises InputError where the address makes no sense.
    """
    scheme, address, path = _parse(url)
    secure = _SCHEMES[scheme] or tls is not None
    if secure and "://" in url and not _SCHEMES[scheme]:
        raise InputError(f"{url} is not encrypted but certificates were given; say {scheme}s:// or leave them out")
    certificates = (tls or Tls()) if secure else None
    # Imported here: a user of one protocol does not pay for the other.
    if scheme.startswith("http"):
        from scoremux_client.http_transport import HttpTransport

        return HttpTransport(address, path, certificates, headers)
    if path:
        raise InputError(f"{url} has a path, which gRPC has no use for; say host:port")
    from scoremux_client.grpc_transport import GrpcTransport

    return GrpcTransport(address, certificates, headers)


def _parse(url: str) -> tuple[str, str, str]:
    """Return scheme, ``host:port`` and path."""
    try:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        port = parts.port
    except ValueError:
        port = None
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES or not parts.hostname or port is None:
        raise InputError(f"{url!r} is no address; say host:port, grpcs://host:port or https://host:port")
    if parts.username is not None or parts.query or parts.fragment:
        # Not repeated: it may hold a password.
        raise InputError("an address has a user, a query or a fragment; credentials go into token or headers")
    return parts.scheme, parts.netloc, parts.path.rstrip("/")
