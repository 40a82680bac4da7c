"""`scoremux serve` as a user starts it: a process of its own with its watcher."""

import io
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from scoremux.app import main
from scoremux_server.triton import processes
from scoremux_server.triton.endpoints import Endpoints
from waiting import free_endpoints, until

_MOST_LINES = 3
SCOREMUX = str(Path(sys.executable).with_name("scoremux"))


def run_here(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `scoremux WORDS…` in this process; return what came of it."""
    out, errors, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["scoremux", *map(str, words)])
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), errors.getvalue())


def refusal(*words: object, before: list[str] | None = None, **variables: str) -> str:
    """Return what a start says that must fail at once."""
    command = [*(before or []), SCOREMUX, *map(str, words)]
    environment = {**os.environ, **variables}
    return _said(subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment))


def refusal_here(*words: object) -> str:
    """Return what a start in this process says that must fail at once, before it has started anything."""
    return _said(run_here(*words))


def _said(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 2, ended
    assert len(ended.stderr.splitlines()) <= _MOST_LINES and "Traceback" not in ended.stderr, ended.stderr
    assert "is open" not in ended.stdout + ended.stderr and "Ctrl-C" not in ended.stdout
    return ended.stderr


class Serving:
    """A server that is ready, and where it listens."""

    def __init__(self, process: subprocess.Popen[bytes], endpoints: Endpoints, output: Path) -> None:
        self.process, self.endpoints, self._output = process, endpoints, output
        self.before: Values = {}
        self._restarts_before = 0

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def triton(self) -> int:
        (pid,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(pid)

    @property
    def stub(self) -> int:
        (pid,) = processes.stubs(self.triton)
        return pid

    def wait_until(self, path: str, status: int, within_s: float = 90.0) -> None:
        """Wait until the watcher answers `path` with `status`; a short time without 200 is known from its output."""

        def answers() -> bool:
            missed = status != 200 and self._restarts() > self._restarts_before
            return missed or code(f"{self.endpoints.watch_url}{path}") == status

        until(answers, shown=lambda: self.output, within_s=within_s)
        if status == 200:
            self._restarts_before = self._restarts()

    def _restarts(self) -> int:
        return self.output.count("; restarting ")


@contextmanager
def serving(
    repository: Path,
    scratch: Path,
    *settings: str,
    variables: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    start_s: float = 180.0,
    ports: Endpoints | None = None,
    program: str = SCOREMUX,
) -> Iterator[Serving]:
    """Serve `repository` with `key=value` settings, on free ports unless some are given.

    Args:
        scratch: An empty folder for logs.
        program: The command `scoremux` of an earlier release.
    """
    ports = ports or free_endpoints()
    given = [f"{name}_port={getattr(ports, name)}" for name in ("grpc", "http", "metrics", "watch")]
    if not any(setting.startswith("selftest=") for setting in settings):
        given.append("selftest=off")  # it takes a second of all cores
    options = [*options, *(word for setting in (*given, *settings) for word in ("--set", setting))]
    output = scratch / "serve.txt"
    command = [program, "serve", "--repository", str(repository), "--log", str(scratch / "triton.log"), *options]
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=variables)
    server = Serving(process, ports, output)
    try:
        until(lambda: "ready;" in server.output, process, lambda: server.output, start_s)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(180)


def code(url: str) -> int:
    """Return the status of a GET; 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def metrics(url: str) -> Values:
    """Return every sample of a metrics endpoint by name and labels."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(values: Values, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels."""
    return sum(v for (n, of), v in values.items() if n == name and labels.items() <= dict(of).items())
