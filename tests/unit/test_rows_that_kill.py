"""Rows that kill whatever scores them: they are found, and no others are taken for them."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from fakes import FAST, TASKS, fake, numbered
from mortal_servers import Mortal, Shared
from scoremux_client import (
    NO_RETRIES,
    BusyError,
    Response,
    Retries,
    Scored,
    ScoringClient,
    ServerDownError,
    Status,
    UnavailableError,
)
from scoremux_client.chunks import Failure
from scoremux_client.rows import Columns
from scoremux_client.servers import Server
from scoremux_client.testing import FakeTransport


@pytest.mark.parametrize("count", [1, 2, 3, 40, 300])
def test_a_row_that_kills_ends_as_a_status_and_all_others_are_scored(count: int) -> None:
    poison = count // 2
    transport = Mortal({str(poison).encode()})
    assert ScoringClient(transport, retries=FAST).score(numbered(0)) == []
    client = ScoringClient(transport, chunk_rows=64, retries=FAST)
    client.score([Response("t-1", "999")])
    scored = client.score(numbered(count))
    assert [s.status for s in scored] == [
        Status.SERVER_DIED if i == poison else Status.OK for i in range(count)
    ]  # fmt: skip
    assert (scored[poison].level, scored[poison].probabilities, scored[poison].id) == (-1, (), f"id-{poison}")
    assert transport.deaths <= 6


def test_a_row_that_kills_is_found_in_a_clients_first_request_too() -> None:
    transport = Mortal({b"9"}, dead_s=0.3)
    retries = Retries(patience_s=10, contact_s=0.1, base_s=0.001, cap_s=0.01)
    scored = ScoringClient(transport, chunk_rows=32, retries=retries).score(numbered(40))
    assert [i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED] == [9]


def test_several_rows_that_kill_are_all_found() -> None:
    deadly = {3, 4, 77, 150}
    transport = Mortal({str(i).encode() for i in deadly}, dead_s=0.005)
    client = ScoringClient(transport, chunk_rows=64, retries=FAST)
    client.score([Response("t-1", "999")])
    scored = client.score(numbered(200))
    assert {i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED} == deadly
    assert all(s.level == i for i, s in enumerate(scored) if i not in deadly)


def test_rows_beside_one_that_kills_are_not_suspected_by_other_calls() -> None:
    transport = Mortal({b"500"}, dead_s=0.01)
    client = ScoringClient(transport, chunk_rows=1, retries=FAST)
    client.score([Response("t-1", "999")])
    out: dict[int, list[Any]] = {}
    threads = [threading.Thread(target=lambda n=n: out.update({n: client.score(numbered(60))})) for n in range(3)]
    threads.append(threading.Thread(target=lambda: out.update({9: client.score([Response("t-1", "500")])})))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert out[9][0].status is Status.SERVER_DIED
    assert all(s.status is Status.OK for n in range(3) for s in out[n])


def test_two_servers_survive_a_row_that_kills() -> None:
    transports = [Mortal({b"9"}), Mortal({b"9"})]
    client = ScoringClient(transports, chunk_rows=32, retries=FAST)
    client.score(numbered(4)), client.score(numbered(4))
    scored = client.score(numbered(200))
    assert [i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED] == [9]
    assert sum(t.deaths for t in transports) <= 7


def test_a_server_that_stays_dead_holds_up_no_suspect() -> None:
    transports = [Mortal({b"9"}, dead_s=1e9), Mortal({b"9"})]
    client = ScoringClient(transports, chunk_rows=32, retries=FAST)
    client.score(numbered(4)), client.score(numbered(4))
    scored = client.score(numbered(200), deadline_s=10)
    assert [i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED] == [9]


def test_a_server_that_takes_its_connections_with_it_has_died_too() -> None:
    transport = Mortal({b"9"}, last_words=lambda: UnavailableError("connection lost"))
    client = ScoringClient(transport, chunk_rows=32, retries=FAST)
    client.score(numbered(4))
    scored = client.score(numbered(40))
    assert [i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED] == [9]


def test_restarts_that_take_long_are_outlasted() -> None:
    transport = Mortal({b"9"}, dead_s=0.3, last_words=lambda: UnavailableError("connection lost"))
    retries = Retries(patience_s=0.7, base_s=0.001, cap_s=0.01)
    client = ScoringClient(transport, chunk_rows=32, retries=retries)
    client.score(numbered(4))
    scored = client.score(numbered(16))
    assert [i for i, s in enumerate(scored) if s.status is Status.SERVER_DIED] == [9]


def test_deaths_that_a_row_was_not_part_of_do_not_count() -> None:
    server = Server(fake())
    lost = Failure(server, server.era, alone=True, arrived=True)
    assert not lost.by_death
    server.era += 1  # it was well
    server.died_in.add(server.era)
    assert not lost.by_death and Failure(server, server.era, alone=True, arrived=True).by_death
    assert not Failure(server, server.era, alone=True, arrived=False).by_death


def test_a_bad_network_convicts_nobody() -> None:
    lost = Mortal({b"9"}, dead_s=0, last_words=lambda: UnavailableError("connection lost"))
    client = ScoringClient(lost, chunk_rows=32, retries=Retries(patience_s=0.2, base_s=0.001, cap_s=0.01))
    client.score(numbered(4))
    with pytest.raises(UnavailableError, match="connection lost"):
        client.score(numbered(40))


@pytest.mark.parametrize("error", [ServerDownError, BusyError])
def test_a_row_that_never_arrived_is_not_convicted(error: type[UnavailableError]) -> None:
    class TurnsAway(FakeTransport):
        """Lets probes in, and no row at first."""

        left = 0

        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            if self.left and inputs["TASK"][0, 0]:
                self.left -= 1
                self.fail(error("nobody is there"))
            return super().submit(inputs, timeout_s)

    transport = TurnsAway(TASKS, lambda _, text: int(text))
    client = ScoringClient(transport, retries=FAST)
    assert client.score(numbered(1))[0].ok
    for count in (1, 40):
        transport.left = 9
        assert all(scored.ok for scored in client.score(numbered(count)))


def test_a_row_that_kills_convicts_no_row_of_another_client() -> None:
    shared, stop = Shared(b"666"), threading.Event()
    retries = Retries(patience_s=30, base_s=0.01, cap_s=0.2)
    scored: list[Scored] = []

    def innocent() -> None:
        client = ScoringClient(shared.transport(), retries=retries)
        while not stop.is_set():
            scored.extend(client.score(numbered(1)))

    others = [threading.Thread(target=innocent) for _ in range(4)]
    for thread in others:
        thread.start()
    with ScoringClient(shared.transport(), retries=retries) as client:
        for _ in range(3):
            assert client.score([Response("t-1", "666")])[0].status is Status.SERVER_DIED
    stop.set()
    for thread in others:
        thread.join()
    assert {one.status for one in scored} == {Status.OK}
    assert len(scored) > 100


def test_without_retries_a_death_is_said() -> None:
    transport = Mortal({b"9"})
    client = ScoringClient(transport, retries=NO_RETRIES)
    client.score(numbered(4))
    with pytest.raises(ServerDownError, match="rows 0–39"):
        client.score(numbered(40))
