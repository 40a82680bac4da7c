"""How a request reaches a server: addresses, certificates, headers, and what a server's errors mean.

`Transport` is the seam that `scoremux_client.testing` replaces.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    InputError,
    RejectedError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.rows import Columns
from scoremux_files.errors import reading

_SCHEMES = {"grpc": False, "grpcs": True, "http": False, "https": True}
_VISIBLE = frozenset(map(chr, range(0x20, 0x7F)))

_FULL = re.compile(r"maximum queue size", re.IGNORECASE)
# A model that is being loaded has no versions or is not ready; the Python backend says that its stub is not healthy
# from the stub's death until its restart, with code INTERNAL. A model that does not exist "is not found".
_RESTARTING = re.compile(
    r"has no available versions|is not at ready state|Server is stopping|Stub process .*is not healthy",
    re.IGNORECASE | re.DOTALL,
)
# gRPC's own words for a lost connection, under codes that servers use for refusals too.
_LOST = re.compile(r"RST_STREAM|Stream removed|GOAWAY|Socket closed|Connection reset", re.IGNORECASE)


class Transport(Protocol):
    """Sends one request; the future gives the output tensors or raises a `TransportError`.

    `submit` never waits. A future that is cancelled takes its request with it. Both may be called from any thread.
    """

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tls:
    """PEM files. Without `root_certificates` the server's certificate is checked against the system's.

    client_certificate, client_key: given together if the server asks for a client's certificate.
    """

    root_certificates: str | Path | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise InputError("client_certificate and client_key belong together; give both or none")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return the contents of roots, key and certificate. Raises InputError naming a file that cannot be read."""
        # gRPC carries Mozilla's roots and never looks at the system's.
        roots = self.root_certificates or ssl.get_default_verify_paths().cafile
        return _read(roots), _read(self.client_key), _read(self.client_certificate)

    def context(self) -> ssl.SSLContext:
        """Return them for Python's ssl, TLS 1.2 or newer. Raises InputError naming what cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.root_certificates)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.client_certificate is not None:
                context.load_cert_chain(self.client_certificate, self.client_key)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"a certificate or key of {self} cannot be used: {error}") from error
        return context


def connect(
    url: str,
    tls: Tls | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    insecure: bool = False,
    embeddings: bool = False,
) -> Transport:
    """Return the transport for ``host:port`` or a URL of grpc, grpcs, http or https. Nothing is sent yet.

    Args:
        url: the address.
        tls: certificates; with ``host:port`` they mean that the connection is encrypted.
        headers: sent with every request.
        insecure: whether credentials may cross the network unencrypted.
        embeddings: whether requests ask for EMBEDDING.

    Raises:
        InputError: the address makes no sense, or credentials would be readable on the network.
    """
    scheme, host, address, path = _parse(url)
    secure = _SCHEMES[scheme] or tls is not None
    if secure and "://" in url and not _SCHEMES[scheme]:
        raise InputError(f"{url} is not encrypted but certificates were given; say {scheme}s:// or leave them out")
    if not secure and not insecure and "authorization" in (headers or {}) and not _loopback(host):
        raise InputError(
            f"{address} is another machine and the connection is not encrypted, so the token could be read on the way; "
            "use grpcs:// or https://, or say insecure=True (--insecure) to send it anyway"
        )
    certificates = (tls or Tls()) if secure else None
    # Imported here: a user of one protocol does not pay for the other.
    if scheme.startswith("http"):
        from scoremux_client.transports.http import HttpTransport

        return HttpTransport(address, path, certificates, headers, embeddings=embeddings)
    if path:
        raise InputError(f"{url} has a path, which gRPC has no use for; say host:port")
    from scoremux_client.transports.grpc import GrpcTransport

    return GrpcTransport(address, certificates, headers, embeddings=embeddings)


def connect_all(
    urls: Sequence[str | Transport],
    tls: Tls | None,
    headers: Mapping[str, str],
    *,
    insecure: bool,
    embeddings: bool = False,
) -> list[Transport]:
    """Return a transport for each address; those given as transports stay as they are. Raises as `connect` does."""
    if not urls:
        raise InputError("there is no address; give one at least")
    transports: list[Transport] = []
    with ExitStack() as opened:  # closed again if a later address makes no sense
        for url in urls:
            transport = (
                connect(url, tls, headers, insecure=insecure, embeddings=embeddings) if isinstance(url, str) else url
            )
            if isinstance(url, str):
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


def kind_of(code: str, message: str) -> type[TransportError]:
    """Return the error that a status code, by gRPC's name of it, and a message stand for."""
    if "larger than max" in message:  # the words of gRPC and of the front door
        return TooLargeError
    if _FULL.search(message) or code == "RESOURCE_EXHAUSTED":
        return BusyError
    if code in ("UNAVAILABLE", "CANCELLED") or _RESTARTING.search(message) or _LOST.search(message):
        return UnavailableError
    if code == "DEADLINE_EXCEEDED" or "Deadline Exceeded" in message:
        return DeadlineError
    return RejectedError


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


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    with reading(Path(path)):
        return Path(path).read_bytes()
