"""One token attacks `scoremux api` at its rate: what lone rows of another token get; with real Triton and HAProxy.

Deliveries to good receivers are measured beside names that hang and answers without end, with a restart.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import trustme

import attacks
import receivers
from attacks import ATTACKS
from doors import KEY, Place, backend_of, bearer, needs_haproxy, serving
from killable import Killable
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import deliveries
from scoremux_desk.reading import outbox
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_server.triton.server import TritonServer
from serving import SCOREMUX
from waiting import Result, free_port, until

RATE = 20
GOOD, EVENTS, HANGING, ENDLESS = 10, 40, 32, 19


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
        command = ("api", "--url", triton.endpoints.grpc_url, "--database", folder / "reviews.db", "--folder",
                   folder / "batches", "--grant-key", folder / "grant.key", "--tokens", place.tokens.path)  # fmt: skip
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
    with httpx.Client(base_url=target.place.url("https"), verify=target.place.tls.context(), timeout=60) as client:
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
            took, refused = asked(target, 15, "/v1/batches" if hangs else "")
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
    what = "lists of batches while Triton hangs" if hangs else "lone rows"
    result(f"{name} of one token at {RATE}/s, another token's {what}, {'door' if at_door else 'API'}", figure)
    assert (refused, refused_before) == (0, 0) and p99(took) <= bar and most - memory <= 400, figure


def test_good_receivers_get_all_beside_bad_ones(
    tmp_path: Path, result: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "receiver.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    name, ports = tmp_path / "reviews.db", (free_port(), free_port(), free_port())
    with ExitStack() as stack:
        good, endless = (
            Killable(tmp_path / f"receiver {n}", sys.executable, receivers.__file__, ports[n], tmp_path, *words)
            for n, words in enumerate((("all",), ("103",)))
        )
        command = (sys.executable, Path(attacks.__file__).with_name("apis.py"), name, tmp_path, "hangs", ports[2])
        database = stack.enter_context(closing(Database(str(name), create=True)))
        with database.write() as connection:
            urls = [(f"good{n}", f"https://localhost:{ports[0]}/{n}") for n in range(GOOD)]
            urls += [(f"hang{n % 2}", f"https://hangs{n}.example/") for n in range(HANGING)]
            urls += [("endless", f"https://localhost:{ports[1]}/{n}") for n in range(ENDLESS)]
            for token, url in urls:
                outbox.save_webhook(connection, token, url, ["row.final"])
        api = Killable(tmp_path / "api", *command, url=f"http://127.0.0.1:{ports[2]}")
        for process in (good, endless, api):
            stack.callback(process.kill)
        api.wait_for("/healthz")
        for number in range(EVENTS):
            with database.write() as connection:
                for token in {token for token, _ in urls}:
                    outbox.add_event(connection, token, f"t r{number}", "row.final", {"n": number})
            if number == EVENTS // 2:
                api.stop()
                api.start()
            time.sleep(0.5)

        def left() -> int:
            with database.read() as connection:
                mine = deliveries.c.webhook == outbox.webhooks.c.id
                of = outbox.webhooks.c.token.like("good%")
                waiting = deliveries.select().where(mine, of, deliveries.c.state != "delivered")
                return len(connection.execute(waiting.with_only_columns(deliveries.c.id)).all())

        until(lambda: not left(), within_s=60, shown=lambda: str(left()))
        came = [json.loads(line) for line in (tmp_path / "came.jsonl").read_text().splitlines()]
        with database.read() as connection:
            made = {row.id: row.created_at for row in connection.execute(deliveries.select())}
    took = list({h["webhook-id"]: at - made[h["webhook-id"]] for h, _, at in reversed(came)}.values())  # the first
    figure = f"{len(took)} of {GOOD * EVENTS} delivered, p99 {p99(took):.1f} s, median {statistics.median(took):.1f} s"
    result(f"deliveries beside {HANGING} names that hang and {ENDLESS} endless answers, with a restart", figure)
    assert len(took) == GOOD * EVENTS and p99(took) <= 10, figure
