"""The clients against real Tritons that die in mid-run, and through a network that breaks."""

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from scoremux_client import AsyncScoringClient, Response, Retries, Scored, ScoringClient, Status
from tritons import MortalTriton
from waiting import until

PATIENT = Retries(patience_s=240, base_s=0.02, cap_s=0.3)


@pytest.fixture(scope="module")
def server() -> Iterator[MortalTriton]:
    with MortalTriton() as running:
        yield running


def rows(count: int) -> list[Response]:
    return [Response("t-1", str(i), f"id-{i}") for i in range(count)]


def check(scored: list[Scored], count: int) -> None:
    assert [(s.id, s.level, s.status) for s in scored] == [(f"id-{i}", i, Status.OK) for i in range(count)]


@contextmanager
def beside(work: Callable[..., None], *arguments: object) -> Iterator[None]:
    thread = threading.Thread(target=work, args=arguments)
    thread.start()
    try:
        yield
    finally:
        thread.join(120)


@contextmanager
def healed(server: MortalTriton) -> Iterator[None]:
    stop = threading.Event()
    with beside(server.heal, stop):
        try:
            yield
        finally:
            stop.set()


class BadNetwork:
    """A TCP proxy to `target` (``host:port``). What happens to each connection is drawn at random:

    refused; or, after a random number of bytes of the answers, reset, closed, or swallowed (it stays open and nothing
    comes); or slow first and reset then. None lasts.
    """

    FATES = ("refuse", "reset", "close", "swallow", "slow")

    def __init__(self, target: str, seed: int, fates: tuple[str, ...] = FATES, most_bytes: int = 8000) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._random = random.Random(seed)
        self._fates = fates
        self._most_bytes = most_bytes
        self.met: dict[str, int] = dict.fromkeys(fates, 0)
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> str:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        # A thread in accept() is not woken by close() alone.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for one in self._sockets:
            one.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                fate = self._random.choice(self._fates)
                self.met[fate] += 1
                self._sockets.add(near)
                if fate == "refuse":
                    _reset(near)
                    continue
                far = socket.create_connection(self._target)
                self._sockets.add(far)
                budget = self._random.randint(0, self._most_bytes)
                self._start(self._pump, near, far, None, "", 0.0)
                self._start(self._pump, far, near, budget, fate, 0.02 if fate == "slow" else 0.0)

    def _pump(self, source: socket.socket, sink: socket.socket, budget: int | None, fate: str, delay_s: float) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(delay_s)
                if budget is not None and len(data) > budget:
                    sink.sendall(data[:budget])
                    if fate == "swallow":
                        budget = 0
                        continue
                    break
                sink.sendall(data)
                budget = None if budget is None else budget - len(data)
        if fate in ("reset", "slow"):
            _reset(sink)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _reset(one: socket.socket) -> None:
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def test_rows_come_back_from_both_clients(server: MortalTriton) -> None:
    with ScoringClient(server.endpoints.grpc_url, chunk_rows=32) as client:
        check(client.score(rows(300)), 300)

    async def main() -> list[Scored]:
        async with AsyncScoringClient(server.endpoints.grpc_url, chunk_rows=32) as client:
            many = await asyncio.gather(*(client.score(rows(50)) for _ in range(5)))
            assert all(one == many[0] for one in many)
            return await client.score(rows(300))

    check(asyncio.run(main()), 300)


def test_a_stub_that_is_killed_in_mid_run_costs_no_row(server: MortalTriton) -> None:
    before = server.deaths
    with healed(server), ScoringClient(server.endpoints.grpc_url, chunk_rows=16, retries=PATIENT) as client:
        timer = threading.Timer(0.3, server.kill_stub)
        timer.start()
        check(client.score(rows(600)), 600)
        until(lambda: server.deaths > before)
    assert server.deaths == before + 1


def test_one_of_two_servers_is_killed_in_mid_run_and_no_row_is_lost(server: MortalTriton) -> None:
    first = server.endpoints.grpc_url
    with MortalTriton() as other, ScoringClient([first, other.endpoints.grpc_url], chunk_rows=16) as client:
        timer = threading.Timer(0.3, other.kill)
        timer.start()
        check(client.score(rows(600)), 600)
        timer.join()
        # And what was restarted gets rows again.
        other.start()
        check(client.score(rows(600)), 600)
        with ScoringClient(other.endpoints.grpc_url) as alone:
            check(alone.score(rows(10)), 10)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_network_that_breaks_loses_and_doubles_no_row(server: MortalTriton, seed: int) -> None:
    network = BadNetwork(server.endpoints.grpc_url, seed)
    with network as address:
        client = ScoringClient(address, chunk_rows=16, timeout_s=0.5, retries=PATIENT)
        with client:
            check(client.score(rows(200), deadline_s=240), 200)
    assert sum(network.met.values()) > 1
