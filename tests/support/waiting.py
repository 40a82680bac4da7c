"""Waiting for what other threads and processes do, and calls side by side."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

from scoremux_engine.model.provenance import processor_name
from scoremux_server.triton.endpoints import Endpoints

T = TypeVar("T")


def until(
    holds: Callable[[], object],
    process: subprocess.Popen[Any] | None = None,
    shown: Callable[[], object] = lambda: "",
    within_s: float = 120.0,
) -> None:
    """Wait until something holds. Fails with what `shown` returns after `within_s`, or when `process` has ended."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert (process is None or process.poll() is None) and time.monotonic() < deadline, shown()
        time.sleep(0.02)


def side_by_side(work: Callable[[T], object], arguments: Iterable[T]) -> None:
    """Call `work` with every argument, each call in a thread of its own; raises what a call raises."""
    arguments = list(arguments)
    with ThreadPoolExecutor(len(arguments)) as threads:
        list(threads.map(work, arguments))


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
    return [f"--set={name}_port={free_port()}" for name in ("grpc", "http", "metrics", "watch")]


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


HEAD = """\
# Results of the slow tests

`make slow` runs them all; each writes its figure here. Every processor keeps its newest figure.

| what | figure | processor | command | taken |
|---|---|---|---|---|
"""

Result = Callable[[str, str], None]
Scaled = Callable[[int], int]


def keep(page: Path, what: str, figure: str, command: str) -> None:
    """Write a row into the page, in place of this processor's row of the same name."""
    rows = page.read_text(encoding="utf-8").removeprefix(HEAD).splitlines() if page.exists() else []
    where = f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"
    what, figure = (text.replace("|", r"\|") for text in (what, figure))
    rows = [row for row in rows if not (row.startswith(f"| {what} |") and f"| {where} |" in row)]
    rows.append(f"| {what} | {figure} | {where} | `{command}` | {date.today().isoformat()} |")
    page.write_text(HEAD + "\n".join(sorted(rows)) + "\n", encoding="utf-8")
