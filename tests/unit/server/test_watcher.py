"""How the watcher counts deaths and waits, with a program and a Triton that do what the test says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from scoremux_server.errors import CrashLoopError, InterruptedStartError, SetupError, StartError
from scoremux_server.profile import Profile
from scoremux_server.triton.canary import Answer, CanaryVerdict
from scoremux_server.watch.watched_triton import WatchedTriton
from scoremux_server.watch.watcher import Watcher

NOT_READY = StartError("Triton was not ready:\nthe tail")
GOOD = Answer(CanaryVerdict.GOOD)
WRONG = Answer(CanaryVerdict.WRONG, "other bits")
UNANSWERED = Answer(CanaryVerdict.UNREACHED, "a canary has no answer after 30 s")
BUSY = Answer(CanaryVerdict.BUSY, "9 rows wait already: send again in 1.0 s")
NO_ROOM = Answer(CanaryVerdict.REFUSED, "the audit log cannot be written: a.log: No space left on device")
NO_STORE = Answer(CanaryVerdict.REFUSED, "manifest.json is damaged", store_cause="manifest.json is damaged")


class Stop(threading.Event):
    """An event whose waiting costs no time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


class FakeProgram:
    """A program that is dead whenever it is looked at; `restarting` says how each restart goes."""

    name = "Triton"

    def __init__(self, restarting: Callable[[int], None]) -> None:
        self.restarting, self.restarts, self.waits, self.calls = restarting, 0, 0, list[str]()

    def start(self, _stop: threading.Event) -> None:
        self.calls.append("start")

    def look(self) -> str:
        return "Triton ended with status 1"

    def wait(self) -> None:
        self.waits += 1

    def restart(self, _stop: threading.Event) -> None:
        self.restarts += 1
        self.restarting(self.restarts)

    def kill(self) -> None:
        self.calls.append("kill")

    def stop(self) -> None:
        self.calls.append("stop")


def failing(times: int, stop: Stop, error: Exception = NOT_READY) -> Callable[[int], None]:
    """Fail so many restarts, then ask for a stop."""

    def restart(number: int) -> None:
        if number <= times:
            raise error
        stop.set()

    return restart


def test_crash_loop_ends_the_watching_with_its_cause() -> None:
    stop, reports = Stop(), list[str]()
    program = FakeProgram(failing(99, stop))
    with pytest.raises(CrashLoopError, match=r"died 5 times .*; the last cause: Triton was not ready:\nthe tail"):
        Watcher(program, reports.append).run(stop)
    assert (program.restarts, program.calls) == (4, ["start", "kill", "stop"])
    assert reports == [
        "Triton ended with status 1; restarting Triton",
        *(f"Triton was not ready; restarting Triton in {pause_s} s" for pause_s in (0.5, 1, 2)),
    ]


def test_successful_start_ends_a_row_of_deaths() -> None:
    stop = Stop()

    def restart(number: int) -> None:
        if number % 4:
            raise NOT_READY
        if number == 20:
            stop.set()

    program = FakeProgram(restart)
    Watcher(program).run(stop)
    assert (program.restarts, program.calls) == (20, ["start", "stop"])


@pytest.mark.parametrize("error", [SetupError("tritonserver cannot be started"), FileNotFoundError(2, "gone")])
def test_restart_is_tried_again_whatever_keeps_it_from_happening(error: Exception) -> None:
    stop, reports = Stop(), list[str]()
    program = FakeProgram(failing(2, stop, error))
    Watcher(program, reports.append).run(stop)
    assert program.restarts == 3 and str(error) in reports[-1]


def test_program_is_called_through_the_longest_pause() -> None:
    stop = Stop()
    program = FakeProgram(failing(3, stop))
    Watcher(program, backoff_s=90.0, backoff_most_s=90.0).run(stop)
    assert program.waits == 270 and max(stop.waits) <= 1.0


@pytest.mark.parametrize("error", [InterruptedStartError("the stub died:\nthe tail"), NOT_READY])
def test_first_start_is_tried_again_only_if_it_was_interrupted(error: StartError) -> None:
    stop, reports, ready = Stop(), list[str](), list[bool]()
    program = FakeProgram(failing(2, stop, error))

    def start(_: threading.Event) -> None:
        raise error

    program.start = start  # type: ignore[method-assign]
    if error is NOT_READY:
        with pytest.raises(StartError, match="was not ready"):
            Watcher(program, reports.append).run(stop, lambda: ready.append(True))
        assert (program.calls, reports) == (["kill", "stop"], [])
        return
    Watcher(program, reports.append).run(stop, lambda: ready.append(True))
    assert (program.restarts, program.calls, ready) == (3, ["stop"], [])  # it was stopped before it was ready
    pauses = ("", " in 0.5 s", " in 1 s")
    assert reports == [f"the stub died; restarting Triton{pause}" for pause in pauses]


def test_stop_during_a_pause_starts_nothing() -> None:
    stop = Stop()

    def restart(_: int) -> None:
        stop.set()
        raise NOT_READY

    program = FakeProgram(restart)
    Watcher(program).run(stop)
    assert (program.restarts, program.calls) == (1, ["start", "stop"])


class FakeServer:
    """A Triton whose canaries are good, and which dies when `status` is set."""

    arithmetic = "x86-f32"

    def __init__(self, **keys: Any) -> None:
        self.profile, self.status, self.restarts, self.stopped = Profile(**keys), None, 0, False
        self.answer = Answer(CanaryVerdict.GOOD)
        self.process = SimpleNamespace(pid=0, exit_status=None, log_tail=lambda: "the tail")
        self.canary = SimpleNamespace(
            look_at_store=lambda: "", send=lambda: None, waiting_s=0.0, answer=lambda **_: self.answer
        )

    def versions(self) -> dict[str, str]:
        return {}

    def launch(self) -> None: ...

    def wait_until_ready(self, stop: threading.Event, look: Callable[[str], None]) -> Answer | None:
        for cause in ("no answer yet", self.answer.cause, self.answer.cause):
            look(cause)
        return None if stop.is_set() else Answer(CanaryVerdict.GOOD)

    def restart(self) -> None:
        self.restarts += 1

    def kill(self) -> None: ...

    def stop(self) -> None:
        self.stopped = True


def test_audit_log_without_room_is_reported_once_while_the_server_starts() -> None:
    server, reported = FakeServer(), list[str]()
    server.answer = NO_ROOM
    WatchedTriton(server, reported.append).start(threading.Event())
    assert reported == [f"{server.answer.cause}; waiting for room, for 120 s at most"]


@pytest.mark.parametrize(
    ("answers", "restarts_at"),
    [
        ([WRONG, WRONG, GOOD, UNANSWERED, WRONG, UNANSWERED], [6]),
        ([BUSY, WRONG, BUSY, WRONG, BUSY] * 2, [7]),
        ([BUSY] * 91, [91]),  # three times as long as an answer may take
        ([NO_ROOM, NO_STORE] * 50, []),  # neither would be better after a restart
    ],
)
def test_three_failed_canaries_in_a_row_restart_a_server_and_refusals_for_overload_do_not(
    answers: list[Answer], restarts_at: list[int]
) -> None:
    server = FakeServer()
    triton = WatchedTriton(server)
    triton.start(threading.Event())
    seen = []
    for number, server.answer in enumerate(answers, 1):
        cause = triton.look()
        assert triton.health.ready == (server.answer is GOOD)
        seen += [(number, cause)] if cause else []
        if cause:
            break
    assert seen == [(number, answers[number - 1].cause) for number in restarts_at]
    failed = sum(answer.verdict is CanaryVerdict.WRONG for answer in answers[: seen[-1][0] if seen else None])
    text = triton.health.exposition().decode()
    assert not failed or f'scoremux_canaries_total{{verdict="wrong"}} {failed}.0' in text
    assert f'scoremux_state{{state="healing"}} {float(bool(seen))}' in text
