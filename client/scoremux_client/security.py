"""Certificates and credentials of a connection."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc

from scoremux_client.errors import InputError

_VISIBLE = frozenset(map(chr, range(0x20, 0x7F)))


@dataclass(frozen=True)
class Tls:
    """PEM files. Without `root_certificates` the server's certificate is checked against the system's.

    client_certificate, client_key: given together where the server asks for a client's certificate.
    """

    root_certificates: str | Path | None = None
    client_certificate: str | Path | None = None
    client_key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.client_certificate is None) != (self.client_key is None):
            raise InputError("client_certificate and client_key belong together; give both or none")

    def grpc_credentials(self) -> grpc.ChannelCredentials:
        """Return them for gRPC. Raises InputError naming a file that cannot be read."""
        # gRPC carries Mozilla's roots and never looks at the system's.
        roots = self.root_certificates or ssl.get_default_verify_paths().cafile
        return grpc.ssl_channel_credentials(_read(roots), _read(self.client_key), _read(self.client_certificate))

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


def headers_with(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    """Return the headers every request carries, names in lower case. Raises InputError, which never shows a value."""
    made = {name.lower(): value for name, value in (headers or {}).items()}
    if token is not None:
        if "authorization" in made:
            raise InputError("there is a token and a header authorization; give one of them")
        made["authorization"] = f"Bearer {token}"
    for name, value in made.items():
        if not name or not set(name) <= _VISIBLE - {" ", ":"}:
            raise InputError("a header's name is empty or has characters that HTTP does not allow")
        if not set(value) <= _VISIBLE:
            raise InputError(f"the header {name} has characters that HTTP does not allow")
    return made


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
