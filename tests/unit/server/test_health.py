"""Canaries, and what the watcher's endpoint says of them."""

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
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peers import ok_columns
from scoremux_client import BusyError, RejectedError, UnavailableError, contract
from scoremux_client.rows import Columns
from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile
from scoremux_server.supervision.health import Health, WatchState
from scoremux_server.supervision.health_endpoint import HealthEndpoint
from scoremux_server.triton.canary import Answer, Canary, CanaryVerdict
from waiting import free_port, until

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
    monkeypatch.setattr("scoremux_server.supervision.health.shared_memory_free_bytes", lambda: 1000)
    assert health.body()["cause"].startswith("1,000 bytes of shared memory are free")
    health.state = WatchState.DRAINING
    assert health.body()["cause"] == "the server is draining"


@pytest.mark.parametrize(("selftest", "sample"), [("short", ["1.0"]), ("off", ["0.0"]), ("none", [])])
def test_metrics_tell_whether_the_server_tested_itself(selftest: str, sample: list[str]) -> None:
    text = Health(selftest=selftest).exposition().decode()
    assert re.findall(r"^scoremux_selftest (.*)$", text, re.MULTILINE) == sample


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


def test_endpoint_takes_ipv6_and_refuses_the_rest(health: Health, port: int, capfd: pytest.CaptureFixture[str]) -> None:
    six = free_port()
    with HealthEndpoint(health, "::1", six):
        assert get(six, "/healthz", host="::1")[0] == 200
    assert get(port, "/etc/passwd")[0] == 404
    assert get(port, "/healthz", "HEAD") == (200, None)
    assert get(port, "/readyz", "POST")[0] == 501
    with pytest.raises(SetupError, match=rf"the watcher's port {port} on 127\.0\.0\.1 cannot be used"):
        HealthEndpoint(health, "127.0.0.1", port)
    for _ in range(3):  # a connection that is reset prints nothing
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        client.close()
    time.sleep(0.3)
    assert get(port, "/healthz")[0] == 200
    assert capfd.readouterr().err == ""


WITHOUT_FILES = """
import resource, socket, sys, time
from scoremux_server.supervision.health import Health
from scoremux_server.supervision.health_endpoint import HealthEndpoint
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


class Recorded:
    """A transport that gives prepared answers; None keeps the caller waiting."""

    def __init__(self, answers: list[Columns | Exception | None]) -> None:
        self.answers = answers
        self.sent: list[list[bytes]] = []

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        assert timeout_s is None
        self.sent.append(inputs[contract.TASK.name][:, 0].tolist())
        future: Future[Columns] = Future()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def close(self) -> None:
        """Nothing is open."""


def columns(*rows: tuple[str, list[float], str]) -> Columns:
    """Return what a server answers: status, probabilities and version a row."""
    ok = np.array([status == "OK" for status, _, _ in rows])[:, None]
    probabilities = np.array([p for _, p, _ in rows], np.float32)
    return ok_columns([0] * len(rows)) | {
        "STATUS": np.array([[status.encode()] for status, _, _ in rows], dtype=object),
        "LEVEL": np.where(ok, 0, contract.NO_LEVEL).astype(np.int32),
        "PROBABILITIES": np.where(ok, probabilities, np.float32(0)),
        "VERSION": np.array([[version.encode()] for _, _, version in rows], dtype=object),
        "CONFIDENCE": np.full((len(rows), 1), contract.NO_CONFIDENCE, np.float32),
    }


FOUR = [("OK", [0.25, 0.75], "a" * 64), *[("OK", [0.5, 0.5], c * 64) for c in "bcd"]]
ONE = FOUR[:1]


def canary(store: Path, answers: list[Columns | Exception | None]) -> tuple[Canary, Recorded]:
    transport = Recorded(answers)
    return Canary("nowhere:1", store, lambda _: transport), transport


def ask(asked: Canary) -> tuple[CanaryVerdict, str]:
    asked.send()
    answer = asked.answer()
    assert answer is not None
    return answer.verdict, answer.cause


@pytest.fixture
def store(small_repository: Path) -> Path:
    return small_repository / "store"


def test_without_a_promise_of_bits_the_level_and_a_tolerance_are_compared(store: Path) -> None:
    near, far = (columns(("OK", p, "a" * 64)) for p in ([0.2501, 0.7499], [0.35, 0.65]))
    level = near | {"LEVEL": np.ones_like(near["LEVEL"])}
    transport = Recorded([columns(*FOUR), near, level, far, near])
    asked = Canary("nowhere:1", store, lambda _: transport, exact=False)
    good, wrong = CanaryVerdict.GOOD, CanaryVerdict.WRONG
    assert [ask(asked)[0] for _ in range(5)] == [good, good, wrong, wrong, good]
    transport = Recorded([columns(*FOUR), far])
    asked = Canary("nowhere:1", store, lambda _: transport, exact=False)
    assert ask(asked)[0] is good
    asked.forget()  # a restarted server may have other kernels
    assert ask(asked)[0] is good
    exact = {name: Profile.read(name).equal_bits for name in ("cpu", "gpu", "gpu-onnx", "gpu-tensorrt")}
    assert exact == {"cpu": True, "gpu": False, "gpu-onnx": False, "gpu-tensorrt": False}


def test_first_scored_task_is_the_canary_and_a_changed_bit_stays_wrong_after_a_reconnection(store: Path) -> None:
    asked, transport = canary(store, [columns(("UNKNOWN_TASK", [np.nan, np.nan], ""), *FOUR[1:]), columns(FOUR[1])])
    assert ask(asked) == ask(asked) == (CanaryVerdict.GOOD, "")
    assert transport.sent == [[b"t-1", b"t-2", b"t-3", b"t-4"], [b"t-2"]]
    other = [("OK", [0.25, float(np.nextafter(np.float32(0.75), np.float32(1)))], "a" * 64)]
    asked, _ = canary(store, [columns(*FOUR), columns(*other), columns(*other), columns(*ONE)])
    assert ask(asked)[0] is CanaryVerdict.GOOD
    assert ask(asked) == (CanaryVerdict.WRONG, "the canary of t-1@aaaaaaaaaaaa has other bits than the first time")
    asked.forget()
    assert ask(asked)[0] is CanaryVerdict.WRONG
    assert ask(asked)[0] is CanaryVerdict.GOOD


def test_canary_asks_all_tasks_again_when_its_own_is_gone_and_tells_failures_apart(store: Path) -> None:
    lost = columns(("UNKNOWN_TASK", [np.nan, np.nan], ""))
    errors = [RejectedError("the stub is not healthy"), UnavailableError("nobody there"), BusyError("it is full")]
    other_version = columns(("OK", [0.1, 0.9], "e" * 64))
    asked, transport = canary(store, [columns(*FOUR), lost, columns(*FOUR), *errors, other_version])
    assert [ask(asked) for _ in range(7)] == [
        (CanaryVerdict.GOOD, ""),
        (CanaryVerdict.WRONG, "no canary was scored (UNKNOWN_TASK)"),
        (CanaryVerdict.GOOD, ""),
        (CanaryVerdict.REFUSED, "the stub is not healthy"),
        (CanaryVerdict.UNREACHED, "nobody there"),
        (CanaryVerdict.BUSY, "it is full"),
        (CanaryVerdict.GOOD, ""),  # a new version may have other bits
    ]
    assert [len(sent) for sent in transport.sent[:3]] == [4, 1, 4]


def test_remembered_versions_are_bounded_and_the_used_one_stays(store: Path) -> None:
    versions = [f"{number:064x}" for number in range(600)]
    used, good, other = "a" * 64, [0.25, 0.75], [0.75, 0.25]
    answers = [columns(*FOUR)]
    for version in versions:
        answers += [columns(("OK", good, version)), columns(("OK", good, used))]
    last = [columns(("OK", other, version)) for version in (used, versions[300], versions[-200])]
    asked, _ = canary(store, [*answers, *last])
    assert {ask(asked)[0] for _ in answers} == {CanaryVerdict.GOOD}
    assert [ask(asked)[0] for _ in last] == [CanaryVerdict.WRONG, CanaryVerdict.GOOD, CanaryVerdict.WRONG]


def test_one_canary_is_in_flight_until_it_is_given_up(store: Path) -> None:
    asked, transport = canary(store, [None, columns(*FOUR)])
    asked.send()
    asked.send()
    assert asked.answer(0.05) is None
    assert asked.waiting_s >= 0.05
    assert len(transport.sent) == 1
    given_up = asked.answer(limit_s=0.01)
    assert given_up and given_up.verdict is CanaryVerdict.UNREACHED
    assert given_up.cause == "a canary has no answer after 0.01 s"
    assert asked.waiting_s == 0
    assert ask(asked)[0] is CanaryVerdict.GOOD


def test_canary_of_an_empty_store_asks_for_an_unknown_task_and_an_unreadable_one_is_not_empty(tmp_path: Path) -> None:
    unknown = columns(("UNKNOWN_TASK", [np.nan, np.nan], ""))
    for text in ('{"format": 1, "backbone": "%s", "tasks": {}}' % ("f" * 64), '{"backbone": tru'):
        (tmp_path / "manifest.json").write_text(text)
        asked, transport = canary(tmp_path, [unknown])
        asked.send()
        answer = asked.answer()
        assert answer is not None and transport.sent == [[b"no-task-yet"]]
        assert answer.verdict is (CanaryVerdict.GOOD if "format" in text else CanaryVerdict.REFUSED)
        assert answer.cause == answer.store_cause and ("manifest.json is damaged" in answer.cause) != ("format" in text)


def test_unreadable_store_is_named_beside_a_good_canary(tmp_path: Path, store: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes((store / "manifest.json").read_bytes())
    asked, _ = canary(tmp_path, [columns(*FOUR), columns(*ONE), columns(*ONE)])
    assert ask(asked) == (CanaryVerdict.GOOD, "")
    for text, told in (("{", True), (manifest.read_text(), False)):
        manifest.write_text(text)
        asked.send()
        answer = asked.answer()
        assert answer is not None and answer.good
        assert ("manifest.json is damaged" in answer.store_cause) is told


def test_manifest_of_another_backbone_is_named(own_repository: Path) -> None:
    store = own_repository / "store"
    asked, _ = canary(store, [])
    assert asked.look_at_store() == ""
    manifest = store / "manifest.json"
    before = manifest.read_text()
    changed = {**json.loads(before), "backbone": "f" * 64}
    manifest.write_text(json.dumps(changed))
    assert "belongs to backbone ffffffffffff, but" in asked.look_at_store()
    manifest.write_text(before)
    assert asked.look_at_store() == ""
