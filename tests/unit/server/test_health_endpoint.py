"""The watcher's HTTP port under clients that hold connections, dribble or go away."""

from __future__ import annotations

import http.client
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoremux_server.triton.canary import Answer, Verdict
from scoremux_server.watch.health import Health, State
from scoremux_server.watch.health_endpoint import HealthEndpoint


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with HealthEndpoint(Health(), "127.0.0.1", port):
        yield port


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def healthz(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


def test_held_connections_keep_nobody_out_and_cost_a_bounded_number_of_files(port: int) -> None:
    files, threads = open_files(), threading.active_count()
    held = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    deadline = time.monotonic() + 60
    while open_files() - files < 300 + 30:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for _ in range(20):
        assert healthz(port) == 200
    assert open_files() - files - 300 <= 32
    assert threading.active_count() - threads <= 40
    for one in held:
        one.close()


def test_a_connection_ends_however_its_client_dribbles(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        started = time.monotonic()
        with pytest.raises(ConnectionError):
            for _ in range(200):
                client.sendall(b"a")
                time.sleep(0.1)
        assert time.monotonic() - started > 4


def test_a_reset_connection_is_no_news(port: int, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.close()
    time.sleep(0.3)
    assert healthz(port) == 200
    assert capfd.readouterr().err == ""


WITHOUT_FILES = """
import resource, socket, sys, time
from scoremux_server.watch.health import Health
from scoremux_server.watch.health_endpoint import HealthEndpoint
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
with HealthEndpoint(Health(), "127.0.0.1", port):
    clients = [socket.socket() for _ in range(3)]
    held = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    try:
        while True: held.append(open("/dev/null"))
    except OSError: pass
    for client in clients: client.connect(("127.0.0.1", port))
    before = time.process_time()
    time.sleep(1)
    print(time.process_time() - before < 0.2)
    del held
    clients[0].sendall(b"GET /healthz HTTP/1.0\\r\\n\\r\\n")
    print(clients[0].recv(100).split()[1])
"""


def test_where_no_file_is_left_for_a_connection_it_waits_without_haste() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.split() == ["True", "b'200'"]


def test_a_watcher_that_hangs_vouches_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    health, now = Health(), time.monotonic()
    health.state = State.SERVING
    health.note(Answer(Verdict.GOOD))
    for after, ready in ((0.0, True), (9.0, True), (11.0, False)):
        monkeypatch.setattr(time, "monotonic", lambda at=now + after: at)
        assert (health.ready, health.alive) == (ready, True)
