"""Where the server listens."""

from __future__ import annotations

import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from scoremux_server.errors import SetupError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Endpoints:
    """Triton's ports on `address`, and the watcher's port. metrics_address: empty for `address`."""

    grpc: int
    http: int
    metrics: int
    address: str = LOOPBACK
    watch: int = 0
    watch_address: str = LOOPBACK
    metrics_address: str = ""

    @property
    def metrics_host(self) -> str:
        """Where Triton's metrics listen."""
        return self.metrics_address or self.address

    @property
    def grpc_url(self) -> str:
        return f"{_reachable(self.address)}:{self.grpc}"

    @property
    def http_url(self) -> str:
        return f"http://{_reachable(self.address)}:{self.http}"

    @property
    def metrics_url(self) -> str:
        return f"http://{_reachable(self.metrics_host)}:{self.metrics}/metrics"

    @property
    def watch_url(self) -> str:
        return f"http://{_reachable(self.watch_address)}:{self.watch}"

    @classmethod
    def choose(
        cls,
        grpc: int | None = None,
        http: int | None = None,
        metrics: int | None = None,
        watch: int | None = None,
        *,
        address: str = LOOPBACK,
        watch_address: str = LOOPBACK,
        metrics_address: str = "",
        checked: bool = True,
    ) -> Endpoints:
        """Take the given ports, and free ones for the rest. Raises SetupError naming a port that is taken.

        checked: whether the given ports must be free now.
        """
        if not checked:
            free = cls.choose()
            ports = (grpc or free.grpc, http or free.http, metrics or free.metrics)
            return cls(*ports, address, watch or free.watch, watch_address, metrics_address)
        wanted = ((grpc, "gRPC", address), (http, "HTTP", address), (metrics, "metrics", metrics_address or address))
        with ExitStack() as held:  # all at once, so that no port is chosen twice
            taken = [_reserve(host, port, name, held) for port, name, host in wanted]
            own = _reserve(watch_address, watch, "watcher's", held)
            return cls(taken[0], taken[1], taken[2], address, own, watch_address, metrics_address)


def is_loopback(address: str) -> bool:
    """Whether `address` is an IP address that only this machine can reach."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


def _reachable(address: str) -> str:
    return bracketed({"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address))


def reserve(address: str, port: int, name: str) -> None:
    """Raise SetupError where `port` is taken now."""
    with ExitStack() as held:
        _reserve(address, port, name, held)


def _reserve(address: str, port: int | None, name: str, held: ExitStack) -> int:
    listener = held.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if port:
        # Triton sets it too: a given port in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port or 0))
        listener.listen()  # so that nobody else, this function included, gets the port too
    except (OSError, OverflowError) as error:
        where = "" if address == LOOPBACK else f" on {address}"
        raise SetupError(f"the {name} port {port}{where} cannot be used: {error}") from error
    return int(listener.getsockname()[1])
