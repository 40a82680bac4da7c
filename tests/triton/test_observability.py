"""A served repository, seen from outside: Triton's metrics and the watcher's, and the audit log."""

import json
import os
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest

from faults import mounted, root_only
from making import TASKS
from scoremux_client import NO_RETRIES, Response, ScoringClient, TransportError, UnavailableError
from scoremux_client.audit_lines import read_log
from serving import Serving, Values, metrics, serving, value
from waiting import until
from watching import responses

SECRET = "zzyzx-what-a-student-wrote"


BAD = [
    Response("no-such-task", SECRET),
    Response(SECRET, SECRET),
    Response(f"{SECRET} with spaces", SECRET),
    Response("t-2", b"\xff" + SECRET.encode()),
    Response("t-2", SECRET * 50_000),
]


@pytest.fixture(scope="module")
def served(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    settings = "metrics_tasks=3", "uncalibrated=machine", "selftest=short"
    with serving(small_repository, tmp_path_factory.mktemp("served"), *settings) as server:
        # The first canary names all tasks in order, and gives them their labels; later ones name one, t-1.
        server.before = published(server, len(TASKS))
        rows = [*responses(200), *BAD]
        with ScoringClient(server.endpoints.grpc_url) as client:
            client.score(rows)
        others = sum(row.task != "t-1" for row in rows)
        until(lambda: others_of(metrics(server.endpoints.metrics_url)) == others_of(server.before) + others)
        yield server


def others_of(values: Values) -> float:
    """Return how many rows were not of the canaries' task."""
    return value(values, "scoremux_rows_total") - value(values, "scoremux_rows_total", task="t-1")


def published(server: Serving, count: float) -> Values:
    """Wait until metrics know of so many rows; they are published four times a second."""
    until(lambda: value(metrics(server.endpoints.metrics_url), "scoremux_rows_total") >= count)
    return metrics(server.endpoints.metrics_url)


@pytest.fixture
def values(served: Serving) -> Values:
    return settled(served.endpoints.metrics_url)


def settled(url: str) -> Values:
    """Return metrics that were the same for longer than a publication takes: none is from before a row, and another
    from after it."""
    seen: list[Values] = [{}, metrics(url)]

    def ours(values: Values) -> Values:
        return {key: number for key, number in values.items() if key[0].startswith("scoremux_")}

    def again() -> bool:
        time.sleep(0.3)
        seen.append(metrics(url))
        return ours(seen[-1]) == ours(seen[-2])

    until(again)
    return seen[-1]


def test_rows_are_counted_by_task_and_status(served: Serving, values: Values) -> None:
    def grown(task: str, status: str) -> float:
        now, before = (value(v, "scoremux_rows_total", task=task, status=status) for v in (values, served.before))
        return now - before

    names = {dict(labels)["task"] for (name, labels) in values if name == "scoremux_rows_total"}
    assert names == {"t-1", "t-2", "t-3", "_other", "_unknown"}
    expected = [row.task for row in responses(200)]
    assert grown("t-3", "OK") == expected.count("t-3")
    assert grown("_other", "OK") == expected.count("t-4")
    assert grown("_unknown", "UNKNOWN_TASK") == 2
    assert grown("_unknown", "INVALID_TASK") == 1
    assert grown("t-2", "INVALID_TEXT") == 1
    assert grown("t-2", "TEXT_TOO_LONG") == 1


def test_shapes_tokens_and_stages_add_up(values: Values) -> None:
    scored = value(values, "scoremux_rows_total", status="OK")
    tokens, padded = value(values, "scoremux_tokens_total"), value(values, "scoremux_padded_tokens_total")
    assert 2 * scored < tokens < padded < 2 * tokens
    assert value(values, "scoremux_micro_batch_rows_sum") == scored
    assert value(values, "scoremux_batch_rows_sum") == value(values, "scoremux_rows_total")
    batches = value(values, "scoremux_batch_rows_count")
    for stage in ("tokenise", "tables", "compute", "post"):
        assert 0 < value(values, "scoremux_stage_seconds_count", stage=stage) <= batches
    assert value(values, "scoremux_stage_seconds_sum", stage="compute") > 0
    groups = value(values, "scoremux_micro_batch_groups_sum") / value(values, "scoremux_micro_batch_groups_count")
    assert 1 <= groups <= len(TASKS)
    assert value(values, "scoremux_failed_batches_total") == 0
    assert ("scoremux_audit_unwritten_rows_total", frozenset()) in values


def test_info_and_routes_are_those_of_the_profile(values: Values) -> None:
    (labels,) = [dict(of) for (name, of) in values if name == "scoremux_info"]
    assert (labels["runner"], labels["device"], labels["precision"]) == ("openvino", "cpu", "float32")
    assert "-f32" in labels["arithmetic"] and len(labels["backbone"]) == 64
    assert value(values, "scoremux_routes_total", route="machine") >= 200
    assert value(values, "scoremux_routes_total", route="human:UNCALIBRATED") == 0


def test_the_watcher_tells_of_canaries(served: Serving) -> None:
    url = f"{served.endpoints.watch_url}/metrics"

    def good(values: Values) -> float:
        return value(values, "scoremux_canaries_total", verdict="good")

    before = metrics(url)
    until(lambda: good(metrics(url)) > good(before))
    # The watcher answers while it counts: of a canary, one metric may know before the other.
    until(lambda: good(after := metrics(url)) == value(after, "scoremux_canary_seconds_count"))
    after = metrics(url)
    assert value(after, "scoremux_ready") == value(after, "scoremux_state", state="serving") == 1
    assert value(after, "scoremux_selftest") == 1
    assert 0 <= value(after, "scoremux_canary_age_seconds") < 60
    count, total = (value(after, f"scoremux_canary_seconds_{of}") for of in ("count", "sum"))
    assert 0 < total / count < 60


@pytest.mark.nightly
def test_a_restarted_triton_has_few_labels_with_its_selftest_off(small_repository: Path, tmp_path: Path) -> None:
    with (
        serving(small_repository, tmp_path, "metrics_tasks=2", "selftest=off") as server,
        ScoringClient(server.endpoints.grpc_url) as client,
    ):
        url = server.endpoints.metrics_url
        for count in (40, 80):
            client.score([Response("t-4", "first after a start"), *responses(40, seed=count)])
            until(lambda: value(metrics(url), "scoremux_micro_batch_rows_sum") >= 40)
            values = published(server, 41)
            names = {dict(labels)["task"] for (name, labels) in values if name == "scoremux_rows_total"}
            assert names > {"t-1", "_other"} and len(names) == 3
            assert value(values, "scoremux_bank_versions") == value(values, "scoremux_tasks") == len(TASKS)
            if count == 40:
                os.kill(server.stub, signal.SIGKILL)
                server.wait_until("/readyz", 503)
                server.wait_until("/readyz", 200)
        watched = metrics(f"{server.endpoints.watch_url}/metrics")
        assert value(watched, "scoremux_restarts_total") == server.output.count("; restarting Triton") >= 1
        assert value(watched, "scoremux_selftest") == 0
        with urllib.request.urlopen(f"{server.endpoints.watch_url}/readyz", timeout=60) as answer:
            assert json.load(answer)["selftest"] == "off"
        assert "profile  cpu\nselftest off" in server.output


def digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def lines(folder: Path) -> list[dict[str, object]]:
    files = [file for file in sorted(folder.glob("audit.jsonl*")) if file.suffix != ".lock"]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.nightly
def test_kill_9_of_the_stub_loses_no_row_that_was_answered(small_repository: Path, tmp_path: Path) -> None:
    answered: dict[str, tuple[str, str, int]] = {}
    stop = threading.Event()

    def load(worker: int) -> None:
        draw = random.Random(worker)
        with ScoringClient(server.endpoints.grpc_url, retries=NO_RETRIES) as client:
            for number in range(100_000):
                if stop.is_set():
                    return
                rows = [Response(draw.choice(list(TASKS)), f"w {worker} n {number} r {r}") for r in range(20)]
                try:
                    scored = client.score(rows)
                except TransportError:
                    time.sleep(0.05)
                    continue
                for row, outcome in zip(rows, scored, strict=True):
                    answered[digest(str(row.text))] = row.task, outcome.version, outcome.level

    settings = (f"audit_log={tmp_path / 'audit.jsonl'}", "audit_rotate_bytes=100000")
    with serving(small_repository, tmp_path, *settings) as server:
        threads = [threading.Thread(target=load, args=(worker,)) for worker in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = len(answered)
            while len(answered) < before + 300:
                time.sleep(0.02)
            os.kill(server.stub, signal.SIGKILL)
            server.wait_until("/readyz", 503)
            server.wait_until("/readyz", 200)
        stop.set()
        for thread in threads:
            thread.join()
    written = {line["digest"]: (line["task"], line["version"], line["level"]) for line in lines(tmp_path)}
    assert len(answered) >= 900
    assert {key: written.get(key) for key in answered} == answered
    assert len(list(tmp_path.glob("audit.jsonl.2*"))) > 1
    assert not [line for line in read_log(tmp_path / "audit.jsonl") if line.fault]
    assert sum("is dead" in line.values["cause"] for line in read_log(tmp_path / "alarms-audit.jsonl")) == 3
    assert "w 0 n" not in "".join(file.read_text() for file in tmp_path.glob("audit.jsonl*"))


@pytest.mark.nightly
@root_only
def test_on_a_full_disk_rows_are_refused_and_nothing_is_restarted(small_repository: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "small", 128 << 10):
        path, filler = tmp_path / "small" / "audit.jsonl", tmp_path / "small" / "filler"
        with (
            serving(small_repository, tmp_path, f"audit_log={path}") as server,
            ScoringClient(server.endpoints.grpc_url, retries=NO_RETRIES) as client,
        ):
            rows = [Response("t-1", f"row {number}") for number in range(64)]
            assert all(scored.ok for scored in client.score(rows))
            with suppress(OSError):
                filler.write_bytes(b"x" * (128 << 10))
            with pytest.raises(UnavailableError, match="the audit log cannot be written"):
                for _ in range(8):
                    client.score(rows)
            server.wait_until("/readyz", 503)
            time.sleep(4.5)  # several canaries are refused, and none of them counts as a death
            values = metrics(server.endpoints.metrics_url)
            assert value(values, "scoremux_audit_unwritten_rows_total") >= 64
            filler.unlink()
            server.wait_until("/readyz", 200, within_s=60)
            assert all(scored.ok for scored in client.score(rows))
            watched = metrics(f"{server.endpoints.watch_url}/metrics")
            assert value(watched, "scoremux_restarts_total") == 0
            assert "restarting" not in server.output
