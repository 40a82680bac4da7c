"""`scoremux serve` as a user starts it, on free ports of loopback."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SCOREMUX = str(Path(sys.executable).with_name("scoremux"))
START_S = 120.0
GRANT_ENDS = 4_000_000_000


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


def processor_s(process: psutil.Process) -> float:
    """Return the user and system time of a process and its children."""
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


def free_ports(count: int) -> list[int]:
    """Return so many ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(listener.getsockname()[1]) for listener in listeners]


def write_door(folder: Path, names: Sequence[str] = ("token",)) -> tuple[Path, dict[str, str]]:
    """Write a front door's files; return its configuration, and what clients need: port, ca, grant, tokens by name."""
    import trustme

    from scoremux_engine.scoring.permission import Grant

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").unlink(missing_ok=True)  # of a run before, with the same --work
    authority, (port,) = trustme.CA(), free_ports(1)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "door.pem")
    tokens = {}
    for name in names:
        add = [SCOREMUX, "tokens", "add", name, "--tokens", str(folder / "tokens.json"), "--tasks", "*"]
        tokens[name] = max(subprocess.run(add, capture_output=True, text=True, check=True).stdout.split(), key=len)
    key = secrets.token_hex(32)
    (folder / "grant.key").write_text(key, encoding="utf-8")
    keys = f'port = {port}\ncertificate = "door.pem"\ngrant_key = "grant.key"\n'
    (folder / "door.toml").write_text(keys, encoding="utf-8")
    access = {"port": str(port), "ca": str(folder / "ca.pem"), **tokens}
    # Triton's own ports refuse requests that do not come through the door.
    return folder / "door.toml", {**access, "grant": Grant("benchmark", GRANT_ENDS, ("*",)).signed(key.encode())}


@contextmanager
def front_door(file: Path, backends: Sequence[dict[str, str]]) -> Iterator[None]:
    """Run a front door of `write_door` before Tritons, which are tables of door.toml."""
    with file.open("a", encoding="utf-8") as lines:
        for number, keys in enumerate(backends):
            values = {"name": f"triton-{number}", **keys}
            lines.write("\n".join(["[[backends]]", *(f"{k} = {json.dumps(v)}" for k, v in values.items()), ""]))
    with file.with_name("haproxy.log").open("wb") as log:
        process = subprocess.Popen([SCOREMUX, "front-door", str(file)], stdout=log, stderr=log)
    try:
        time.sleep(5)  # it starts, and HAProxy asks each server whether it is ready
        if process.poll() is not None:
            raise RuntimeError(f"the front door ended: see {log.name}")
        yield
    finally:
        process.terminate()
        process.wait(90)


@contextmanager
def serving(
    repository: Path, log: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Serve a repository; `arguments` are those of `scoremux serve`. Raises RuntimeError where it does not start."""
    ports = dict(zip(("grpc", "http", "metrics", "watch"), free_ports(4), strict=True))
    settings = [word for name, port in ports.items() for word in ("--set", f"{name}_port={port}")]
    command = [SCOREMUX, "serve", "--repository", str(repository), "--log", str(log.with_suffix(".triton.log"))]
    with log.open("wb") as output:
        whole = [*command, *settings, *arguments]
        process = subprocess.Popen(whole, stdout=output, stderr=output, env=environment)
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
