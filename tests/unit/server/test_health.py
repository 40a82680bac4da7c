"""A server's health and its HTTP port, also under clients that hold connections, dribble or go away."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ports import free_port
from scoremux_server.errors import SetupError
from scoremux_server.triton.canary import Answer, CanaryVerdict
from scoremux_server.watch.health import Health, WatchState
from scoremux_server.watch.health_endpoint import HealthEndpoint
from waiting import until

GOOD = Answer(CanaryVerdict.GOOD, version="t-1@abc")
WRONG = Answer(CanaryVerdict.WRONG, "other bits")
STATES = pytest.mark.parametrize("state", list(WatchState))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def health() -> Health:
    return Health({"scoremux": "1"})


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    port = free_port()
    with HealthEndpoint(health, "127.0.0.1", port):
        yield port


def get(port: int, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=60)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body.startswith(b"{") else None
    finally:
        connection.close()


@STATES
def test_ready_means_serving_with_a_good_canary(health: Health, port: int, state: WatchState) -> None:
    health.state = state
    health.note(GOOD)
    status, body = get(port, "/readyz")
    assert (status == 200) == body["ready"] == (state is WatchState.SERVING)
    assert body["state"] == state.value
    assert 0 <= body["canary_age_s"] < 5
    assert body["versions"] == {"scoremux": "1", "canary": "t-1@abc"}
    assert body["selftest"] == "short" and body["arithmetic"] == ""
    health.canary_waiting_s = 11.0
    assert get(port, "/readyz")[0] == 503 and get(port, "/readyz")[1]["canary_waiting_s"] == 11.0
    assert b"scoremux_canary_waiting_seconds 11.0" in health.exposition()
    assert get(port, "/healthz")[0] == (503 if state is WatchState.FAILED else 200)


@STATES
def test_stuck_watcher_is_neither_alive_nor_ready(state: WatchState) -> None:
    clock = Clock()
    health = Health(stop_s=100, clock=clock)
    health.state = state
    health.note(GOOD)
    alive_s = {WatchState.STOPPED: 1e9, WatchState.FAILED: -1.0, WatchState.DRAINING: 160.0}.get(state, 60.0)
    for clock.now in (0.0, 9.0, 11.0, 59.0, 61.0, 159.0, 161.0):
        assert health.alive == (clock.now < alive_s), clock.now
        assert health.ready == (state is WatchState.SERVING and clock.now < 10)


def test_wrong_canary_turns_ready_off_and_names_its_cause(health: Health, port: int) -> None:
    health.state = WatchState.SERVING
    assert get(port, "/readyz")[0] == 503
    health.note(GOOD)
    assert get(port, "/readyz")[0] == 200
    health.note(WRONG)
    status, body = get(port, "/readyz")
    assert (status, body["cause"]) == (503, "other bits")
    health.note(GOOD)
    status, body = get(port, "/readyz")
    assert (status, body["cause"], body["last_cause"]) == (200, "", "other bits")


def test_cause_is_that_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    health = Health(clock=clock)
    assert health.body()["cause"] == "the server is starting"
    health.state = WatchState.SERVING
    health.note(WRONG)
    assert health.body()["cause"] == "other bits"
    health.note(GOOD)
    clock.now = 12.0
    assert health.body()["cause"].startswith("the watcher has seen nothing for 12 s")
    health.beat()
    health.canary_waiting_s = 11.0
    assert health.body()["cause"] == "a canary has waited for 11 s"
    monkeypatch.setattr("scoremux_server.watch.health.shared_memory_free_bytes", lambda: 1000)
    assert health.body()["cause"].startswith("1,000 bytes of shared memory are free")
    health.state = WatchState.DRAINING
    assert health.body()["cause"] == "the server is draining"


@pytest.mark.parametrize(("selftest", "sample"), [("short", ["1.0"]), ("off", ["0.0"]), ("none", [])])
def test_metrics_tell_whether_the_server_tested_itself(selftest: str, sample: list[str]) -> None:
    text = Health(selftest=selftest).exposition().decode()
    assert re.findall(r"^scoremux_selftest (.*)$", text, re.MULTILINE) == sample


def test_endpoint_takes_ipv6_and_refuses_other_paths_methods_and_a_taken_port(health: Health, port: int) -> None:
    six = free_port()
    with HealthEndpoint(health, "::1", six):
        assert get(six, "/healthz", host="::1")[0] == 200
    assert get(port, "/etc/passwd")[0] == 404
    assert get(port, "/healthz", "HEAD") == (200, None)
    assert get(port, "/readyz", "POST")[0] == 501
    with pytest.raises(SetupError, match=rf"the watcher's port {port} on 127\.0\.0\.1 cannot be used"):
        HealthEndpoint(health, "127.0.0.1", port)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("dribble", [False, True])
def test_slow_clients_never_keep_a_probe_out_and_cost_few_files(port: int, dribble: bool) -> None:
    files, threads = open_files(), threading.active_count()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    until(lambda: open_files() - files >= 300 + 30)

    def few_files() -> bool:
        for client in clients if dribble else ():
            with suppress(OSError):
                client.send(b"G")
        return open_files() - files - 300 <= 32

    for _ in range(40):
        few_files()
        assert get(port, "/healthz")[0] == 200
    until(few_files)  # one whose answer was read is closed a moment later
    until(lambda: threading.active_count() - threads <= 40)
    for client in clients:
        client.close()


def test_reset_connection_prints_nothing(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.close()
    time.sleep(0.3)
    assert get(port, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


WITHOUT_FILES = """
import resource, socket, sys, time
from scoremux_server.watch.health import Health
from scoremux_server.watch.health_endpoint import HealthEndpoint
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
with HealthEndpoint(Health(), "127.0.0.1", port):
    clients = [socket.socket() for _ in range(3)]
    files = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    try:
        while True: files.append(open("/dev/null"))
    except OSError: pass
    for client in clients: client.connect(("127.0.0.1", port))
    before = time.process_time()
    time.sleep(1)
    print(time.process_time() - before < 0.2)
    del files
    clients[0].sendall(b"GET /healthz HTTP/1.0\\r\\n\\r\\n")
    print(clients[0].recv(100).split()[1])
"""


def test_endpoint_without_a_free_file_waits_without_computing() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout.split() == ["True", "b'200'"]
