"""The watcher's HTTP port."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.triton.canary import Answer, Verdict
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.watch.health import Health, State
from scoremux_server.watch.health_endpoint import HealthEndpoint
from scoremux_server.watch.watch_metrics import exposition

GOOD = Answer(Verdict.GOOD, version="t-1@abc")
WRONG = Answer(Verdict.WRONG, "other bits")


@pytest.fixture
def served() -> Iterator[tuple[Health, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    health = Health({"scoremux": "1"})
    with HealthEndpoint(health, "127.0.0.1", port):
        yield health, port


def get(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if body else None
    finally:
        connection.close()


@pytest.mark.parametrize("state", list(State))
def test_ready_is_serving_with_a_good_canary_and_nothing_else(served: tuple[Health, int], state: State) -> None:
    health, port = served
    health.state = state
    health.note(GOOD)
    status, body = get(port, "/readyz")
    assert (status == 200) == body["ready"] == (state is State.SERVING)
    assert body["state"] == state.value
    assert 0 <= body["canary_age_s"] < 5
    assert body["versions"] == {"scoremux": "1", "canary": "t-1@abc"}
    assert body["selftest"] == "short"
    assert get(port, "/healthz")[0] == (503 if state is State.FAILED else 200)


@pytest.mark.parametrize(("selftest", "sample"), [("short", ["1.0"]), ("off", ["0.0"]), ("none", [])])
def test_the_metrics_say_whether_the_server_tested_itself(selftest: str, sample: list[str]) -> None:
    text = exposition(Health(selftest=selftest)).decode()
    assert re.findall(r"^scoremux_selftest (.*)$", text, re.MULTILINE) == sample


@pytest.mark.parametrize("state", list(State))
def test_a_server_that_gives_notice_serves_on(served: tuple[Health, int], state: State) -> None:
    health, port = served
    health.state = state
    assert get(port, "/servez") == (503, {"serves": False})
    health.note(GOOD)
    serves = state is State.SERVING
    assert get(port, "/servez") == (200 if serves else 503, {"serves": serves})
    with health.notice():
        assert get(port, "/readyz")[0] == 503 and get(port, "/servez")[0] == (200 if serves else 503)
        assert health.state is State.DRAINING
        health.note(WRONG)
        assert get(port, "/servez")[0] == 503
        health.note(GOOD)
    assert get(port, "/servez")[0] == get(port, "/readyz")[0] == 503


@pytest.mark.parametrize("state", list(State))
def test_a_watcher_that_is_stuck_is_not_alive(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    health, now = Health(stop_s=100), time.monotonic()
    health.state = state
    allowed = {State.STOPPED: 1e9, State.FAILED: -1.0, State.DRAINING: 160.0}.get(state, 60.0)
    for after in (0.0, 59.0, 61.0, 159.0, 161.0):
        monkeypatch.setattr(time, "monotonic", lambda at=now + after: at)
        assert health.alive == (after < allowed), after


def test_the_watcher_listens_where_it_is_told(served: tuple[Health, int]) -> None:
    port = Endpoints.choose(watch_address="::1").watch
    with HealthEndpoint(served[0], "::1", port):
        connection = http.client.HTTPConnection("::1", port, timeout=5)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_wrong_canary_turns_ready_off_and_says_why(served: tuple[Health, int]) -> None:
    health, port = served
    health.state = State.SERVING
    assert get(port, "/readyz")[0] == 503
    health.note(GOOD)
    assert get(port, "/readyz")[0] == 200
    health.note(WRONG)
    status, body = get(port, "/readyz")
    assert (status, body["cause"]) == (503, "other bits")


def test_other_paths_and_methods_are_refused(served: tuple[Health, int]) -> None:
    _, port = served
    assert get(port, "/etc/passwd")[0] == 404
    assert get(port, "/healthz", "HEAD") == (200, None)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("POST", "/readyz")
    assert connection.getresponse().status == 501
    connection.close()


def test_a_taken_port_is_named(served: tuple[Health, int]) -> None:
    with pytest.raises(SetupError, match=rf"the watcher's port {served[1]} on 127\.0\.0\.1 cannot be used"):
        HealthEndpoint(Health(), "127.0.0.1", served[1])
