"""Several servers, failing ones among them: balance, failover, retries and patience."""

import functools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from held import HeldTransport
from peers import FAST, TASKS, fake, numbered, sent
from scoremux_client import (
    BusyError,
    DeadlineError,
    RejectedError,
    Response,
    Retries,
    Scored,
    ScoringClient,
    UnavailableError,
)
from scoremux_client.rows import Answer, Columns


@pytest.mark.parametrize("error", [UnavailableError, BusyError])
def test_what_is_safe_to_send_again_is_sent_again(error: type[UnavailableError]) -> None:
    transport = fake()
    transport.fail(error("for now"), times=4)
    scored = ScoringClient(transport, chunk_rows=2, retries=FAST).score(numbered(9))
    assert [s.level for s in scored] == list(range(9))


def test_a_refusal_is_not_sent_again() -> None:
    transport = fake()
    transport.fail(RejectedError("no"))
    with pytest.raises(RejectedError):
        ScoringClient(transport, retries=FAST).score(numbered(3))
    assert len(transport.requests) == 1


def test_request_is_sent_again_no_sooner_than_a_busy_server_says() -> None:
    transport = fake()
    transport.fail(BusyError("9 rows wait already: send again in 0.3 s"), times=2)
    started = time.monotonic()
    assert ScoringClient(transport, retries=FAST).score(numbered(1))[0].ok
    assert time.monotonic() - started >= 0.6


@pytest.mark.parametrize("error", [UnavailableError, BusyError])
def test_patience_ends(error: type[UnavailableError]) -> None:
    transport = fake()
    client = ScoringClient(transport, retries=Retries(patience_s=0.2, contact_s=0.2, base_s=0.001, cap_s=0.01))
    assert client.score(numbered(1))[0].ok
    transport.fail(error("gone"), times=100_000)
    started = time.monotonic()
    with pytest.raises(error, match="rows 0–2: gone"):
        client.score(numbered(3))
    assert 0.2 <= time.monotonic() - started < 60


def test_a_server_that_never_answered_gets_less_patience() -> None:
    transport = fake()
    transport.fail(UnavailableError("refused"), times=100_000)
    started = time.monotonic()
    with pytest.raises(UnavailableError):
        ScoringClient(transport, retries=replace(FAST, patience_s=3600, contact_s=0.3)).score(numbered(3))
    assert 0.3 <= time.monotonic() - started < 60


def test_pauses_grow_and_are_drawn_from_the_whole_range() -> None:
    retries = Retries(base_s=0.1, cap_s=2)
    draws = [[retries.pause_s(n) for _ in range(300)] for n in (1, 2, 3, 9, 5000)]
    for pauses, limit in zip(draws, (0.1, 0.2, 0.4, 2, 2), strict=True):
        assert limit * 0.9 < max(pauses) <= limit
        assert min(pauses) < limit * 0.1


def test_requests_go_to_the_server_with_the_fewest() -> None:
    transports = [fake() for _ in range(3)]
    transports[0].hold()
    with ScoringClient(transports, chunk_rows=1, window=5) as client:
        scored = client.score_iter(numbered(60))
        timer = threading.Timer(0.1, transports[0].release)
        timer.start()
        assert [s.level for s in scored] == list(range(60))
        timer.join()
    assert all(len(t.requests) >= 4 for t in transports)
    assert transports[0].most_in_flight <= 3


def test_rows_of_a_dead_server_go_to_the_other_at_once() -> None:
    dead, alive = fake(), fake()
    dead.fail(UnavailableError("refused"), times=100_000)
    slow = Retries(base_s=3600, cap_s=3600)
    started = time.monotonic()
    scored = ScoringClient([dead, alive], chunk_rows=2, retries=slow).score(numbered(40))
    assert time.monotonic() - started < 60
    assert [s.level for s in scored] == list(range(40))
    assert sorted(sent(alive), key=int) == [str(i) for i in range(40)]


def test_servers_of_different_arithmetics_are_not_mixed_unless_allowed() -> None:
    servers = [fake(), fake()]
    servers[0].arithmetic, servers[1].arithmetic = "x86-f32", "vnni-int8-bf16"
    with pytest.raises(RejectedError, match=r"different arithmetics \(vnni-int8-bf16, x86-f32\)"):
        ScoringClient(servers, chunk_rows=1, retries=FAST).score(numbered(80))
    mixed = ScoringClient(servers, chunk_rows=1, retries=FAST, mixed_arithmetic=True).score(numbered(80))
    assert {one.arithmetic for one in mixed} == {"x86-f32", "vnni-int8-bf16"}
    # One server may be given another precision while its clients run; several, if all of them have it in the end.
    client = ScoringClient(servers[:1], retries=FAST)
    assert client.score(numbered(1))[0].arithmetic == "x86-f32"
    servers[0].arithmetic = "vnni-int8-bf16"
    assert client.score(numbered(1))[0].arithmetic == "vnni-int8-bf16"


def test_a_server_that_comes_back_gets_rows_again() -> None:
    flaky, steady = fake(), fake()
    flaky.fail(UnavailableError("restarting"), times=3)
    client = ScoringClient([flaky, steady], chunk_rows=1, window=2, retries=FAST)
    began = time.monotonic()

    def rows() -> Iterator[Response]:
        for number in count():
            if len(sent(flaky)) > 30 or time.monotonic() - began > 60:
                return
            yield Response("t-1", str(number % 1000))

    scored = [row.level for row in client.score_iter(rows())]
    assert scored == [number % 1000 for number in range(len(scored))]
    assert len(sent(flaky)) > 30


@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_lost_or_doubled_whatever_fails(seed: int) -> None:
    draw = random.Random(seed)

    class Moody(HeldTransport):
        def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
            if draw.random() < 0.3:
                kind = draw.choice([UnavailableError, BusyError, DeadlineError])
                self.fail(kind("moody"))
            return super().submit(inputs, timeout_s)

    transports = [Moody(TASKS, lambda _, text: int(text)) for _ in range(draw.randint(1, 3))]
    rows = [Response("t-1", str(draw.randrange(100)), str(i)) for i in range(draw.randint(0, 200))]
    client = ScoringClient(transports, chunk_rows=draw.randint(1, 20), window=draw.randint(1, 6), retries=FAST)
    scored = client.score(rows) if seed % 2 else list(client.score_iter(rows))
    assert [(s.id, s.level) for s in scored] == [(r.id, int(r.text)) for r in rows]


def probes(transport: HeldTransport) -> int:
    return sum(not row.task for request in transport.requests for row in request)


def test_a_server_that_is_down_is_probed_with_growing_pauses_and_gets_no_rows() -> None:
    down, up = fake(), fake()
    down.fail(UnavailableError("refused"), times=100_000)
    failures: list[int] = []

    class Noted(Retries):
        def pause_s(self, number: int) -> float:
            failures.append(number)
            return 0.001

    client, began = ScoringClient([down, up], chunk_rows=1, retries=Noted()), time.monotonic()
    for scored in client.score_iter(numbered(20)):
        assert scored.ok
        while scored.level == 9 and len(failures) < 9:
            assert time.monotonic() - began < 60
            time.sleep(0.001)
    assert len(sent(down)) == 1
    assert failures == list(range(1, len(failures) + 1))
    assert len(failures) <= probes(down) <= len(failures) + 1


def test_nobody_is_probed_while_there_is_no_call() -> None:
    transport = fake()
    client = ScoringClient(transport, retries=Retries(patience_s=0.05, contact_s=0.05, base_s=0.001, cap_s=0.002))
    transport.fail(UnavailableError("refused"), times=100_000)
    with pytest.raises(UnavailableError):
        client.score(numbered(1))
    time.sleep(0.05)
    before = len(transport.requests)
    time.sleep(0.1)
    assert len(transport.requests) <= before + 1  # one that was on its way
    transport._failures.clear()
    assert client.score(numbered(1), deadline_s=60)[0].ok


@pytest.mark.parametrize(("timeout_s", "expected"), [(None, 30), (120, 30), (2, 2)])
def test_a_probe_has_a_deadline_of_its_own(timeout_s: float | None, expected: float) -> None:
    transport = fake()
    transport.fail(UnavailableError("restarting"))
    assert ScoringClient(transport, timeout_s=timeout_s, retries=Retries(patience_s=30)).score(numbered(1))[0].ok
    given = [t for t, r in zip(transport.timeouts_s, transport.requests, strict=True) if not r[0].task]
    assert given == [expected]


ANSWER_S = 0.01


class Restarts(HeldTransport):
    """A server that answers after a moment, and that is away for a while once it has had the text "20"."""

    away_s = 0.1
    _away_from: float | None = None

    @property
    def has_failed(self) -> bool:
        return self._away_from is not None

    @property
    def was_probed(self) -> bool:
        return any(not request[0].task for request in self.requests)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        now = time.monotonic()
        if self._away_from is None and b"20" in inputs["TEXT"][:, 0].tolist():
            self._away_from = now
        if self._away_from is not None and now < self._away_from + self.away_s:
            self.fail(UnavailableError("connection refused"))
        answer, future = super().submit(inputs, timeout_s), Future[Columns]()

        def end() -> None:
            if future.set_running_or_notify_cancel():
                error = answer.exception()
                future.set_exception(error) if error else future.set_result(answer.result())

        threading.Timer(ANSWER_S, end).start()
        return future


def pause_where(scored: Iterator[Scored], is_met: Callable[[], bool]) -> bool:
    """Take rows until the condition is met, and say whether it ever was."""
    for _ in scored:
        time.sleep(ANSWER_S / 4)
        if is_met():
            return True
    return False


def scores_meanwhile(client: ScoringClient) -> bool:
    done = threading.Event()

    def score() -> None:
        client.score(numbered(3))
        done.set()

    threading.Thread(target=score, daemon=True).start()
    return done.wait(60)


@pytest.mark.parametrize("condition", ["has_failed", "was_probed"])
def test_another_call_goes_on_while_an_iterator_waits_for_its_caller(condition: str) -> None:
    for _ in range(20):
        transport = Restarts(TASKS, lambda _, text: int(text))
        client = ScoringClient(transport, chunk_rows=8, retries=FAST)
        scored = client.score_iter(numbered(64))
        if pause_where(scored, lambda: getattr(transport, condition)):  # noqa: B023
            break
    else:
        pytest.fail("the iterator never met the restart")
    assert scores_meanwhile(client)
    assert sum(1 for _ in scored) > 40


@pytest.mark.parametrize("chunk_rows", [1, *(pytest.param(rows, marks=pytest.mark.nightly) for rows in (8, 64))])
def test_each_task_has_its_server_and_hot_tasks_even_the_load(chunk_rows: int) -> None:
    """Tasks of a Zipf distribution: few are computed by both servers, and both have as many rows.

    As real servers do, each answers all requests that wait for it at once.
    """
    seen: list[Counter[str]] = [Counter(), Counter()]

    class Noting(HeldTransport):
        _listed = functools.cache(HeldTransport._listed)

        def __init__(self, place: int) -> None:
            super().__init__({f"t-{n}": [0, 1] for n in range(1000)})
            self.url, self._place = f"server-{place}", place
            self._noted, self._waits = threading.Lock(), list[tuple[Answer, Answer]]()

        def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:
            seen[self._place].update(task.decode() for task in inputs["TASK"][:, 0])
            answer = Answer()
            with self._noted:
                self._waits.append((answer, super().submit(inputs, timeout_s)))
                if len(self._waits) == 1:
                    threading.Timer(0.002, self._answer_together).start()
            return answer

        def _answer_together(self) -> None:
            with self._noted:
                together, self._waits = self._waits, []
            for answer, done in together:
                answer.set_result(done.result())

    draw = np.random.default_rng(0)
    shares = 1 / np.arange(1, 1001)
    tasks = draw.choice(1000, {1: 4_000, 8: 3_000, 64: 15_000}[chunk_rows], p=shares / shares.sum())
    rows = [Response(f"t-{task}", str(n)) for n, task in enumerate(tasks)]
    homes = []
    for urls in ((0, 1), (1, 0)):
        transports = [Noting(place) for place in urls]
        with ScoringClient(transports, chunk_rows=chunk_rows, window=16) as client:
            assert all(scored.ok for scored in client.score(rows))
        both = seen[0].keys() & seen[1].keys()
        assert len(both) <= 0.05 * len(seen[0].keys() | seen[1].keys())
        assert abs(seen[0].total() - seen[1].total()) <= 0.15 * max(seen[0].total(), seen[1].total())
        homes.append({task for task in seen[0] if task not in both})
        seen[:] = [Counter(), Counter()]
    assert len(homes[0] ^ homes[1]) <= 0.05 * 1000, "another order of the servers moved tasks"
