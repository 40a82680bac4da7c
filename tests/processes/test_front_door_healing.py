"""A real HAProxy that dies, hangs or does not start: what heals it, with which files, and what ends nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from doors import Place, needs_haproxy
from scoremux_server.errors import SetupError, StartError
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.haproxy import Haproxy
from small_backends import ask, is_ready, opened, until

pytestmark = needs_haproxy


def status(place: Place, token: str) -> int:
    try:
        return ask(place, token)[0]
    except OSError:
        return 0


def test_a_hung_master_is_noticed_and_tokens_are_revoked_after_all(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: ask(place, guest)[0] == 200)
        os.kill(door.process.pid, signal.SIGSTOP)
        place.tokens.revoke("guest")
        until(lambda: status(place, guest) == 401, 15)
        assert door.restarts == 1 and status(place, place.everything) == 200


def test_one_ping_that_is_missed_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        answers, missed = Haproxy.answers, list[bool]()

        def miss_every_second(haproxy: Haproxy, timeout_s: float) -> bool:
            missed.append(not (missed and missed[-1]))
            return not missed[-1] and answers(haproxy, timeout_s)

        monkeypatch.setattr(Haproxy, "answers", miss_every_second)
        pid = door.process.pid
        until(lambda: sum(missed) == 3)
        assert (door.restarts, door.process.pid) == (0, pid)
        guest = place.tokens.add("guest", ["*"], 0, 1)  # and files are followed meanwhile
        until(lambda: ask(place, guest)[0] == 200)
        monkeypatch.setattr(Haproxy, "answers", lambda *_: False)
        until(lambda: door.restarts == 1)
        monkeypatch.setattr(Haproxy, "answers", answers)
        until(lambda: door.process.pid != pid and is_ready(door))


def test_the_certificate_of_before_outlives_haproxy(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        good = (tmp_path / "door.pem").read_bytes()
        (tmp_path / "door.pem").write_text("x")
        (tmp_path / "door.key").unlink()
        until(lambda: len(place.reports) == 1)
        assert "keeps what it has" in place.reports[0]
        os.kill(door.process.pid, signal.SIGKILL)
        until(lambda: door.restarts == 1 and is_ready(door))
        assert ask(place, place.everything)[0] == 200
        place.certify()
        assert (tmp_path / "door.pem").read_bytes() != good
        until(lambda: door.reloads == 1, 10)
        assert ask(place, place.everything)[0] == 200 and door.restarts == 1


def test_files_are_followed_while_haproxy_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: ask(place, guest)[0] == 200)
        start = Haproxy.start

        def fail(_: Haproxy) -> None:
            raise StartError("HAProxy did not start")

        monkeypatch.setattr(Haproxy, "start", fail)
        os.kill(door.process.pid, signal.SIGKILL)
        until(lambda: door.restarts == 4)  # the next attempt is 4 s away
        place.tokens.revoke("guest")
        time.sleep(0.5)
        monkeypatch.setattr(Haproxy, "start", start)
        place.configure(client_s=41, drain_s=5)
        until(lambda: door.reloads == 1, 2)
        until(lambda: is_ready(door), 2)
        assert door.config.client_s == 41 and door.restarts == 5
        assert (ask(place, guest)[0], ask(place, place.everything)[0]) == (401, 200)
        assert sum("starting it again" in report for report in place.reports) == 5


def test_a_run_folder_that_was_cleared_away_is_made_again(tmp_path: Path) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        for path in sorted(door._run.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        door._run.folder.rmdir()
        until(lambda: door.restarts >= 1 and is_ready(door), 15)
        assert ask(place, place.everything)[0] == 200


def test_a_check_without_an_end_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):
        run = subprocess.run

        def late(command: list[str], **_: Any) -> Any:
            raise subprocess.TimeoutExpired(command, 30)

        monkeypatch.setattr("scoremux_server.front_door.haproxy.subprocess.run", late)
        place.configure(client_s=33)
        until(lambda: len(place.reports) == 1)
        assert "haproxy -c did not end within 30 s" in place.reports[0]
        assert (door.config.client_s, door.reloads) == (30, 0)
        assert "33s" not in (door._run.folder / "haproxy.cfg").read_text()
        monkeypatch.setattr("scoremux_server.front_door.haproxy.subprocess.run", run)
        until(lambda: door.reloads == 1, 10)
        assert door.config.client_s == 33


def test_whatever_goes_wrong_in_a_reload_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, drain_s=5) as (place, door):

        def broken(*_: object) -> None:
            raise RuntimeError("unforeseen")

        load = Haproxy.reload
        monkeypatch.setattr(Haproxy, "reload", broken)
        place.configure(client_s=33)
        until(lambda: len(place.reports) == 1)
        assert place.reports == ["the front door keeps what it has: unforeseen"]
        assert door.config.client_s == 30 and "33s" not in (door._run.folder / "haproxy.cfg").read_text()
        monkeypatch.setattr(Haproxy, "reload", load)
        until(lambda: door.reloads == 1, 10)


@pytest.mark.parametrize("error", [OSError("no process"), RuntimeError("can't start new thread")])
def test_a_start_that_fails_in_any_way_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Haproxy) -> None:
        raise error

    monkeypatch.setattr(Haproxy, "start", fail)
    place = Place(tmp_path, [Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")])
    door = FrontDoor(place.file, place.log)
    with pytest.raises(type(error), match=str(error)):
        door.__enter__()
    assert not door._thread.is_alive() and not door._run.folder.exists()


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path, [Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")])
    read = Path.read_bytes

    def forbidden(path: Path) -> bytes:
        if path.name == "door.key":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(SetupError, match=r"door\.toml: key: .*door\.key cannot be read: Permission denied"):
        FrontDoor(place.file, place.log)
