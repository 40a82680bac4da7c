"""A real HAProxy that dies, hangs or does not start: who restarts it, with which files, and what ends nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from doors import Place, needs_haproxy
from scoremux_server.errors import SetupError, StartError
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.haproxy import Haproxy
from serving import SCOREMUX
from small_backends import ask, is_ready, opened, small_backend
from waiting import until

pytestmark = needs_haproxy
NOWHERE = Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")


class FaultyHaproxy(Haproxy):
    """A HAProxy with the faults that a test switches on; the class of one test is its own."""

    fault: Exception | None = None
    """Raised by the calls named in `where`."""
    where = ""
    hung = False
    alternating = False
    """Whether it misses every second ping."""
    pings: list[bool]

    def __init__(self, program: Path, folder: Path, log: Path) -> None:
        super().__init__(program, folder, log)
        self.pings = []

    def _fail(self, where: str) -> None:
        if self.fault and where == self.where:
            raise self.fault

    def start(self) -> None:
        self._fail("start")
        super().start()

    def reload(self) -> None:
        self._fail("reload")
        super().reload()

    def check(self, config: Path) -> None:
        self._fail("check")
        super().check(config)

    def trouble(self) -> str:
        self._fail("trouble")
        return super().trouble()

    def answers(self, timeout_s: float) -> bool:
        self.pings.append(not self.hung and not (self.alternating and self.pings and self.pings[-1]))
        return self.pings[-1] and super().answers(timeout_s)


@pytest.fixture
def faulty() -> type[FaultyHaproxy]:
    return type("FaultyHaproxy", (FaultyHaproxy,), {})


def status(place: Place, token: str) -> int:
    try:
        return ask(place, token)[0]
    except OSError:
        return 0


def test_hung_master_is_restarted_and_tokens_are_revoked_after_all(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: ask(place, guest)[0] == 200)
        os.kill(door.haproxy.process.pid, signal.SIGSTOP)
        place.tokens.revoke("guest")
        until(lambda: status(place, guest) == 401)
        assert door.restarts == 1 and status(place, place.everything) == 200


def test_single_missed_pings_end_nothing(tmp_path: Path, faulty: type[FaultyHaproxy]) -> None:
    with opened(tmp_path, faulty, drain_s=5) as (place, door):
        faulty.alternating = True
        pid = door.haproxy.process.pid
        until(lambda: door.haproxy.pings.count(False) >= 3)
        assert (door.restarts, door.haproxy.process.pid) == (0, pid)
        guest = place.tokens.add("guest", ["*"], 0, 1)  # and files are followed meanwhile
        until(lambda: ask(place, guest)[0] == 200)
        faulty.hung = True
        until(lambda: door.restarts)
        faulty.hung = faulty.alternating = False
        until(lambda: door.haproxy.process.pid != pid and is_ready(door))


def test_certificate_of_before_outlives_haproxy(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        good = (tmp_path / "door.pem").read_bytes()
        (tmp_path / "door.pem").write_text("x")
        (tmp_path / "door.key").unlink()
        until(lambda: place.reports)
        assert "keeps its files of before" in place.reports[0]
        os.kill(door.haproxy.process.pid, signal.SIGKILL)
        until(lambda: door.restarts == 1 and is_ready(door))
        assert ask(place, place.everything)[0] == 200
        place.certify()
        assert (tmp_path / "door.pem").read_bytes() != good
        until(lambda: door.reloads == 1)
        assert ask(place, place.everything)[0] == 200 and door.restarts == 1


def test_haproxy_that_does_not_start_is_tried_again_with_the_files_of_then(
    tmp_path: Path, faulty: type[FaultyHaproxy]
) -> None:
    with opened(tmp_path, faulty, drain_s=5) as (place, door):
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: ask(place, guest)[0] == 200)
        faulty.fault, faulty.where = StartError("HAProxy did not start"), "start"
        os.kill(door.haproxy.process.pid, signal.SIGKILL)
        until(lambda: "HAProxy did not start; restarting HAProxy in 2 s" in place.reports)
        place.tokens.revoke("guest")
        place.configure(client_s=41, drain_s=5)
        faulty.fault = None
        until(lambda: door.restarts >= 4 and is_ready(door))
        assert door.config.client_s == 41 and door.reloads == 1
        assert (ask(place, guest)[0], ask(place, place.everything)[0]) == (401, 200)
        assert sum("restarting HAProxy" in report for report in place.reports) == door.restarts
        until(lambda: any(report.startswith("HAProxy works again after") for report in place.reports))


def test_run_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        while door.run.path.exists():  # the door may write into it meanwhile
            shutil.rmtree(door.run.path, ignore_errors=True)
        until(lambda: door.restarts >= 1 and is_ready(door))
        assert ask(place, place.everything)[0] == 200


@pytest.mark.parametrize("where", ["check", "reload"])
def test_reload_that_fails_in_any_way_is_taken_back(tmp_path: Path, faulty: type[FaultyHaproxy], where: str) -> None:
    with opened(tmp_path, faulty, drain_s=5) as (place, door):
        faulty.fault, faulty.where = RuntimeError("unforeseen"), where
        place.configure(client_s=33)
        until(lambda: len(place.reports) == 1)
        assert place.reports == ["the front door keeps its files of before: unforeseen"]
        assert (door.config.client_s, door.reloads) == (30, 0)
        assert "33s" not in (door.run.path / "haproxy.cfg").read_text()
        faulty.fault = None
        until(lambda: door.reloads == 1)
        assert door.config.client_s == 33


def test_check_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    (program := tmp_path / "haproxy").write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o755)
    with pytest.raises(SetupError, match=r"haproxy -c did not end within 0\.2 s"):
        Haproxy(program, tmp_path, tmp_path / "log", check_s=0.2).check(tmp_path / "haproxy.cfg")


@pytest.mark.parametrize("error", [OSError("no process"), RuntimeError("can't start new thread")])
def test_start_that_fails_in_any_way_leaves_nothing(
    tmp_path: Path, faulty: type[FaultyHaproxy], error: Exception
) -> None:
    faulty.fault, faulty.where = error, "start"
    place = Place(tmp_path, [NOWHERE])
    door = FrontDoor(place.file, place.log, haproxy=faulty)
    with pytest.raises(type(error), match=str(error)):
        door.__enter__()
    assert not door.run.path.exists()


def test_unforeseen_error_does_not_close_the_door(tmp_path: Path, faulty: type[FaultyHaproxy]) -> None:
    with opened(tmp_path, faulty) as (place, door):
        faulty.fault, faulty.where = OSError("stale file handle"), "trouble"
        until(lambda: len(place.reports) == 1)
        assert place.reports == ["the front door goes on after OSError: stale file handle"]
        faulty.fault = None
        os.kill(door.haproxy.process.pid, signal.SIGKILL)
        until(lambda: door.restarts == 1 and is_ready(door))
        assert ask(place, place.everything)[0] == 200


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_front_door_alone_ends_with_haproxy_for_its_supervisor_to_restart_it(tmp_path: Path, number: int) -> None:
    with small_backend() as port:
        at = f"127.0.0.1:{port}"
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)])
        command, output = [SCOREMUX, "front-door", str(place.file), "--log", str(place.log)], tmp_path / "out"
        with output.open("wb") as file:
            alone = subprocess.Popen(command, stdout=file, stderr=file)
        until(lambda: "ready;" in output.read_text())
        until(lambda: status(place, place.everything) == 200)
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: status(place, guest) == 200)
        place.tokens.revoke("guest")
        until(lambda: status(place, guest) == 401)
        children = Path(f"/proc/{alone.pid}/task/{alone.pid}/children").read_text().split()
        os.kill(int(children[0]), number)
        assert alone.wait(120) == 2
        assert "start the front door again" in output.read_text() and status(place, place.everything) == 0
        again = subprocess.Popen(command)
        until(lambda: status(place, place.everything) == 200)
        again.terminate()
        assert again.wait(120) == 0
