"""`scoremux serve` as a user starts it, on free ports of loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SCOREMUX = str(Path(sys.executable).with_name("scoremux"))
START_S = 120.0


@dataclass(frozen=True)
class Served:
    """A server that is ready. grpc, http, metrics, watch: ports."""

    process: psutil.Process
    grpc: int
    http: int
    metrics: int
    watch: int

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def named(self, name: str) -> list[psutil.Process]:
        """Return the server's processes whose names begin so: `tritonserver`, `triton_python`, `haproxy`."""
        # The kernel cuts names at 15 characters.
        return [child for child in self.process.children(recursive=True) if child.name().startswith(name[:15])]


def free_ports(count: int) -> list[int]:
    """Return so many ports of loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextmanager
def serving(repository: Path, log: Path, *arguments: str) -> Iterator[Served]:
    """Serve a repository; `arguments` are those of `scoremux serve`. Raises RuntimeError where it does not start."""
    ports = dict(zip(("grpc", "http", "metrics", "watch"), free_ports(4), strict=True))
    settings = [word for name, port in ports.items() for word in ("--set", f"{name}_port={port}")]
    command = [SCOREMUX, "serve", "--repository", str(repository), "--log", str(log.with_suffix(".triton.log"))]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *settings, *arguments], stdout=output, stderr=output)
    served = Served(psutil.Process(process.pid), **ports)
    try:
        deadline = time.monotonic() + START_S
        while not answers(f"http://127.0.0.1:{served.watch}/readyz"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"scoremux serve is not ready: {log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.05)
        yield served
    finally:
        process.terminate()
        process.wait(90)


def answers(url: str) -> bool:
    """Return whether a GET is answered with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
