"""A real Triton under a watcher in this process, and rows for it."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from making import TASKS, WORDS
from scoremux_client import NO_RETRIES, Response, Scored, ScoringClient
from scoremux_server.errors import InterruptedStartError
from scoremux_server.profile import Profile
from scoremux_server.serve import health_headers
from scoremux_server.supervision.health_endpoint import HealthEndpoint
from scoremux_server.supervision.watcher import Timing, Watcher
from scoremux_server.triton import processes
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.run_files import SHARED_MEMORY
from scoremux_server.triton.server import TritonServer
from waiting import free_endpoints


@contextmanager
def unwatched(repository: Path, endpoints: Endpoints | None = None, **options: Any) -> Iterator[TritonServer]:
    """Start a Triton that no watcher restarts, three times at most where its start is interrupted; stop it then."""
    ports = endpoints or free_endpoints()
    options.setdefault("log", repository.with_name(f"triton-{ports.grpc}.log"))
    options.setdefault("profile", Profile(selftest="off"))
    server = TritonServer(repository, ports, **options)
    try:
        server.launch()
        for left in reversed(range(3)):
            try:
                server.wait_until_ready()
                break
            except InterruptedStartError:
                if not left:
                    raise
                server.restart()
        yield server
    finally:
        server.stop()


class Watched:
    """A watcher on a thread of its own, with what it reported and how it ended."""

    def __init__(self, repository: Path, log: Path, report: Callable[[str], None] | None, **keys: Any) -> None:
        keys, timing = _split(keys, Timing.__dataclass_fields__)
        key, server = keys.pop("grant_key", None), keys.pop("server", TritonServer)
        self.reports: list[str] = []
        report = report or self.reports.append
        keys.setdefault("selftest", "off")  # it takes a second of all cores
        self.server = server(repository, free_endpoints(), log=log, profile=Profile(**keys), grant_key=key)
        self.watcher = Watcher(self.server, report, Timing(**timing))
        self.health = self.watcher.health
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._restarts_before = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        endpoints, headers = self.server.endpoints, health_headers(self.server)
        try:
            with HealthEndpoint(self.health, endpoints.watch_address, endpoints.watch, headers):
                self.watcher.run(self.stop)
        except Exception as error:
            self.error = error

    def readyz(self) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.endpoints.watch, timeout=60)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        status, body = answer.status, json.loads(answer.read())
        connection.close()
        return status, body

    def wait_until(self, ready: bool, within_s: float = 90.0) -> None:
        """Wait until /readyz says so. A short time in which it did not is known from a restart too."""
        deadline = time.monotonic() + within_s
        while not self._says(ready) and (ready or self.health.restarts == self._restarts_before):
            assert time.monotonic() < deadline, (self.reports, self.error)
            time.sleep(0.02)
        if ready:
            self._restarts_before = self.health.restarts

    def _says(self, ready: bool) -> bool:
        return self.health.ready == ready and self.readyz()[0] == (200 if ready else 503)

    def stub(self) -> int:
        (pid,) = processes.stubs(self.server.process.pid)
        return pid


def _split(keys: dict[str, Any], names: Container[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the keys that are not in `names`, and those that are."""
    inside = {key: value for key, value in keys.items() if key in names}
    return {key: value for key, value in keys.items() if key not in names}, inside


@contextmanager
def watched(repository: Path, log: Path, report: Callable[[str], None] | None = None, **keys: Any) -> Iterator[Watched]:
    """A watched Triton that is ready; keys: of its profile and of `Timing`; `server`: its class."""
    watch = Watched(repository, log, report, **keys)
    watch.thread.start()
    try:
        watch.wait_until(True)
        yield watch
    finally:
        watch.stop.set()
        watch.thread.join(90)
    assert not watch.thread.is_alive()
    assert not list(SHARED_MEMORY.glob(f"{watch.server.run.shm_prefix[:-1]}*"))


def responses(count: int, seed: int | None = None, tasks: Sequence[str] = tuple(TASKS)) -> list[Response]:
    """Return random rows of tasks. seed: `count` by default."""
    draw = random.Random(count if seed is None else seed)
    texts = (" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(count))
    return [Response(draw.choice(tasks), text, str(i)) for i, text in enumerate(texts)]


def score(watch: Watched, rows: list[Response]) -> list[Scored]:
    with ScoringClient(watch.server.endpoints.grpc_url, timeout_s=120, retries=NO_RETRIES) as client:
        return client.score(rows)


RESTRICTED = (
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/scorer/load"),
    ("POST", "/v2/repository/models/scorer/unload"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/x/register"),
    ("POST", "/v2/cudasharedmemory/region/x/register"),
    ("GET", "/v2/trace/setting"),
    ("POST", "/v2/trace/setting"),
    ("POST", "/v2/models/scorer/trace/setting"),
    ("GET", "/v2/logging"),
    ("POST", "/v2/logging"),
)
"""Method and path."""
