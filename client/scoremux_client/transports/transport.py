"""The interface `Transport`, certificates, and the meaning of a server's errors.

Tests take the transport of `scoremux_client.testing` instead.
"""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    InputError,
    RejectedError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.rows import Answer, Columns
from scoremux_files.errors import reading

_FULL = re.compile(r"maximum queue size|send again in [0-9.]+ s", re.IGNORECASE)
# A model that is being loaded has no versions or is not ready; the Python backend says that its stub is not healthy
# from the stub's death until its restart, with code INTERNAL, and so that it has no shared memory left. A model that
# does not exist "is not found".
_RESTARTING = re.compile(
    r"has no available versions|is not at ready state|Server is stopping|Stub process .*is not healthy"
    r"|Failed to increase the shared memory pool size",
    re.IGNORECASE | re.DOTALL,
)
# gRPC's own words for a lost connection, under codes that servers use for refusals too.
_LOST = re.compile(r"RST_STREAM|Stream removed|GOAWAY|Socket closed|Connection reset", re.IGNORECASE)


_MOST_LETTERS = 500
MOST_ANSWER_BYTES = 64 << 20
"""Answers that are larger are not read: those of 512 rows have a few MB with embeddings."""


class Transport(Protocol):
    """Sends one request; the future gives the output tensors or raises a `TransportError`.

    `submit` never waits. A future that is cancelled takes its request with it. Both may be called from any thread.
    """

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer: ...

    def close(self) -> None: ...


_WRONG_PORT = {
    "(?i)wrong.version.number|eof occurred in violation": "this port does not seem to speak TLS",
    "parsing HTTP/2|failed to connect.*Socket closed": "this port does not seem to speak gRPC: Triton's is 8001 unless "
    "given",
    "failed to connect": "is a server running there? A front door takes grpcs:// alone, with the certificate of its "
    "authority",
}
"""What a transport says of a wrong port → what is wrong."""


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


def plain(message: str) -> str:
    """Return a server's words on one line of at most 500 characters, without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in message[:_MOST_LETTERS]).strip()


def explained(message: str) -> str:
    """Return a transport's words, with their meaning where the address has a wrong port or scheme."""
    meaning = next((meaning for words, meaning in _WRONG_PORT.items() if re.search(words, message)), "")
    return f"{message} ({meaning})" if meaning else message


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


def _read(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    with reading(Path(path)):
        return Path(path).read_bytes()
