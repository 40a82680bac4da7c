"""What is counted for a batch, and that labels stay few."""

import threading
import time
from collections import Counter

import numpy as np

from scoremux_client import contract
from scoremux_client.contract import Status
from scoremux_engine.backend import metrics
from scoremux_engine.backend.metrics import OTHER, UNKNOWN, Changes, FirstLabels, Publisher, Recorder
from scoremux_engine.bank.bank import BankStats
from scoremux_engine.scoring.observer import COMPUTE, POST, STAGES, BatchTrace, MicroBatchShape, ScoredBatch
from scoremux_engine.scoring.row_plan import RowPlan
from scoremux_engine.scoring.scheduler import QueueStats


def seen(tasks: list[str | None], statuses: list[Status] | None = None) -> ScoredBatch:
    statuses = statuses or [Status.OK] * len(tasks)
    trace = BatchTrace(len(tasks))
    trace.parts += [MicroBatchShape(3, 16, 2, 0.5), MicroBatchShape(1, 64, 1)]
    trace.waited_s, trace.batch = 0.25, True
    with trace.stage(COMPUTE):
        time.sleep(0.002)
    with trace.stage(COMPUTE), trace.stage(POST):
        time.sleep(0.002)
    columns = {
        contract.STATUS.name: np.array([[s.value.encode()] for s in statuses], dtype=np.object_),
        contract.ROUTE.name: np.array([[b"human:NEW_TASK" if i % 2 else b"machine"] for i in range(len(tasks))]),
        contract.CONDITION.name: np.array([[b"" if i else b"B"] for i in range(len(tasks))]),
        contract.TOKENS.name: np.full((len(tasks), 1), 10, dtype=np.int32),
        contract.TRUNCATED.name: np.array([[i == 0] for i in range(len(tasks))]),
    }
    return ScoredBatch(["text"] * len(tasks), RowPlan(statuses, tasks, []), columns, [trace])


def rows(changes: Changes, counted: metrics.Metric = metrics.ROWS) -> dict[tuple[str, ...], int]:
    return {labels: count for (metric, labels), count in changes if metric is counted}


def test_rows_are_counted_once_by_task_and_status_and_tasks_beyond_the_first_share_a_label() -> None:
    recorder = Recorder(FirstLabels(100))
    recorder.observe(seen(["a", "a", "b", None, "b"], [Status.OK] * 3 + [Status.UNKNOWN_TASK, Status.NOT_FINITE]))
    changes = recorder.take()
    assert rows(changes) == {("a", "OK"): 2, ("b", "OK"): 1, ("_unknown", "UNKNOWN_TASK"): 1, ("b", "NOT_FINITE"): 1}
    routes = {("a", "machine"): 1, ("a", "human:NEW_TASK"): 1, ("b", "machine"): 2, ("_unknown", "human:NEW_TASK"): 1}
    assert rows(changes, metrics.ROUTES) == routes
    assert rows(changes, metrics.CONDITIONS) == {("a", "B"): 1}
    assert rows(changes, metrics.TOKENS) == {(): 50}
    assert rows(changes, metrics.PADDED_TOKENS) == {(): 3 * 16 + 64}
    assert recorder.take() == []
    recorder = Recorder(FirstLabels(2))
    recorder.observe(seen(["a", "b", "c", "d"]))
    recorder.observe(seen(["d", "b", "e"]))
    assert rows(recorder.take()) == {("a", "OK"): 1, ("b", "OK"): 2, ("_other", "OK"): 4}
    assert not any(contract.TASK_PATTERN.fullmatch(label) for label in (OTHER, UNKNOWN))


def test_shapes_and_stages_are_observed() -> None:
    recorder = Recorder(FirstLabels(100))
    recorder.observe(seen(["a", "b"]))
    observed: dict[str, list[float]] = {}
    for (metric, labels), value in recorder.take():
        observed.setdefault("/".join((metric.name, *labels)), []).append(value)
    assert observed["scoremux_batch_rows"] == [2]
    assert observed["scoremux_micro_batch_rows"] == [3, 1]
    assert observed["scoremux_micro_batch_groups"] == [2, 1]
    assert observed["scoremux_micro_batch_fill"] == [0.5, 1]
    assert observed["scoremux_waiting_seconds/batch"] == [0.25]
    seconds = {stage: observed.get(f"scoremux_stage_seconds/{stage}") for stage in STAGES}
    assert seconds["compute"] and 0.004 <= seconds["compute"][0] < 60
    assert seconds["post"] and 0.002 <= seconds["post"][0] <= seconds["compute"][0]
    assert seconds["tokenise"] is None


def test_the_banks_counters_grow_by_what_is_new() -> None:
    recorder = Recorder(FirstLabels(100))
    stats = BankStats(tasks=5, resident=4, used_bytes=1000, loads=7, waits=2, evictions=0, failures=0)
    recorder.set_bank(stats)
    first = recorder.take()
    by_name = {metric.name: value for (metric, _), value in first}
    assert (by_name["scoremux_bank_loads_total"], by_name["scoremux_tasks"]) == (7, 5)
    recorder.set_bank(stats)
    assert recorder.take() == []
    recorder.set_bank(BankStats(tasks=5, resident=3, used_bytes=1000, loads=9, waits=2, evictions=1, failures=0))
    later = recorder.take()
    assert {m.name: v for (m, _), v in later} == {
        "scoremux_bank_loads_total": 2,
        "scoremux_bank_evictions_total": 1,
        "scoremux_bank_versions": 3,
    }


def test_no_batch_is_lost_or_counted_twice_between_threads() -> None:
    recorder, total = Recorder(FirstLabels(100)), Counter[str]()
    batch = seen(["a", "b"])

    def publish(changes: Changes) -> None:
        total.update({labels[0]: count for labels, count in rows(changes).items()})

    publisher = Publisher(recorder.take, publish)
    threads = [threading.Thread(target=lambda: [recorder.observe(batch) for _ in range(500)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    publisher.close()
    publish(recorder.take())
    assert total == {"a": 1500, "b": 1500}


def test_queue_is_published_where_it_changed() -> None:
    recorder = Recorder(FirstLabels(100), FirstLabels(1))
    recorder.set_queue(QueueStats(0, {}, {}), (0, 0))
    recorder.take()
    recorder.set_queue(QueueStats(0, {}, {}), (0, 0))
    assert recorder.take() == []
    for _ in range(2):
        recorder.set_queue(QueueStats(0, {"late": 3}, {"a": 64, "b": 8, "c": 8}), (5, 2))  # none is planned yet
    changes = recorder.take()
    assert dict(changes) == {
        (metrics.WAITING_ROWS, ("interactive",)): 5,
        (metrics.WAITING_ROWS, ("batch",)): 2,
        (metrics.DROPPED_ROWS, ("late",)): 3,
        (metrics.SHARE_TOKENS, ("a",)): 64,
        (metrics.SHARE_TOKENS, ("_other",)): 16,
    }
