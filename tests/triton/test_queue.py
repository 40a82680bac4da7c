"""Requests that wait, share, are dropped or find no room, with a real Triton."""

import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton

from doors import KEY
from making import WORDS
from scoremux_client import NO_RETRIES, Response, ScoringClient, TransportError, UnavailableError
from scoremux_engine import Engine
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.run_files import SHARED_MEMORY
from serving import SCOREMUX, metrics, value
from waiting import free_endpoints, until
from watching import Watched, responses, watched

LONG = " ".join(WORDS[:50])


@pytest.fixture(scope="module")
def serving(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    log = tmp_path_factory.mktemp("log") / "triton.log"
    with watched(small_repository, log, queue_rows=4000, streams=1, threads=1) as watch:
        yield watch


def inputs(rows: int, text: str = LONG) -> list[Any]:
    tensors = []
    for name, data in (("TEXT", text), ("TASK", "t-1")):
        tensors.append(triton.InferInput(name, [rows, 1], "BYTES"))
        tensors[-1].set_data_from_numpy(np.full((rows, 1), data.encode(), np.object_))
    return tensors


def dropped(watch: Watched, reason: str) -> float:
    time.sleep(0.6)  # metrics are published four times a second
    return value(metrics(watch.server.endpoints.metrics_url), "scoremux_dropped_rows_total", reason=reason)


def wait_for_dropped(watch: Watched, reason: str, count: float) -> None:
    """Wait until metrics say that so many rows were dropped for a reason, or more."""
    until(lambda: dropped(watch, reason) >= count)


def test_cancelled_requests_are_not_computed(serving: Watched) -> None:
    client, answers = triton.InferenceServerClient(serving.server.endpoints.grpc_url), []
    before = dropped(serving, "cancelled")

    calls = [
        client.async_infer("scorer", inputs(512), lambda **answer: answers.append(answer["error"])) for _ in range(7)
    ]
    until(lambda: answers)  # the others have arrived then
    for call in calls:
        call.cancel()
    started = time.monotonic()
    with ScoringClient(serving.server.endpoints.grpc_url, retries=NO_RETRIES) as lone:
        assert lone.score([Response("t-1", "the router")])[0].ok
    assert time.monotonic() - started < 60
    until(lambda: len(answers) == len(calls))
    wait_for_dropped(serving, "cancelled", before + 1)
    client.close()


def test_malformed_request_fails_no_other_and_requests_do_not_fill_shared_memory_together(serving: Watched) -> None:
    incomplete, whole, outcomes = inputs(1), inputs(1, "x " * 250_000), list[tuple[bool, str]]()
    incomplete[0]._raw_content = b"\xff\0\0\0ab"

    def note(sound: bool, **answer: Any) -> None:
        outcomes.append((sound, str(answer["error"] or "")))

    with triton.InferenceServerClient(serving.server.endpoints.grpc_url) as client:
        for number in range(120):
            sound = number % 3 > 0
            client.async_infer("scorer", whole if sound else incomplete, partial(note, sound))
        until(lambda: len(outcomes) == 120)
    assert [error for sound, error in outcomes if sound] == [""] * 80
    assert all("incomplete string data" in error for sound, error in outcomes if not sound)
    regions = SHARED_MEMORY.glob(f"{serving.server.run.shm_prefix}*")
    assert sum(512 * region.stat().st_blocks for region in regions) < 16 << 20


def test_late_request_is_refused_with_unavailable(serving: Watched) -> None:
    before = dropped(serving, "late")
    with triton.InferenceServerClient(serving.server.endpoints.grpc_url) as client:
        with pytest.raises(triton.InferenceServerException, match="deadline of the request passed") as refused:
            client.infer("scorer", inputs(1), parameters={"deadline_ms": 0})
        assert "UNAVAILABLE" in str(refused.value)
        assert client.infer("scorer", inputs(1), parameters={"deadline_ms": 30_000, "batch": True})
    wait_for_dropped(serving, "late", before + 1)
    assert dropped(serving, "late") == before + 1
    body = {
        "parameters": {"deadline_ms": 0},
        "inputs": [
            {"name": n, "datatype": "BYTES", "shape": [1, 1], "data": [d]} for n, d in (("TEXT", "a"), ("TASK", "t-1"))
        ],
    }
    answer = httpx.post(f"{serving.server.endpoints.http_url}/v2/models/scorer/infer", json=body)
    assert answer.status_code == 503 and "deadline" in answer.text


def test_full_queue_refuses_requests_with_unavailable_and_goes_on(serving: Watched) -> None:
    before = dropped(serving, "full")
    with triton.InferenceServerClient(serving.server.endpoints.grpc_url) as client, ThreadPoolExecutor(24) as callers:
        request = inputs(512)

        def send(_: int) -> str:
            try:
                client.infer("scorer", request)
            except triton.InferenceServerException as error:
                return str(error.status())
            return "OK"

        outcomes = list(callers.map(send, range(24)))
    assert {"OK", "StatusCode.UNAVAILABLE"} == set(outcomes)
    refused = 512 * outcomes.count("StatusCode.UNAVAILABLE")
    wait_for_dropped(serving, "full", before + refused)
    assert dropped(serving, "full") == before + refused
    with ScoringClient(serving.server.endpoints.grpc_url, retries=NO_RETRIES) as client:
        assert all(row.ok for row in client.score(responses(50)))


def test_tokens_share_the_work_and_a_greedy_one_leaves_room(small_repository: Path, tmp_path: Path) -> None:
    ends = time.time() + 600
    grants = {name: Grant(name, int(ends), ("*",), weight).signed(KEY) for name, weight in (("many", 1), ("few", 3))}
    keys: dict[str, Any] = {"grant_key": KEY, "queue_rows": 4000, "streams": 1, "threads": 1}
    with watched(small_repository, tmp_path / "log", **keys) as watch, ThreadPoolExecutor(40) as callers:
        url = watch.server.endpoints.grpc_url

        def send(name: str, rows: int) -> str:
            with triton.InferenceServerClient(url) as client:
                try:
                    client.infer("scorer", inputs(rows), headers={HEADER: grants[name]})
                except triton.InferenceServerException as error:
                    return str(error)
            return "OK"

        answers = [callers.submit(send, "many", 256) for _ in range(30)]
        until(lambda: any(answer.done() for answer in answers))  # the others have arrived, or are on their way
        assert [callers.submit(send, "few", 1).result(240) for _ in range(5)] == ["OK"] * 5
        assert not all(answer.done() for answer in answers), "the lone rows waited for all others"
        refused = [text for text in (answer.result(240) for answer in answers) if text != "OK"]
        assert refused and all("of this token wait already: send again in" in text for text in refused)
        wait_for_dropped(watch, "token_full", 256 * len(refused))
        assert dropped(watch, "token_full") == 256 * len(refused)


def test_lone_rows_pass_large_requests_and_share_micro_batches(serving: Watched, small_repository: Path) -> None:
    rows = [Response("t-1", word, word) for word in WORDS if word.isalpha()][:24]
    expected = Engine.open(small_repository).score([r.text for r in rows], [r.task for r in rows])
    stop = threading.Event()
    with ScoringClient(serving.server.endpoints.grpc_url) as client, ThreadPoolExecutor(len(rows)) as callers:
        large = threading.Thread(target=lambda: [client.score(responses(512)) for _ in iter(stop.is_set, True)])
        large.start()
        try:
            for _ in range(5):
                scored = list(callers.map(lambda row: client.score([row])[0], rows))
                assert [(s.level, s.probabilities, s.version) for s in scored] == [
                    (e.level, e.probabilities, e.version) for e in expected
                ]
        finally:
            stop.set()
            large.join()


def test_callers_learn_at_once_that_the_stub_died(serving: Watched) -> None:
    with (
        ScoringClient(serving.server.endpoints.grpc_url, retries=NO_RETRIES) as client,
        ThreadPoolExecutor(5) as callers,
    ):
        rows, taken = responses(512), threading.Event()

        def score_many() -> None:
            for _ in range(20):
                client.score(rows)
                taken.set()

        waiting = [callers.submit(score_many) for _ in range(5)]
        assert taken.wait(120)
        os.kill(serving.stub(), signal.SIGKILL)
        errors = [call.exception(120) for call in waiting]
    assert any(isinstance(error, TransportError) for error in errors)
    serving.wait_until(False)
    serving.wait_until(True)


def test_stop_answers_what_waits_and_leaves_nothing_behind(small_repository: Path, tmp_path: Path) -> None:
    with watched(small_repository, tmp_path / "triton.log", drain_s=1, streams=1, threads=1) as watch:
        client, answers = triton.InferenceServerClient(watch.server.endpoints.grpc_url), []
        for _ in range(30):
            client.async_infer("scorer", inputs(512), lambda **answer: answers.append(answer["error"]))
        until(lambda: answers)  # the others have arrived then
        watch.stop.set()
        watch.thread.join(120)
        until(lambda: len(answers) == 30)
        assert any("the server stops" in str(error) for error in answers), answers


MOUNT = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=$0 tmpfs /dev/shm && exec "$@"']


def may_mount() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*MOUNT, "1m", "true"], capture_output=True).returncode


pytestmark = pytest.mark.skipif(not may_mount(), reason="this user cannot mount a tmpfs")


@contextmanager
def started(repository: Path, scratch: Path, size: str) -> Iterator[tuple[subprocess.Popen[bytes], Endpoints, Path]]:
    ports, output = free_endpoints(), scratch / "out"
    options = [f"--set={name}_port={getattr(ports, name)}" for name in ("grpc", "http", "metrics", "watch")]
    command = [SCOREMUX, "serve", "--repository", str(repository), "--log", str(scratch / "log"), *options]
    command.append("--set=selftest=off")  # it takes a second of all cores
    with output.open("wb") as file:
        process = subprocess.Popen([*MOUNT, size, *command], stdout=file, stderr=file)
    try:
        yield process, ports, output
    finally:
        process.terminate()
        process.wait(90)


def readyz(ports: Endpoints) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"{ports.watch_url}/readyz", timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_start_with_too_little_shared_memory_is_refused(small_repository: Path, tmp_path: Path) -> None:
    with started(small_repository, tmp_path, "8m") as (process, _, output):
        assert process.wait(240) == 2
        assert "/dev/shm has 8 MiB free, and Triton needs 16 at least" in output.read_text()


def test_full_shared_memory_is_unavailable_until_it_is_free(small_repository: Path, tmp_path: Path) -> None:
    with started(small_repository, tmp_path, "40m") as (process, ports, output):
        until(lambda: "ready;" in output.read_text(), process, output.read_text)
        memory = Path("/proc", str(process.pid), "root", "dev", "shm")
        assert {stat.S_IMODE(region.stat().st_mode) for region in memory.iterdir()} == {0o600}
        large = [Response("t-1", f"{number} " + "router " * 9_000) for number in range(64)]
        with ScoringClient(ports.grpc_url, retries=NO_RETRIES, timeout_s=60, chunk_rows=64) as client:
            assert client.score(large[:1])[0].ok
            fill = memory / "fill"
            with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as file:
                while True:
                    file.write(b"x" * (1 << 20))
            status, body = readyz(ports)
            assert status == 503 and int(str(body["shared_memory_free_bytes"])) < 2 << 20
            with pytest.raises(UnavailableError):
                client.score(large)
            fill.unlink()
        # Triton's Python backend may crash after it refused a request for want of shared memory (SIGSEGV, seen in
        # 24.10 once in some twenty refusals). The watcher restarts it then, and clients try again.
        with ScoringClient(ports.grpc_url, chunk_rows=64) as client:
            assert all(row.ok for row in client.score(large))
        until(lambda: readyz(ports)[0] == 200)
        with urllib.request.urlopen(f"{ports.watch_url}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert "scoremux_restarts_total 0.0" in text or "Triton ended with status -11" in output.read_text()
