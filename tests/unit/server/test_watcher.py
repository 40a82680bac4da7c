"""How a watcher counts deaths and waits, with a server that does what the test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from scoremux_server.errors import CrashLoopError, SetupError, StartError
from scoremux_server.profile import Profile
from scoremux_server.triton.canary import Answer, Verdict
from scoremux_server.watch.diagnosis import Timing, Trouble
from scoremux_server.watch.watcher import Watcher

GOOD = Answer(Verdict.GOOD)


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "sleep", self.pass_by)

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class Stop(threading.Event):
    """An event whose waiting costs nothing."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.waits: list[float] = []
        self.comes = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            self.waits.append(timeout or 0.0)
            self._clock.pass_by(timeout or 0.0)
        if self.comes:
            self.set()
        return self.is_set()


class Fake:
    """A server; `starts` says how each further start goes."""

    def __init__(self, clock: Clock, starts: Callable[[int], None], **keys: Any) -> None:
        self.profile = Profile(**keys)
        self.process = SimpleNamespace(pid=0, exit_status=1, log_tail=lambda: "the tail")
        self.canary = SimpleNamespace(look_at_store=lambda: "", wait_anew=lambda: None, forget=lambda: None)
        self.clock, self.starts, self.restarts, self.stopped = clock, starts, 0, False

    def versions(self) -> dict[str, str]:
        return {}

    def launch(self) -> None:
        """Begin."""

    def wait_until_ready(self, stop: threading.Event, each_time: Callable[[], None]) -> Answer | None:
        each_time()
        if self.restarts:
            self.starts(self.restarts)
        return None if stop.is_set() else GOOD

    def restart(self) -> None:
        self.restarts += 1

    def kill(self) -> None:
        """End."""

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("start_s", [3.0, 75.0, 120.0, 1000.0])
def test_a_crash_loop_ends_however_long_a_start_takes_to_fail(clock: Clock, start_s: float) -> None:
    def fails(number: int) -> None:
        clock.pass_by(start_s)
        assert number < 20
        raise StartError("Triton was not ready")

    watcher = Watcher(Fake(clock, fails))
    with pytest.raises(CrashLoopError, match=r"died 5 times .*; the last cause: Triton was not ready:\nthe tail"):
        watcher.run(Stop(clock))
    assert watcher.health.restarts == 4


def test_deaths_that_lie_far_apart_are_no_crash_loop(clock: Clock) -> None:
    stop = Stop(clock)

    def fails(number: int) -> None:
        if number == 30:
            stop.set()
            return
        clock.pass_by(1.0)
        raise StartError("Triton was not ready")

    watcher = Watcher(Fake(clock, fails), timing=Timing(backoff_s=100.0, backoff_most_s=100.0))
    watcher.run(stop)
    assert watcher.health.restarts == 30


@pytest.mark.parametrize("error", [SetupError("tritonserver cannot be started"), FileNotFoundError(2, "gone")])
def test_whatever_keeps_a_start_from_happening_is_tried_again(clock: Clock, error: Exception) -> None:
    stop = Stop(clock)

    def fails(number: int) -> None:
        if number < 3:
            raise error
        stop.set()

    watcher = Watcher(Fake(clock, fails))
    watcher.run(stop)
    assert watcher.health.restarts == 3 and str(error) in watcher.health.cause


def test_the_watcher_is_alive_through_the_longest_pause(clock: Clock) -> None:
    stop = Stop(clock)

    def fails(number: int) -> None:
        if number == 4:
            stop.set()
            return
        raise StartError("Triton was not ready")

    Watcher(Fake(clock, fails), timing=Timing(backoff_s=90.0, backoff_most_s=90.0)).run(stop)
    assert clock.now > 180 and max(stop.waits) <= 1.0


def test_a_stop_during_the_pause_starts_nothing(clock: Clock) -> None:
    stop = Stop(clock)

    def fails(_: int) -> None:
        stop.comes = True
        raise StartError("Triton was not ready")

    server = Fake(clock, fails)
    Watcher(server).run(stop)
    assert server.restarts == 1 and server.stopped


@pytest.mark.parametrize(("ready", "noticed_s"), [(True, 30.0), (False, 0.0)])
def test_nobody_needs_notice_of_a_server_that_never_was_ready(clock: Clock, ready: bool, noticed_s: float) -> None:
    stop = Stop(clock)
    if not ready:
        stop.set()
    Watcher(Fake(clock, lambda _: None, notice_s=30.0)).run(stop, stop.set)
    assert clock.now == noticed_s


def test_a_canary_that_has_a_server_healed_is_counted(clock: Clock) -> None:
    stop = Stop(clock)
    watcher = Watcher(Fake(clock, lambda _: stop.set()))
    refused = Answer(Verdict.REFUSED, "Stub process 'scorer_0_0' is not healthy.")
    watcher._diagnosis.look = lambda: Trouble(refused.cause, canary=refused)
    watcher.run(stop)
    metric = next(iter(m for m in watcher.health.registry.collect() if m.name == "scoremux_canaries"))
    assert {s.labels["verdict"]: s.value for s in metric.samples if s.name.endswith("_total")} == {
        "good": 1.0,
        "refused": 1.0,
    }
