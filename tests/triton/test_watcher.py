"""A real Triton that is killed, stopped, poisoned and worn out under its watcher."""

import http.client
import os
import re
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

import serving as command_line
from malformed import classify, fuzz, huge
from scoremux_client import NO_RETRIES, Response, ScoringClient, TransportError
from scoremux_server.errors import CrashLoopError, SetupError
from scoremux_server.supervision.watcher import Watcher
from scoremux_server.triton import processes
from scoremux_server.triton.run_files import SHARED_MEMORY
from scoremux_server.triton.server import TritonServer
from waiting import free_endpoints, until
from watching import Watched, responses, score, unwatched, watched

NIGHTLY = pytest.mark.nightly


@pytest.fixture(scope="module")
def serving(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(small_repository, tmp_path_factory.mktemp("log") / "triton.log", canary_limit_s=3.0) as watch:
        yield watch


@pytest.mark.parametrize(
    ("whose", "number", "cause"),
    [
        ("stub", signal.SIGKILL, "the stub of scorer is dead"),
        pytest.param("stub", signal.SIGSTOP, "a canary has no answer after 3 s|.* is not healthy.", marks=NIGHTLY),
        pytest.param("server", signal.SIGKILL, "Triton ended with status -9", marks=NIGHTLY),
        pytest.param("server", signal.SIGSTOP, "a canary has no answer after 3 s", marks=NIGHTLY),
    ],
)
def test_dead_or_hung_process_is_restarted(serving: Watched, whose: str, number: signal.Signals, cause: str) -> None:
    rows = responses(20)
    before, health = score(serving, rows), serving.health
    restarts = health.restarts
    os.kill(serving.stub() if whose == "stub" else serving.server.process.pid, number)
    serving.wait_until(False)
    serving.wait_until(True)
    assert health.restarts == restarts + 1 and re.fullmatch(cause, health.cause)
    assert score(serving, rows) == before
    until(lambda: "works again after" in serving.reports[-1], shown=lambda: serving.reports)  # said once it is ready


_HANGING_MODEL = """
from pathlib import Path
from threading import Event
from scoremux_engine.runners import openvino

class Hanging(openvino.OpenVinoRunner):
    def run(self, *rows, **options):
        if Path({file!r}).exists():
            Event().wait()
        return super().run(*rows, **options)

openvino.OpenVinoRunner = Hanging
from scoremux_engine.backend.scorer import Scorer as TritonPythonModel
"""


@pytest.mark.nightly
def test_a_backend_that_hangs_is_restarted(small_repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "hang"

    class HangingServer(TritonServer):
        def command(self, folder: Path, key: str) -> list[str]:
            file.unlink(missing_ok=True)
            arguments = super().command(folder, key)
            model = folder / "models" / "scorer" / "1" / "model.py"
            model.write_text(_HANGING_MODEL.format(file=str(file)))
            return arguments

    with watched(small_repository, tmp_path / "log", server=HangingServer, canary_limit_s=3.0) as watch:
        before = score(watch, responses(9))
        file.touch()
        watch.wait_until(False)
        watch.wait_until(True)
        assert watch.health.cause == "a canary has no answer after 3 s"
        assert score(watch, responses(9)) == before


def test_stub_that_dies_before_its_first_canary_is_restarted(serving: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serving.server
    send, old, leader = server.canary.send, serving.stub(), server.process.pid
    struck = threading.Event()
    # Other clients' rows come first where a stub has died of one.
    monkeypatch.setattr(server.canary, "send", lambda: send() if struck.is_set() else None)
    os.kill(old, signal.SIGKILL)
    serving.wait_until(False)
    until(lambda: (new := processes.stubs(server.process.pid)) and old not in new and scores(server))
    os.kill(serving.stub(), signal.SIGKILL)
    struck.set()
    serving.wait_until(True)
    assert server.process.pid != leader


@pytest.mark.parametrize(
    ("whose", "number", "cause"),
    [
        pytest.param(
            "stub",
            signal.SIGKILL,
            "the stub of scorer died|Triton (stopped with|was not ready)|.* is not healthy",
            marks=NIGHTLY,
        ),
        pytest.param("stub", signal.SIGSTOP, "Triton (stopped|was not ready after 20 s)", marks=NIGHTLY),
        ("Triton", signal.SIGABRT, "Triton stopped with status -6"),
    ],
)
def test_first_start_without_a_canary_in_time_is_tried_again(
    small_repository: Path, tmp_path: Path, whose: str, number: signal.Signals, cause: str
) -> None:
    class Interrupted(TritonServer):
        def launch(self) -> None:
            super().launch()
            until(lambda: processes.stubs(self.process.pid))  # which then loads the scorer for a second or more
            os.kill(self.process.pid if whose == "Triton" else next(iter(processes.stubs(self.process.pid))), number)

    with watched(small_repository, tmp_path / "log", server=Interrupted, start_timeout_s=20) as watch:
        assert re.match(f"({cause}).*; restarting Triton$", watch.reports[0]), watch.reports
        assert watch.health.restarts >= 1 and all(scored.ok for scored in score(watch, responses(9)))
        until(lambda: "works again after" in watch.reports[-1], shown=lambda: watch.reports)


def scores(server: TritonServer) -> bool:
    try:
        with ScoringClient(server.endpoints.grpc_url, timeout_s=60, retries=NO_RETRIES) as client:
            return client.score(responses(1))[0].ok
    except TransportError:
        return False


@pytest.mark.nightly
@pytest.mark.parametrize("folder", ["run", "log"])
def test_folders_that_somebody_tidied_away_are_made_again(small_repository: Path, tmp_path: Path, folder: str) -> None:
    with watched(small_repository, tmp_path / "logs" / "triton.log") as watch:
        before = score(watch, responses(9))
        tidied = watch.server.run.path if folder == "run" else tmp_path / "logs"
        while tidied.exists():  # the scorer may write into it meanwhile
            shutil.rmtree(tidied, ignore_errors=True)
        for victim in (watch.stub, lambda: watch.server.process.pid):
            os.kill(victim(), signal.SIGKILL)
            watch.wait_until(False)
            watch.wait_until(True)
        assert score(watch, responses(9)) == before
        assert watch.server.log.is_file() and watch.server.run.path.is_dir()


@pytest.mark.nightly
def test_another_server_on_the_same_ports_is_found_out(
    small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(small_repository, tmp_path / "a.log", crash_loop_deaths=3, backoff_s=0.1) as watch:
        restart, taken = watch.server.restart, threading.Event()

        def late() -> None:
            taken.wait(240)
            restart()

        monkeypatch.setattr(watch.server, "restart", late)
        os.kill(watch.server.process.pid, signal.SIGKILL)
        watch.wait_until(False)
        with unwatched(small_repository, watch.server.endpoints, log=tmp_path / "b.log") as other:
            taken.set()
            while watch.thread.is_alive():
                assert not watch.health.ready
                time.sleep(0.01)
            assert isinstance(watch.error, CrashLoopError)
            assert scores(other)


def test_requests_that_kill_triton_itself_are_survived(serving: Watched) -> None:
    def over_grpc() -> None:
        with (
            grpc.insecure_channel(serving.server.endpoints.grpc_url) as channel,
            pytest.raises(grpc.RpcError) as failed,
        ):
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(classify(), timeout=60)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE

    def over_http() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", serving.server.endpoints.http, timeout=60)
        connection.request("POST", "/v2/models/scorer/infer", huge())
        with pytest.raises(ConnectionError):
            connection.getresponse()
        connection.close()

    for send, status in ((over_grpc, -signal.SIGFPE), (over_http, -signal.SIGABRT)):
        send()
        serving.wait_until(False)
        serving.wait_until(True)
        assert f"Triton ended with status {status}" in serving.health.cause


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_malformed_requests_are_answered_with_a_sentence_each(serving: Watched, count: int) -> None:
    server = serving.server
    pids = lambda: {server.process.pid, *processes.stubs(server.process.pid)}  # noqa: E731
    tally = fuzz(server.endpoints, pids, count, "suite")
    assert tally.bad == []
    assert tally.outcomes["answered"] > 20
    assert tally.outcomes["refused"] > 300


def test_a_busy_server_is_not_restarted(small_repository: Path, tmp_path: Path) -> None:
    with watched(small_repository, tmp_path / "log", canary_every_s=0.1) as watch:
        rows = [Response("t-4", f"{n} router packet" + " router packet" * 40) for n in range(8 * 256)]
        with ScoringClient(watch.server.endpoints.grpc_url, chunk_rows=256, window=8) as client:
            assert all(scored.ok for scored in client.score(rows))
        assert watch.reports == []
        assert watch.readyz()[0] == 200


def test_a_crash_loop_ends_with_its_cause(own_repository: Path, tmp_path: Path) -> None:
    with watched(own_repository, tmp_path / "log", crash_loop_deaths=3, backoff_s=0.1) as watch:
        graph = own_repository / "backbone" / "1" / "backbone.onnx"
        graph.write_bytes(graph.read_bytes()[:-100])
        os.kill(watch.server.process.pid, signal.SIGKILL)
        watch.thread.join(120)
        assert isinstance(watch.error, CrashLoopError)
        assert "Triton died 3 times" in str(watch.error)
        assert "backbone.onnx was changed or cut short" in str(watch.error)
        assert not watch.health.ready and not watch.health.alive
        assert watch.health.restarts == 2


def test_a_store_that_cannot_be_read_ends_no_server(own_repository: Path, tmp_path: Path) -> None:
    manifest = own_repository / "store" / "manifest.json"
    good = manifest.read_bytes()
    with watched(own_repository, tmp_path / "log", canary_every_s=0.2) as watch:
        rows, health = responses(20), watch.health
        before = score(watch, rows)
        manifest.write_bytes(good[:-9])
        until(lambda: health.store_cause)
        assert score(watch, rows) == before and health.ready
        assert "manifest.json is damaged" in watch.readyz()[1]["store_cause"]
        os.kill(watch.stub(), signal.SIGKILL)
        watch.wait_until(False)
        time.sleep(4)  # some crash loops long
        assert watch.thread.is_alive() and not health.ready and "manifest.json is damaged" in health.cause
        with pytest.raises(TransportError):
            score(watch, rows)
        manifest.write_bytes(good)
        watch.wait_until(True)
        assert score(watch, rows) == before
    reported = [report for report in watch.reports if "manifest.json" in report]
    assert [report.partition("; ")[2] for report in reported] == [
        "tasks already in memory are scored",
        "waiting until it can be read",
    ]
    assert "the store can be read again" in watch.reports


def test_a_start_without_a_readable_store_is_refused(own_repository: Path, tmp_path: Path) -> None:
    (own_repository / "store" / "manifest.json").write_text('{"tasks": tru')
    with pytest.raises(SetupError, match=r"manifest\.json is damaged"):
        Watcher(TritonServer(own_repository, free_endpoints(), log=tmp_path / "log")).run(threading.Event())


def test_killed_watcher_takes_triton_with_it_and_frees_its_ports(small_repository: Path, tmp_path: Path) -> None:
    with command_line.serving(small_repository, tmp_path) as first:
        ports, group = first.endpoints, processes.group(first.triton)
        prefix = next(w for w in processes.arguments(first.triton) if "shm-region" in w).rpartition("=")[2]
        assert list(SHARED_MEMORY.glob(f"{prefix}*"))
        first.process.kill()
    until(lambda: not list(filter(processes.alive, group)))
    assert not list(SHARED_MEMORY.glob(f"{prefix}*"))  # Triton ended by itself, and removed them
    for port in (ports.grpc, ports.http, ports.metrics, ports.watch):
        socket.create_server(("127.0.0.1", port)).close()
