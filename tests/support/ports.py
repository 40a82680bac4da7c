"""Ports for servers under test, which nobody takes between the choice and the start, or while a server restarts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from scoremux_server.triton.endpoints import Endpoints

_LOWEST, _BLOCK = 10_000, 200
_USUAL = 32_768
"""The lowest port that Linux gives, unless it was told another."""


def free_port() -> int:
    """Return a port that nobody listens on; it comes again after 200 others."""
    ports, _ = _ports_of(os.getpid())
    for port in islice(ports, _BLOCK):
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("every port is taken")


def free_endpoints(**addresses: Any) -> Endpoints:
    """Return endpoints on free ports; addresses: as for `Endpoints.choose`."""
    return Endpoints(free_port(), free_port(), free_port(), watch=free_port(), **addresses)


def port_options() -> list[str]:
    """Return options of `scoremux serve` for free ports."""
    others = (f"--set={name}_port={free_port()}" for name in ("http", "metrics", "watch"))
    return [f"--grpc-port={free_port()}", *others]


@lru_cache(maxsize=1)
def _ports_of(_process: int) -> tuple[Iterator[int], socket.socket]:
    """Return the ports of this process, in turn, and the name that keeps other test processes from them.

    They are below those that the system gives to connections, and to servers that ask for any port, where there is
    room for them.
    """
    lowest_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    end = lowest_given if lowest_given > 2 * _LOWEST else _USUAL
    for first in range(_LOWEST, end - _BLOCK, _BLOCK):
        name = socket.socket(socket.AF_UNIX)
        with suppress(OSError):
            name.bind(f"\0scoremux-test-ports-{first}")
            return cycle(range(first, first + _BLOCK)), name
        name.close()
    raise AssertionError("every block of ports is taken")
