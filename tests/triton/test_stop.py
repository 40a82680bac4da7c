"""SIGTERM to `scoremux serve` under load: rows that were taken are answered, new ones refused, nothing is left."""

import os
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from http_transport import HttpTransport
from making import TASKS
from scoremux_client import NO_RETRIES, Response, Retries, Scored, ScoringClient, TransportError, UnavailableError
from scoremux_server.triton import processes
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.run_files import SHARED_MEMORY
from serving import SCOREMUX, metrics, serving, value
from stands import message
from waiting import port_options, until

BOUND_S = 120
"""What a stop may take on a machine that is busy with other tests; alone it takes a few seconds."""


@dataclass
class Request:
    sent_at: float
    scored: list[Scored] = field(default_factory=list)
    error: TransportError | None = None


def send_until_refused(way: str | HttpTransport, rows: list[Response], sent: list[Request]) -> None:
    """Send requests one after the other, without retries, until one gets no answer."""
    with ScoringClient(way, chunk_rows=len(rows), retries=NO_RETRIES) as client:
        while True:
            request = Request(time.monotonic())
            sent.append(request)
            try:
                request.scored = client.score(rows)
            except TransportError as error:
                request.error = error
                return


def round_trip_s(client: ScoringClient) -> float:
    """Return the seconds that a row on its own takes, which passes large requests."""
    sent_at = time.monotonic()
    assert client.score([Response("t-1", "the router")])[0].ok
    return time.monotonic() - sent_at


def tritons_child(process: subprocess.Popen[bytes]) -> int:
    (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(pid)


def nothing_is_left(group: list[int], prefix: str, endpoints: Endpoints) -> None:
    assert not list(filter(processes.alive, group))
    assert not list(SHARED_MEMORY.glob(f"{prefix[:-1]}*"))
    for port in (endpoints.grpc, endpoints.http, endpoints.metrics, endpoints.watch):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((endpoints.address, port))


def test_sigterm_in_mid_load(small_repository: Path, tmp_path: Path) -> None:
    rows = [Response(task, "router packet " * words) for task in TASKS for words in range(1, 65)]
    with serving(small_repository, tmp_path) as server:
        process, triton, endpoints = server.process, server.triton, server.endpoints
        group = processes.group(triton)
        prefix = next(w for w in processes.arguments(triton) if "shm-region" in w).rpartition("=")[2]
        with ScoringClient(endpoints.grpc_url) as client:
            expected = client.score(rows)
        sent: list[Request] = []
        ways = [way for _ in range(3) for way in (endpoints.grpc_url, HttpTransport(endpoints.http_url))]
        threads = [threading.Thread(target=send_until_refused, args=(way, rows, sent)) for way in ways]
        for thread in threads:
            thread.start()
        with ScoringClient(endpoints.grpc_url, retries=NO_RETRIES) as client:
            trips = [round_trip_s(client) for _ in range(8)]
        time.sleep(max(1.5, 6 * max(trips)))
        stopped_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)  # impatience changes nothing
        assert process.wait(BOUND_S) == 0
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    # Taken: sent long enough before the signal to have reached Triton on this machine.
    taken = [request for request in sent if request.sent_at < stopped_at - max(0.2, 2 * max(trips))]
    assert len(taken) >= len(ways)
    assert [request.error for request in taken] == [None] * len(taken)
    assert any(request.sent_at < stopped_at for request in taken)
    assert all(request.scored == expected for request in sent if request.error is None)
    refused = [request.error for request in sent if request.error]
    assert len(refused) == len(ways)
    assert all(isinstance(error, UnavailableError) for error in refused), refused
    assert not any("router" in str(error) for error in refused)
    nothing_is_left(group, prefix, endpoints)


@pytest.mark.nightly
def test_a_stop_waits_for_a_request_that_is_being_tokenised(small_repository: Path, tmp_path: Path) -> None:
    texts = [f"word{number} ".encode() * 6000 for number in range(512)]  # 27 MB: seconds before the first batch
    with (
        serving(small_repository, tmp_path, "drain_s=300") as server,
        grpc.insecure_channel(server.endpoints.grpc_url) as channel,
    ):
        url = server.endpoints.metrics_url
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer.future(message([b"t-1"] * 512, texts))
        until(lambda: value(metrics(url), "scoremux_waiting_rows") >= 512 or call.done(), shown=lambda: server.output)
        assert value(metrics(url), "scoremux_tokens_total") < 512 and not call.done()
        server.process.send_signal(signal.SIGTERM)
        assert call.result(300).model_name == "scorer"
        assert server.process.wait(BOUND_S) == 0


@pytest.mark.nightly
@pytest.mark.parametrize("victim", ["stub", "tritonserver"])
def test_sigterm_while_something_hangs(small_repository: Path, tmp_path: Path, victim: str) -> None:
    with serving(small_repository, tmp_path, "drain_s=3") as server:
        process, triton, endpoints = server.process, server.triton, server.endpoints
        group = processes.group(triton)
        prefix = next(w for w in processes.arguments(triton) if "shm-region" in w).rpartition("=")[2]
        (stub,) = processes.stubs(triton)
        os.kill(stub if victim == "stub" else triton, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(BOUND_S) == 0
    nothing_is_left(group, prefix, endpoints)


def test_a_log_that_is_a_pipe_and_a_hangup_that_is_ignored(small_repository: Path) -> None:
    ignoring = ["nohup", *serve_command(small_repository, Path("/dev/stdout"))]
    process = subprocess.Popen(ignoring, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    assert process.stdout
    timer = threading.Timer(240, process.kill)
    timer.start()
    heard = b""
    for line in process.stdout:
        heard += line
        if line.startswith(b"ready;"):
            break
    assert b"Started GRPCInferenceService" in heard, heard
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND_S) == 0
    timer.cancel()
    assert b"stopped" in process.stdout.read()
    process.stdout.close()


def serve_command(repository: Path, log: Path) -> list[str]:
    """Return a command that serves a repository; log: Triton's."""
    options = ["--repository", str(repository), "--log", str(log), "--set", "selftest=off"]
    return [SCOREMUX, "serve", *port_options(), *options]


@pytest.mark.nightly
@pytest.mark.parametrize("reader", ["goes", "sleeps"])
def test_who_reads_its_output_is_no_condition_of_serving(small_repository: Path, tmp_path: Path, reader: str) -> None:
    ours, theirs = os.pipe()
    process = subprocess.Popen(serve_command(small_repository, tmp_path / "log"), stdout=theirs, stderr=subprocess.PIPE)
    assert process.stderr
    heard, deadline = b"", time.monotonic() + 240
    while b"ready;" not in heard:
        assert time.monotonic() < deadline
        heard += os.read(ours, 4096)
    if reader == "goes":
        os.close(ours)
    else:
        os.set_blocking(theirs, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(theirs, b"x" * 4096)
        os.set_blocking(theirs, True)
    os.close(theirs)
    url = next(line.split()[1] for line in heard.decode().splitlines() if line.startswith("gRPC"))
    for victim in ("stub", "tritonserver"):
        triton = tritons_child(process)
        os.kill(next(iter(processes.stubs(triton))) if victim == "stub" else triton, signal.SIGKILL)
        time.sleep(0.3)
        with ScoringClient(url, timeout_s=60, retries=Retries(patience_s=180, contact_s=180)) as client:
            assert client.score([Response("t-1", "the router")])[0].ok
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND_S) == 0
    assert process.stderr.read() == b""


def test_sigterm_before_it_is_ready(small_repository: Path, tmp_path: Path) -> None:
    with (tmp_path / "serve.txt").open("wb") as file:
        process = subprocess.Popen(serve_command(small_repository, tmp_path / "log"), stdout=file, stderr=file)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(children.read_text, process)
    (triton,) = children.read_text().split()
    process.send_signal(signal.SIGTERM)
    assert process.wait(BOUND_S) == 0
    assert "ready;" not in (tmp_path / "serve.txt").read_text()
    assert not processes.living(int(triton))
