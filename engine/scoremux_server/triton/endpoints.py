"""Where the server listens."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from scoremux_server.errors import SetupError

LOOPBACK = "127.0.0.1"
GRPC_PORT, HTTP_PORT, METRICS_PORT, WATCH_PORT = 8001, 8000, 8002, 8003
"""Triton's own defaults, and the next one for the watcher."""

_NAMES = {"grpc": "gRPC", "http": "HTTP", "metrics": "metrics", "watch": "watcher's"}
_STEP, _LAST = 10, 1000


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
        grpc: int = 0,
        http: int = 0,
        metrics: int = 0,
        watch: int = 0,
        *,
        address: str = LOOPBACK,
        watch_address: str = LOOPBACK,
        metrics_address: str = "",
        checked: bool = True,
    ) -> Endpoints:
        """Take the given ports, and any free one for each 0.

        Args:
            grpc, http, metrics, watch: ports, 0 for any free one.
            address, watch_address, metrics_address: as in `Endpoints`.
            checked: whether the given ports must be free now.

        Raises:
            SetupError: a port cannot be used. If it is taken, the message offers ports that are free.
        """
        if not checked:
            free = cls.choose()
            ports = (grpc or free.grpc, http or free.http, metrics or free.metrics)
            return cls(*ports, address, watch or free.watch, watch_address, metrics_address)
        hosts = {"grpc": address, "http": address, "metrics": metrics_address or address, "watch": watch_address}
        wanted = {"grpc": grpc, "http": http, "metrics": metrics, "watch": watch}
        try:
            taken = _reserve_all(hosts, wanted)
        except _TakenError as error:
            raise SetupError(f"{error}{_offer(hosts, wanted)}") from error
        return cls(
            taken["grpc"], taken["http"], taken["metrics"], address, taken["watch"], watch_address, metrics_address
        )


class _TakenError(SetupError):
    """Another program listens there."""


def is_loopback(address: str) -> bool:
    """Whether `address` is an IP address that only this machine can reach."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def bracketed(address: str) -> str:
    """Return an address as it is written before a port."""
    return f"[{address}]" if ":" in address else address


def reserve(address: str, port: int, name: str) -> None:
    """Raise SetupError if `port` is taken now."""
    with ExitStack() as held:
        _reserve(address, port, name, held)


def _reachable(address: str) -> str:
    return bracketed({"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address))


def _reserve_all(hosts: dict[str, str], wanted: dict[str, int]) -> dict[str, int]:
    with ExitStack() as held:  # all at once, so that no port is chosen twice
        return {key: _reserve(hosts[key], port, _NAMES[key], held) for key, port in wanted.items()}


def _reserve(address: str, port: int, name: str, held: ExitStack) -> int:
    listener = held.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if port:
        # Triton sets it too: a given port in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen()  # so that nobody else, this function included, gets the port too
    except (OSError, OverflowError) as error:
        where = "" if address == LOOPBACK else f" on {address}"
        kind = _TakenError if isinstance(error, OSError) and error.errno == errno.EADDRINUSE else SetupError
        cause = getattr(error, "strerror", None) or error
        raise kind(f"the {name} port {port}{where} cannot be used: {cause}") from error
    return int(listener.getsockname()[1])


def _offer(hosts: dict[str, str], wanted: dict[str, int]) -> str:
    """Return the end of a sentence that names the next free ports, each a multiple of `_STEP` above the wanted one."""
    for step in range(_STEP, _LAST, _STEP):
        others = {key: port + step for key, port in wanted.items() if port}
        with suppress(SetupError):
            _reserve_all(hosts, others)
            return "; these are free: " + " ".join(f"--{key}-port {port}" for key, port in others.items())
    return ""
