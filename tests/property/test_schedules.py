"""Requests of any size, order, priority and end share micro-batches: no bit changes, no row is lost or done twice."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from computed import computed_runners, each_runner
from schedules import make_request, run_schedules
from scoremux_engine import Engine
from scoremux_engine.errors import DroppedError, EngineError
from scoremux_engine.model.inputs import ModelInput
from scoremux_engine.model.tokens import Tokenizer, Tokens
from scoremux_engine.runners.runner import Outputs
from scoremux_engine.scoring.micro_batches import MicroBatch
from scoremux_engine.scoring.row_plan import RowTexts
from scoremux_engine.scoring.row_request import Arrival, RowRequest, Tenant, Terms
from scoremux_engine.scoring.scheduler import Scheduler
from waiting import until

BUDGET = 256


class Recorded:
    """Computes rows as numbers, and notes which micro-batches there were, in order."""

    def __init__(self, deadly: frozenset[str] = frozenset(), gate: threading.Event | None = None) -> None:
        self.parts: list[list[int]] = []
        self.alone: list[bool] = []
        self.wrong: list[str] = []
        self._deadly, self._gate = deadly, gate
        self._lock = threading.Lock()
        self._running = 0

    def compute(self, part: MicroBatch, _: RowRequest) -> Outputs:
        names = [row.tokens.ids[0] for row in part.rows]
        with self._lock:
            self._running += 1
            self.parts.append(names)
            self.alone.append(part.alone)
            may_kill = any(row.digest in self._deadly for row in part.rows)
            if may_kill and (len(names) > 1 or self._running > 1):
                self.wrong.append(f"{names} may kill, and are not alone")
            if len({row.shape for row in part.rows}) > 1 or (len(names) > 1 and part.tokens > BUDGET):
                self.wrong.append(f"{names} have no shape in common, or are too many")
        if self._gate:
            self._gate.wait(120)
        else:
            time.sleep(0)
        with self._lock:
            if may_kill and self._running > 1:
                self.wrong.append(f"{names} got company")
            self._running -= 1
        return Outputs(np.array([[name, -name] for name in names], np.float32))


def wait_for(request: RowRequest) -> None:
    assert request.finished.wait(120), "a request was never answered"


@pytest.mark.parametrize("schedules", [100, pytest.param(3000, marks=pytest.mark.nightly)])
def test_every_row_of_random_schedules_is_computed_once_or_dropped_for_a_reason(schedules: int) -> None:
    draw = random.Random(5)
    dropped = shared = 0
    for number in range(schedules):
        streams, names = draw.randint(1, 3), iter(range(1, 100_000))
        cancelled: set[int] = set()
        tenants = [Tenant(str(name), draw.randint(1, 9)) for name in range(draw.randint(1, 4))]
        requests = []
        for index in range(draw.randint(1, 12)):
            kind = draw.random()
            terms = Terms(
                is_cancelled=lambda index=index, cancelled=cancelled: index in cancelled,
                deadline=time.monotonic() + draw.choice((-1.0, 0.0, 9.0)) if kind < 0.2 else float("inf"),
                batch=kind > 0.7,
                tenant=draw.choice(tenants),
            )
            size = draw.randint(0, 40)
            rows = [(next(names), draw.choice((8, 8, 16, 64)), draw.choice((8, 16))) for _ in range(size)]
            requests.append(make_request(rows, terms))
            requests[-1].asked_at = 0.0  # to be asked at once
        deadly = frozenset(row.digest for r in requests for row in r.plan.rows if draw.random() < 0.02 * (number % 3))
        recorded = Recorded(deadly)
        express = draw.random() < 0.5
        scheduler = Scheduler(recorded.compute, streams, streams, BUDGET, lambda deadly=deadly: deadly, express=express)
        cancelled |= {index for index in range(len(requests)) if draw.random() < 0.2}

        def send(request: RowRequest, scheduler: Scheduler = scheduler, waits: bool = draw.random() < 0.5) -> None:
            with suppress(DroppedError):
                (scheduler.run if waits else scheduler.submit)(request)

        with ThreadPoolExecutor(4) as callers:
            list(callers.map(send, requests))
        for request in requests:
            wait_for(request)
        assert recorded.wrong == [], number
        assert max(Counter(name for part in recorded.parts for name in part).values(), default=1) == 1
        of_request = {row.tokens.ids[0]: n for n, r in enumerate(requests) for row in r.plan.rows}
        shared += sum(len({of_request[name] for name in part}) > 1 for part in recorded.parts)
        for request in requests:
            if request.error:
                assert isinstance(request.error, DroppedError)
                dropped += 1
                continue
            expected = [[row.tokens.ids[0], -row.tokens.ids[0]] for row in request.plan.rows]
            assert request.out.logits.tolist() == expected
        assert scheduler.stats.rows == 0
    assert shared > schedules // 4 and dropped > schedules // 4


Admit = Callable[[Sequence[Arrival]], Sequence[RowRequest]]


def blocked(streams: int = 1, admit: Admit = lambda _: (), **more: Any) -> tuple[Scheduler, Recorded, threading.Event]:
    """Return a scheduler that computes a first row until the event is set."""
    gate = threading.Event()
    recorded = Recorded(gate=gate)
    scheduler = Scheduler(recorded.compute, streams, streams, BUDGET, admit=admit, **more)
    scheduler.submit(make_request([(0, 128, 8)]))
    while not recorded.parts:
        time.sleep(0.001)
    return scheduler, recorded, gate


def test_lone_row_is_computed_beside_full_streams_where_its_tenant_computes_no_other() -> None:
    gate = threading.Event()
    recorded = Recorded(gate=gate)
    scheduler = Scheduler(recorded.compute, 1, 1, BUDGET, express=True)
    requests = [make_request([(n, 64, 8) for n in range(10, 40)]), make_request([(1, 8, 8)]), make_request([(2, 8, 8)])]
    for number, request in enumerate(requests, 1):
        scheduler.submit(request)
        while len(recorded.parts) < min(number, 2):
            time.sleep(0.001)
    time.sleep(0.05)
    assert recorded.parts[1:] == [[1]] and len(recorded.parts[0]) > 1, "one row at once, and one of a tenant"
    gate.set()
    for request in requests:
        wait_for(request)
    assert sorted(name for part in recorded.parts for name in part) == [1, 2, *range(10, 40)]


@pytest.mark.parametrize(("quiet_s", "alone"), [(0.01, True), (1e6, False)])
def test_lone_row_gets_all_cores_where_nothing_was_beside_another_lately(quiet_s: float, alone: bool) -> None:
    scheduler, recorded, gate = blocked(streams=2, quiet_s=quiet_s)
    beside, after = make_request([(1, 8, 8)]), make_request([(2, 8, 8)])
    scheduler.submit(beside)
    while len(recorded.parts) < 2:
        time.sleep(0.001)
    gate.set()
    wait_for(beside)
    while scheduler.stats.rows:
        time.sleep(0.001)
    time.sleep(0.02)
    scheduler.submit(after)
    wait_for(after)
    assert recorded.alone == [True, False, alone]


SHORTER = [(number, 64, 8) for number in range(30, 40)]


@pytest.mark.parametrize("beside", [SHORTER, [(30, 512, 8)]], ids=["shorter rows", "a lone long row"])
def test_one_stream_is_kept_free_of_an_essay_for_shorter_and_lone_rows(beside: list[tuple[int, int, int]]) -> None:
    parts = essay_beside(beside, streams=2, lone_before=True)
    assert parts[0] == [1] and parts[1][0] >= 30


@pytest.mark.parametrize(("streams", "lone_before", "batch"), [(2, False, False), (2, True, True), (1, True, False)])
def test_essay_takes_every_stream_where_nobody_sends_lone_rows_or_one_stream_is_all(
    streams: int, lone_before: bool, batch: bool
) -> None:
    parts = essay_beside(SHORTER, streams, lone_before, batch)
    assert all(part[0] < 30 for part in parts[:streams])


def essay_beside(
    rows: list[tuple[int, int, int]], streams: int, lone_before: bool, batch: bool = False
) -> list[list[int]]:
    """Return the micro-batches of six windows and of rows that come when no more of the windows begin."""
    gate = threading.Event()
    gate.set()
    recorded = Recorded(gate=gate)
    scheduler = Scheduler(recorded.compute, streams, streams, BUDGET)
    scheduler.run(make_request([(0, 8, 8)] if lone_before else [(0, 512, 8), (9, 512, 8)]))
    until(lambda: scheduler.stats.rows == 0)
    recorded.parts.clear()
    gate.clear()
    requests = [make_request([(number, 256, 8) for number in range(1, 7)], Terms(batch=batch)), make_request(rows)]
    for request in requests:
        scheduler.submit(request)
        time.sleep(0.05)
    gate.set()
    for request in requests:
        wait_for(request)
    assert sorted(name for part in recorded.parts for name in part) == [*range(1, 7), *(row[0] for row in rows)]
    return recorded.parts


def order_of(*requests: RowRequest) -> list[list[int]]:
    """Return the micro-batches that these requests become behind one that is computed."""
    scheduler, recorded, gate = blocked()
    for request in requests:
        scheduler.submit(request)
    gate.set()
    for request in requests:
        wait_for(request)
    return recorded.parts[1:]


def test_large_request_is_not_passed_for_long_a_batch_job_gives_way_and_a_near_deadline_comes_first() -> None:
    large = make_request([(n, 64, 8) for n in range(100, 104)], arrived=time.monotonic() - 60)
    assert order_of(make_request([(1, 8, 8)]), large)[0] == [100, 101, 102, 103]
    now = time.monotonic()
    batch = make_request([(1, 8, 8)], Terms(batch=True), now - 10)
    urgent = make_request([(2, 16, 8)], Terms(deadline=now + 30), now + 60)
    assert order_of(batch, urgent, make_request([(3, 32, 8)], arrived=now)) == [[3], [2], [1]]


def test_requests_wait_until_a_micro_batch_takes_their_rows() -> None:
    requests = [make_request([(n, 8 if n else 128, 8)]) for n in range(41)]
    gate, waited = threading.Event(), list[int]()

    def compute(part: MicroBatch, _: RowRequest) -> Outputs:
        waited.append(sum(request.trace.waited_s is not None for request in requests))
        gate.wait(120)
        return Outputs(np.zeros((len(part.rows), 2), np.float32))

    scheduler = Scheduler(compute, 1, 1, BUDGET)
    for request in requests:
        scheduler.submit(request)
        while not waited:
            time.sleep(0.001)
    gate.set()
    for request in requests:
        wait_for(request)
    assert waited == [1, 33, 41]


@pytest.mark.parametrize("express", [False, True])
def test_requests_that_arrive_while_the_stream_computes_are_planned_and_computed_together(express: bool) -> None:
    planned: list[list[RowRequest]] = []

    def admit(arrivals: Sequence[Arrival]) -> Sequence[RowRequest]:
        planned.append([make_request([(int(arrival.rows.texts[0]), 8, 8)], arrival.terms) for arrival in arrivals])
        return planned[-1]

    scheduler, recorded, gate = blocked(admit=admit, express=express)
    for number in range(1, 21):
        scheduler.submit_arrival(Arrival(RowTexts([str(number)], ["t"])))
    assert scheduler.stats.rows == 21
    gate.set()
    until(lambda: sum(map(len, recorded.parts)) >= 21)
    assert [len(requests) for requests in planned] == [20]
    assert sorted(name for part in recorded.parts for name in part) == list(range(21))


@pytest.mark.parametrize("planned", [False, True])
def test_stop_answers_whatever_waits_or_is_not_planned_yet(planned: bool) -> None:
    requests = [make_request([(n, 8, 8)]) for n in range(1, 4)]
    scheduler, recorded, gate = blocked(admit=lambda arrivals: requests[: len(arrivals)])
    for request in requests:
        scheduler.submit(request) if planned else scheduler.submit_arrival(Arrival(RowTexts(["text"], ["t"])))
    scheduler.drop_all("stopped", "the server stops")
    for request in requests:
        wait_for(request)
    gate.set()
    assert recorded.parts == [[0]] and scheduler.stats.dropped == {"stopped": 4}


def test_cancelled_and_late_requests_are_dropped_before_they_are_computed() -> None:
    cancelled = make_request([(1, 8, 8)], Terms(is_cancelled=lambda: True))
    cancelled.asked_at = 0.0
    late = make_request([(2, 16, 8)], Terms(deadline=time.monotonic()))
    assert order_of(cancelled, late, make_request([(3, 32, 8)])) == [[3]]
    assert [r.error.reason for r in (cancelled, late) if isinstance(r.error, DroppedError)] == ["cancelled", "late"]


@pytest.mark.parametrize("streams", [1, 2])
def test_error_of_the_computation_fails_its_requests_and_no_other(streams: int) -> None:
    def compute(part: MicroBatch, _: RowRequest) -> Outputs:
        if part.bucket == 16:
            raise EngineError("no room")
        return Outputs(np.zeros((len(part.rows), 2), np.float32))

    scheduler = Scheduler(compute, streams, streams, BUDGET)
    with pytest.raises(EngineError, match="no room"):
        scheduler.run(make_request([(1, 8, 8), (2, 16, 8)]))
    scheduler.run(make_request([(3, 8, 8)]))
    assert scheduler.stats.rows == 0


def test_error_of_the_scheduler_answers_every_request() -> None:
    def ask() -> bool:
        raise RuntimeError("an unforeseen error")

    broken = make_request([(1, 8, 8)], Terms(is_cancelled=ask))
    broken.asked_at = 0.0
    scheduler, recorded, gate = blocked()
    waiting = [make_request([(n, 64, 8)]) for n in range(2, 5)]
    for request in (broken, *waiting):
        scheduler.submit(request)
    gate.set()
    for request in (broken, *waiting):
        wait_for(request)
        assert request.error is None or "the scheduler failed: RuntimeError" in str(request.error)
    assert broken.error
    scheduler.run(make_request([(9, 8, 8)]))
    assert recorded.parts[-1] == [9]


@pytest.mark.parametrize("requests", [40, pytest.param(5_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("name", each_runner())
def test_rows_keep_their_bits_whoever_else_is_scored(mixed_repository: Path, name: str, requests: int) -> None:
    counts = run_schedules(Engine.open(mixed_repository, runner=computed_runners()[name]), requests, seed=8)
    assert counts["same"] > 3 * requests and counts.keys() <= {"same", "dropped"}


def test_request_that_cannot_be_planned_fails_no_other(small_repository: Path) -> None:
    class Failing(Tokenizer):
        def encode(self, inputs: Iterable[ModelInput]) -> list[Tokens]:
            texts = list(inputs)
            if "fails" in texts:
                raise ValueError("a fault of the tokenizer")
            return super().encode(texts)

    engine, answers = Engine.open(small_repository), dict[int, object]()
    expected = engine.score_columns(["the router"], ["t-1"])
    engine.backbone.tokenizer = Failing.open(engine.backbone.folder / "tokenizer.json", engine.backbone.spec.max_tokens)
    for number in range(40):
        text = "the router" if number % 8 else "fails"
        engine.submit(Arrival(RowTexts([text], ["t-1"]), done=partial(answers.__setitem__, number)))
    until(lambda: len(answers) == 40)
    assert sorted(n for n, answer in answers.items() if isinstance(answer, ValueError)) == [0, 8, 16, 24, 32]
    scored = [answer for answer in answers.values() if isinstance(answer, dict)]
    assert len(scored) == 35
    assert all((answer[name] == expected[name]).all() for answer in scored for name in expected)


def test_answer_that_cannot_be_handed_over_keeps_no_other_back(small_repository: Path) -> None:
    engine, answers = Engine.open(small_repository), dict[int, object]()

    def done(number: int, answer: object) -> None:
        if number % 4 == 0:
            raise ValueError("a fault of whoever gets it")
        answers[number] = answer

    for number in range(40):
        engine.submit(Arrival(RowTexts(["the router"], ["t-1"]), done=partial(done, number)))
    until(lambda: len(answers) == 30)
    assert all(isinstance(answer, dict) for answer in answers.values())


def test_request_sees_one_manifest_and_its_answer_comes_once(small_repository: Path) -> None:
    engine = Engine.open(small_repository)
    expected = engine.score_columns(["the router", "a bridge"], ["t-1", "t-2"])
    answers: list[object] = []
    done: Callable[[object], None] = answers.append
    for _ in range(20):
        engine.submit(Arrival(RowTexts(["the router", "a bridge"], ["t-1", "t-2"]), done=done))
    with pytest.raises(EngineError, match="1 texts for 2 tasks"):
        RowTexts(["the router"], ["t-1", "t-2"])
    until(lambda: len(answers) == 20)
    for columns in (a for a in answers if isinstance(a, dict)):
        assert all((columns[name] == expected[name]).all() for name in ("LEVEL", "VERSION", "STATUS"))
