"""How the watcher counts deaths and waits, with a Triton that does what the test says."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from scoremux_client.audit_lines import ChainEnd, beginning, chained, read_log
from scoremux_server.errors import CrashLoopError, InterruptedStartError, SetupError, StartError
from scoremux_server.profile import Profile
from scoremux_server.serve import log_hints
from scoremux_server.supervision.watcher import Timing, Watcher
from scoremux_server.triton.canary import Answer, CanaryVerdict

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


class FakeServer:
    """A Triton that answers `answer` to canaries, and is dead whenever it is looked at if `exit_status` is set.

    restarting: what each restart does, by its number.
    """

    arithmetic, log_says = "x86-f32", "the last error"

    def __init__(self, exit_status: int | None = None, restarting: Callable[[int], None] = lambda _: None) -> None:
        self.profile, self.restarting, self.restarts, self.calls = Profile(), restarting, 0, list[str]()
        self.answer = GOOD
        self.process = SimpleNamespace(pid=0, exit_status=exit_status)
        self.canary = SimpleNamespace(
            look_at_store=lambda: "", send=lambda: None, waiting_s=0.0, answer=lambda **_: self.answer
        )

    def versions(self) -> dict[str, str]:
        return {}

    def launch(self) -> None:
        self.calls.append("launch")

    def wait_until_ready(self, stop: threading.Event, look: Callable[[str], None]) -> Answer | None:
        for cause in ("no answer yet", self.answer.cause, self.answer.cause):
            look(cause)
        return None if stop.is_set() else GOOD

    def restart(self) -> None:
        self.restarts += 1
        self.restarting(self.restarts)

    def kill(self) -> None:
        self.calls.append("kill")

    def stop(self) -> None:
        self.calls.append("stop")


def failing(times: int, stop: Stop, error: Exception = NOT_READY) -> Callable[[int], None]:
    def restart(number: int) -> None:
        if number <= times:
            raise error
        stop.set()

    return restart


def test_crash_loop_ends_the_watching_with_its_cause_and_a_start_a_row_of_deaths() -> None:
    stop, reports = Stop(), list[str]()
    server = FakeServer(1, failing(99, stop))
    with pytest.raises(CrashLoopError, match=r"died 5 times .*; the last cause: Triton was not ready:\nthe tail"):
        Watcher(server, reports.append).run(stop)
    assert (server.restarts, server.calls) == (4, ["launch", *["kill"] * 5, "stop"])
    assert reports == [
        "Triton ended with status 1; restarting Triton",
        *(f"Triton was not ready; restarting Triton in {pause_s} s" for pause_s in (0.5, 1, 2)),
    ]
    stop = Stop()

    def restart(number: int) -> None:
        if number % 4:
            raise NOT_READY
        if number == 20:
            stop.set()

    server = FakeServer(1, restart)
    Watcher(server).run(stop)
    assert (server.restarts, server.calls) == (20, ["launch", *["kill"] * 20, "stop"])


@pytest.mark.parametrize("error", [SetupError("tritonserver cannot be started"), FileNotFoundError(2, "gone")])
def test_restart_is_tried_again_whatever_keeps_it_from_happening(error: Exception) -> None:
    stop, reports = Stop(), list[str]()
    server = FakeServer(1, failing(2, stop, error))
    Watcher(server, reports.append).run(stop)
    assert server.restarts == 3 and str(error) in reports[-1]


def test_health_is_alive_through_the_longest_pause() -> None:
    stop = Stop()
    server = FakeServer(1, failing(3, stop))
    watcher, beats = Watcher(server, timing=Timing(backoff_s=90.0, backoff_most_s=90.0)), list[int]()
    watcher.health.beat = lambda: beats.append(len(stop.waits))  # type: ignore[method-assign]
    watcher.run(stop)
    assert max(stop.waits) <= 1.0 and set(range(2, 272)) <= set(beats)


@pytest.mark.parametrize("error", [InterruptedStartError("the stub died:\nthe tail"), NOT_READY])
def test_first_start_is_tried_again_only_if_it_was_interrupted(error: StartError) -> None:
    stop, reports, ready = Stop(), list[str](), list[bool]()
    server = FakeServer(1, failing(2, stop, error))

    def launch() -> None:
        raise error

    server.launch = launch  # type: ignore[method-assign]
    if error is NOT_READY:
        with pytest.raises(StartError, match="was not ready"):
            Watcher(server, reports.append).run(stop, lambda: ready.append(True))
        assert (server.calls, reports) == (["kill", "stop"], [])
        return
    Watcher(server, reports.append).run(stop, lambda: ready.append(True))
    assert (server.restarts, server.calls, ready) == (
        3,
        [*["kill"] * 3, "stop"],
        [],
    )  # it was stopped before it was ready
    pauses = ("", " in 0.5 s", " in 1 s")
    assert reports == [f"the stub died; restarting Triton{pause}" for pause in pauses]


def test_stop_during_a_pause_starts_nothing() -> None:
    stop = Stop()

    def restart(_: int) -> None:
        stop.set()
        raise NOT_READY

    server = FakeServer(1, restart)
    Watcher(server).run(stop)
    assert (server.restarts, server.calls) == (1, ["launch", "kill", "stop"])


def test_audit_log_without_room_is_reported_once_while_the_server_starts() -> None:
    server, reported = FakeServer(), list[str]()
    server.answer = NO_ROOM
    stop = threading.Event()
    Watcher(server, reported.append).run(stop, stop.set)
    assert reported == [f"{server.answer.cause}; waiting for room, for 120 s at most"]


@pytest.mark.parametrize(
    ("answers", "restart_at"),
    [
        ([WRONG, WRONG, GOOD, UNANSWERED, WRONG, UNANSWERED], 6),
        ([BUSY, WRONG, BUSY, WRONG, BUSY] * 2, 7),
        ([BUSY] * 91, 91),  # three times as long as an answer may take
        ([NO_ROOM, NO_STORE] * 50, None),  # neither would be better after a restart
    ],
)
def test_three_failed_canaries_restart_a_server(answers: list[Answer], restart_at: int | None) -> None:
    stop, sent, causes = Stop(), list[Answer](), list[str]()
    server = FakeServer(restarting=lambda _: stop.set())

    def answer(**_: float) -> Answer:
        assert not sent or watcher.health.ready == (sent[-1] is GOOD)
        sent.append(answers[len(sent)])
        if len(sent) == len(answers):
            stop.set()
        return sent[-1]

    def report(text: str) -> None:
        if text.endswith("; restarting Triton"):
            causes.append(text.partition(";")[0])
            assert 'scoremux_state{state="healing"} 1.0' in watcher.health.exposition().decode()

    server.canary.answer = answer
    watcher = Watcher(server, report)
    watcher.run(stop)
    assert len(sent) == (restart_at or len(answers)) and causes == ([sent[-1].cause] if restart_at else [])
    failed = sent.count(WRONG)
    text = watcher.health.exposition().decode()
    assert not failed or f'scoremux_canaries_total{{verdict="wrong"}} {failed}.0' in text


def test_alarms_are_logged_beside_the_audit_log_and_logs_that_are_too_short_are_named(tmp_path: Path) -> None:
    log, stop, answers = tmp_path / "audit.jsonl", Stop(), iter([WRONG, WRONG, WRONG])
    server = FakeServer(restarting=lambda _: stop.set())
    server.profile = Profile(audit_log=str(log))
    server.canary.answer = lambda **_: next(answers)
    Watcher(server).run(stop)
    alarms = [*read_log(tmp_path / "alarms-audit.jsonl")]
    assert [line.values["cause"] for line in alarms] == [*["other bits"] * 3, "other bits; restarting Triton"]
    assert not any(line.fault for line in alarms) and alarms[0].values["arithmetic"] == "x86-f32"
    (note,) = log_hints("")
    assert "no audit log" in note
    for days, older, is_named in ((10, "a" * 64, True), (10, "", False), (200, "a" * 64, False)):
        time = datetime.now(timezone.utc) - timedelta(days)
        log.write_bytes(chained([beginning(time, f"sha256:{0:064}")], ChainEnd(5, older))[0])
        assert [f"begins on {time.date()}" in hint for hint in log_hints(str(log))] == [True] * is_named
    log.write_bytes(b"{\n")
    assert [*log_hints(str(log))] == [], "a damaged log does not end a server"
