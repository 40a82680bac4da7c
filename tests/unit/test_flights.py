"""Requests under way: what an answer does by itself, whether or not anybody drives the call."""

from __future__ import annotations

from fakes import FAST, fake, numbered, sent
from scoremux_client import DeadlineError, Retries, ServerDiedError, UnavailableError
from scoremux_client.call import Call, Options
from scoremux_client.chunks import Chunk, Pair
from scoremux_client.flights import Flights
from scoremux_client.servers import Server, Servers
from scoremux_client.sizing import Sizer
from scoremux_client.testing import FakeTransport


class One:
    """One held server, and the flights of a call that nobody drives."""

    def __init__(self, timeout_s: float | None = None) -> None:
        self.transport = fake()
        self.transport.hold()
        self.now = 100.0
        self.servers = Servers([self.transport], FAST, clock=lambda: self.now)
        self.rung = 0
        self.flights = Flights(self.servers, timeout_s, None, self.ring)
        self.servers.watch(self.ring)

    def ring(self) -> None:
        self.rung += 1

    def send(self, *, alone: bool) -> Server:
        chunk = Chunk([Pair(row) for row in numbered(2)], 0, alone=alone)
        ticket = self.servers.take(self, alone=alone)
        assert ticket
        self.flights.send(chunk, ticket)
        return ticket.server

    def timeouts_of_a_probe(self) -> list[float | None]:
        self.flights.probe(self.servers._servers[0])
        return self.transport.timeouts_s

    def answer(self) -> None:
        self.transport.release()
        self.transport.hold()


def test_a_suspect_follows_its_probe_and_leaves_the_server_with_nobody_driving() -> None:
    one = One()
    server = one.send(alone=True)
    assert sent(one.transport) == [] and len(one.transport.requests) == 1 and server.holder is one
    one.answer()  # the probe, and what follows it
    assert sent(one.transport) == ["0", "1"]
    assert server.holder is None and not server.outstanding and one.rung > 0
    (flight,) = one.flights.landed()
    assert [s.level for s in flight.outcome()[0]] == [0, 1] and flight.alone and not flight.ahead


def test_a_probe_that_fails_ahead_of_its_suspect_says_so() -> None:
    one = One()
    one.transport.fail(ServerDiedError("Stub process is not healthy"))
    server = one.send(alone=True)
    one.answer()
    assert not server.up and server.holder is None
    (flight,) = one.flights.landed()
    assert flight.ahead and isinstance(flight.error, ServerDiedError) and sent(one.transport) == []


def test_a_probes_answer_is_known_with_nobody_driving() -> None:
    one = One()
    (server,) = one.servers._servers
    server.up, server.probing = False, True
    one.flights.probe(server)
    one.transport.fail(UnavailableError("starting"))
    one.answer()
    assert not server.probing and not server.up and one.rung == 2  # its own call's driver, and whoever watches
    server.probing = True
    one.flights.probe(server)
    one.answer()
    assert server.up and not server.probing


def test_a_probe_waits_no_longer_than_patience_which_is_some_seconds_at_least() -> None:
    one = One(timeout_s=120)
    one.send(alone=True)
    one.servers.retries = Retries(patience_s=30)
    one.flights.probe(one.servers._servers[0])
    one.answer()
    assert one.transport.timeouts_s == [10, 30, 120]
    assert One(timeout_s=2).timeouts_of_a_probe() == [2]


def test_what_ends_twice_is_told_once() -> None:
    one = One(timeout_s=1)
    server = one.send(alone=False)
    one.now += 1
    assert not list(one.flights.landed())
    one.now += 0.3
    (flight,) = one.flights.landed()
    assert isinstance(flight.error, DeadlineError) and flight.future.cancelled() and not server.outstanding
    one.answer()
    assert not list(one.flights.landed()) and not server.outstanding


def test_closing_leaves_nothing_reserved_and_sends_nothing_more() -> None:
    one = One()
    server = one.send(alone=True)
    assert one.flights.close() == []
    assert server.holder is None and not server.outstanding
    one.answer()
    assert sent(one.transport) == [] and not list(one.flights.landed())


def test_what_a_call_only_waits_for_is_free_while_its_caller_has_rows() -> None:
    transport = FakeTransport({"t-1": [0, 1]})
    servers = Servers([transport], FAST)
    options = Options(window=2, timeout_s=None, deadline_s=None, deduplicate=False, remember=False)
    call = Call(servers, Sizer(1), options, lambda: None)
    call.feed(numbered(1), ended=False)
    call.advance()
    call.advance()
    (server,) = servers._servers
    busy = servers.take(object())
    assert busy and servers.take(call, alone=True) is None and server.holder is call
    assert len(call.take()) == 1
    assert server.holder is None


def test_a_late_answer_frees_nobody_elses_reservation() -> None:
    one = One()
    server, other = one.servers._servers[0], object()
    first = one.servers.take(one, alone=True)
    assert first and server.holder is one
    server.holder, server.lent = None, False  # as when the first call is closed meanwhile
    assert one.servers.take(other, alone=True) is None and server.holder is other
    one.servers.give_back(first, None)
    assert server.holder is other and not server.outstanding


def test_nothing_is_read_from_a_source_while_a_server_is_kept_free() -> None:
    servers = Servers([fake()], FAST)
    options = Options(window=4, timeout_s=None, deadline_s=None, deduplicate=False, remember=False)
    call = Call(servers, Sizer(4), options, lambda: None)
    busy = servers.take(object())
    assert busy and call.wanted == 4
    assert servers.take(call, alone=True) is None and call.wanted == 0
    servers.give_back(busy, None)
    assert servers.take(call, alone=True) and call.wanted == 4
