"""One token attacks `scoremux api` at its rate: what lone rows of another token get; with real Triton and HAProxy."""

import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

import attacks
from attacks import ATTACKS
from doors import KEY, Place, backend_of, bearer, needs_haproxy, serving
from killable import Killable
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_server.triton.server import TritonServer
from serving import SCOREMUX
from waiting import Result, free_port

RATE = 20


class Target:
    """A Triton, an API before it, and a front door before both; process: that of the API; tokens: by name."""

    def __init__(self, place: Place, api: Killable, triton: TritonServer, tokens: dict[str, str]) -> None:
        self.place, self.api, self.triton, self.tokens = place, api, triton, tokens
        self.process = psutil.Process(api._process.pid)

    def memory_mib(self) -> float:
        return float(self.process.memory_info().rss / 2**20)


@pytest.fixture(scope="module")
def target(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("attacks")
    with ExitStack() as stack:
        triton = stack.enter_context(serving(small_repository, folder / "triton.log"))
        port = free_port()
        place = Place(folder, [backend_of(triton.endpoints)], api=f"127.0.0.1:{port}")
        tokens = {name: place.tokens.add(name, ["*"], rate, 1) for name, rate in (("bad", RATE), ("good", 0))}
        command = ("api", "--url", triton.endpoints.grpc_url, "--database", folder / "reviews.db",
                   "--grant-key", folder / "grant.key", "--tokens", place.tokens.path)  # fmt: skip
        api = Killable(folder / "api", SCOREMUX, *command, "--port", port,
                       url=f"http://127.0.0.1:{port}")  # fmt: skip
        stack.callback(api.kill)
        api.wait_for("/healthz")
        stack.enter_context(place.open())
        yield Target(place, api, triton, tokens)


def asked(target: Target, seconds: float, path: str = "") -> tuple[list[float], int]:
    """Send lone rows, or GETs of a path, through the door; return how long each took, and how many were refused."""
    took, refused, ends, number = list[float](), 0, time.monotonic() + seconds, 0
    headers = bearer(target.tokens["good"])
    with httpx.Client(base_url=target.place.url("https"), verify=target.place.context(), timeout=60) as client:
        while time.monotonic() < ends:
            number, began = number + 1, time.monotonic()
            row = {"id": f"r{number}", "task": "t-1", "text": "It hands out addresses."}
            if path:
                answer = client.get(path, headers=headers)
            else:
                answer = client.post("/v1/score", json={"rows": [row]}, headers=headers)
            took.append(time.monotonic() - began)
            refused += answer.status_code != 200
            time.sleep(0.02)
    return took, refused


def p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


@contextmanager
def under_attack(target: Target, name: str, at_door: bool) -> Iterator[subprocess.Popen[str]]:
    secret = target.tokens["bad"]
    address, header, ca = f"localhost:{target.place.port}", f"authorization: Bearer {secret}", ["ca.pem"]
    if not at_door:
        grant = Grant("bad", int(4e9), ("*",)).signed(KEY)
        address, header, ca = target.api.url.removeprefix("http://"), f"{HEADER}: {grant}", []
    command = [
        sys.executable,
        attacks.__file__,
        name,
        address,
        header,
        str(RATE),
        *(target.place.folder / c for c in ca),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@needs_haproxy
@pytest.mark.parametrize("at_door", [True, False], ids=["door", "api"])
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_another_token_gets_its_rows(target: Target, name: str, at_door: bool, result: Result) -> None:
    asked(target, 1)
    before, refused_before = asked(target, 5)
    memory, most = target.memory_mib(), 0.0
    hangs = name == "lists of tasks"  # while Triton hangs no row is scored: what needs no Triton is asked for
    with under_attack(target, name, at_door) as attack:
        over = threading.Event()

        def watch() -> None:
            nonlocal most
            while not over.wait(0.1):
                most = max(most, target.memory_mib())

        watching = threading.Thread(target=watch)
        watching.start()
        if hangs:
            os.kill(target.triton.process.pid, signal.SIGSTOP)
        try:
            took, refused = asked(target, 15, "/v1/changes" if hangs else "")
        finally:
            if hangs:
                os.kill(target.triton.process.pid, signal.SIGCONT)
        said = attack.communicate(timeout=60)[0].strip()
        over.set()
        watching.join()
    bar = 2 * p99(before) + 0.5
    figure = (
        f"p99 {p99(took) * 1000:,.0f} ms of {len(took)} requests (idle {p99(before) * 1000:,.0f} ms), {refused} "
        f"refused; API's memory {most - memory:+,.0f} MiB; the attacker got {said}"
    )
    what = "pages of changes while Triton hangs" if hangs else "lone rows"
    result(f"{name} of one token at {RATE}/s, another token's {what}, {'door' if at_door else 'API'}", figure)
    assert (refused, refused_before) == (0, 0) and p99(took) <= bar and most - memory <= 400, figure
