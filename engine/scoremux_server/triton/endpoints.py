"""The addresses and ports where the server listens."""

import errno
import ipaddress
import socket
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from scoremux_server.errors import SetupError
from scoremux_server.profile import LOOPBACK, Profile

_NAMES = {"grpc": "gRPC", "http": "HTTP", "metrics": "metrics", "watch": "watcher's"}

ARITHMETIC_HEADER = "scoremux-arithmetic"
"""In every answer of a watcher: the name of what its Triton computes in."""


@dataclass(frozen=True)
class Endpoints:
    """Triton's ports on `address`, and the watcher's port; without `metrics_address`, metrics are on `address` too."""

    grpc: int = 0
    http: int = 0
    metrics: int = 0
    address: str = LOOPBACK
    watch: int = 0
    watch_address: str = LOOPBACK
    metrics_address: str = ""

    @property
    def metrics_host(self) -> str:
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
    def choose(cls, **given: Any) -> "Endpoints":
        """Return endpoints with the given ports, which must be free, and a free port for each 0.

        Raises SetupError where a port cannot be used.
        """
        endpoints, ports = cls(**given), dict[str, Any]()
        hosts = dict.fromkeys(("grpc", "http"), endpoints.address)
        hosts |= {"metrics": endpoints.metrics_host, "watch": endpoints.watch_address}
        with ExitStack() as listeners:  # all at once, so that no port is chosen twice
            for name, host in hosts.items():
                ports[name] = _reserve(host, getattr(endpoints, name), name, listeners)
        return replace(endpoints, **ports)

    @classmethod
    def of(cls, profile: Profile) -> "Endpoints":
        """Return a profile's endpoints. Raises SetupError as `choose` does."""
        ports = {name: getattr(profile, f"{name}_port") for name in _NAMES}
        addresses = {name: getattr(profile, name) for name in ("address", "watch_address", "metrics_address")}
        return cls.choose(**ports, **addresses)


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
    """Raise SetupError if `port` is taken now; `name` is what the message calls it."""
    with ExitStack() as listeners:
        _reserve(address, port, name, listeners)


def _reachable(address: str) -> str:
    return bracketed({"0.0.0.0": LOOPBACK, "::": "::1"}.get(address, address))


def _reserve(address: str, port: int, name: str, listeners: ExitStack) -> int:
    listener = listeners.enter_context(socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET))
    if port:
        # Triton sets it too: a given port in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen()  # so that no other call gets the port, of this function too
    except (OSError, OverflowError) as error:
        place = "" if address == LOOPBACK else f" on {address}"
        cause, in_use = getattr(error, "strerror", None) or error, getattr(error, "errno", 0) == errno.EADDRINUSE
        other = f"; --set {name}_port=0 takes any that is free" if in_use and name in _NAMES else ""
        raise SetupError(f"the {_NAMES.get(name, name)} port {port}{place} cannot be used: {cause}{other}") from error
    return int(listener.getsockname()[1])
