"""Where the server listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass

from scoremux_server.errors import SetupError

LOOPBACK = "127.0.0.1"
"""The bundled Triton has known remote-code-execution holes (CVE-2025-23310 and others): never anything but loopback."""


@dataclass(frozen=True)
class Endpoints:
    """Ports on 127.0.0.1."""

    grpc: int
    http: int
    metrics: int

    @property
    def grpc_url(self) -> str:
        return f"{LOOPBACK}:{self.grpc}"

    @property
    def http_url(self) -> str:
        return f"http://{LOOPBACK}:{self.http}"

    @property
    def metrics_url(self) -> str:
        return f"http://{LOOPBACK}:{self.metrics}/metrics"

    @classmethod
    def choose(cls, grpc: int | None = None, http: int | None = None, metrics: int | None = None) -> Endpoints:
        """Take the given ports, and free ones for the rest. Raises SetupError naming a port that is taken."""
        with ExitStack() as held:  # all at once, so that no port is chosen twice
            return cls(
                *(_reserve(port, name, held) for port, name in ((grpc, "gRPC"), (http, "HTTP"), (metrics, "metrics")))
            )


def _reserve(port: int | None, name: str, held: ExitStack) -> int:
    listener = held.enter_context(socket.socket())
    if port:
        # Triton sets it too: a given port in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port or 0))
        listener.listen()  # so that nobody else, this function included, gets the port too
    except (OSError, OverflowError) as error:
        raise SetupError(f"the {name} port {port} cannot be used: {error}") from error
    return int(listener.getsockname()[1])
