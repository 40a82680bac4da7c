"""The files of a running front door, a real HAProxy: what goes away, comes back, is wrong, and takes a port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from doors import Place, needs_haproxy
from scoremux_files.atomic import replace_file
from scoremux_server.errors import SetupError
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.profile import LOOPBACK
from small_backends import ask, is_ready, opened
from waiting import until

pytestmark = needs_haproxy


@pytest.mark.parametrize("how", ["removed", "damaged"])
def test_tokens_stay_valid_while_their_file_is_away(tmp_path: Path, how: str) -> None:
    with opened(tmp_path) as (place, door):
        late = place.tokens.add("late", ["*"], 0, 1)
        until(lambda: ask(place, late)[0] == 200)
        aside = tmp_path / "aside.json"
        place.tokens.path.rename(aside)
        if how == "damaged":
            place.tokens.path.write_text('{"tokens": [')
        until(lambda: place.reports)
        cause = "is missing: put" if how == "removed" else "cannot be read: "
        assert f"keeps its files of before: {place.tokens.path} {cause}" in place.reports[0]
        assert ask(place, place.everything)[0] == ask(place, late)[0] == 200
        os.kill(door.haproxy.process.pid, signal.SIGKILL)  # and so they do for the next HAProxy
        until(lambda: door.restarts and is_ready(door))
        assert ask(place, place.everything)[0] == ask(place, late)[0] == 200
        aside.rename(place.tokens.path)
        place.tokens.revoke("late")
        until(lambda: ask(place, late)[0] == 401)
        assert ask(place, place.everything)[0] == 200
        assert sum("keeps its files of before" in report for report in place.reports) == 1


def test_empty_list_of_tokens_revokes_them_all(tmp_path: Path) -> None:
    with opened(tmp_path) as (place, _):
        place.write_tokens('{"format": 1, "tokens": []}')
        until(lambda: ask(place, place.everything)[0] == 401)
        assert not place.reports


def test_files_written_one_after_the_other_are_loaded_in_the_end(tmp_path: Path) -> None:
    aside = tmp_path.with_name(f"{tmp_path.name}-aside")
    with opened(tmp_path) as (place, door):
        place.tokens.add("new", ["*"], 0, 1)
        until(lambda: ask(place, place.everything)[0] == 200)
        shutil.copytree(tmp_path, aside, ignore=shutil.ignore_patterns("*.log*", ".*"))
        for name in ("tokens.json", "door.toml", "door.pem", "door.key"):
            (tmp_path / name).unlink()
        until(lambda: len(place.reports) >= 2)
        text = (aside / "door.toml").read_text().replace("tokens.json", "")
        (tmp_path / "door.toml").write_text("client_s = 41\ntokens = 'other.json'\n" + text)
        for name in ("door.pem", "door.key"):
            shutil.copyfile(aside / name, tmp_path / name)
        until(lambda: "tokens: " in place.reports[-1] and "other.json is missing" in place.reports[-1])
        count = len(place.reports)
        assert ask(place, place.everything)[0] == 200
        shutil.copyfile(aside / "tokens.json", tmp_path / "other.json")  # of which the door of before knows nothing
        until(lambda: "loaded again" in place.reports[-1])
        assert len(place.reports) == count + 1 and door.config.client_s == 41
        assert ask(place, place.everything)[0] == 200


def test_token_is_revoked_while_the_configuration_is_wrong(tmp_path: Path) -> None:
    with opened(tmp_path) as (place, door):
        place.configure(certificate="ca.pem")  # which goes with another key
        place.write_tokens('{"format": 1, "tokens": []}')
        until(lambda: ask(place, place.everything)[0] == 401)
        (said,) = place.reports
        assert f"{place.file}: certificate: {tmp_path}/ca.pem cannot be used with its key" in said and door.reloads == 0


def test_address_of_another_machine_is_refused_and_the_one_before_stays(tmp_path: Path) -> None:
    with opened(tmp_path) as (place, door):
        place.configure(address="192.0.2.1")
        until(lambda: place.reports)
        assert "keeps its files of before: " in place.reports[0] and "192.0.2.1" in place.reports[0]
        assert door.config.address == LOOPBACK
        assert ask(place, place.everything)[0] == 200


def test_taken_port_is_refused_at_a_reload_and_its_own_is_not_in_the_way(tmp_path: Path) -> None:
    with socket.socket() as other, opened(tmp_path) as (place, door):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as HAProxy does: both would get connections
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        place.configure(client_s=50)
        until(lambda: door.reloads == 1)
        place.configure(port=taken)
        until(lambda: any(f"port {taken} cannot be used" in report for report in place.reports))
        assert door.config.port == place.port


def test_token_revoked_in_a_file_that_cannot_be_read_for_a_while_is_revoked(tmp_path: Path) -> None:
    with opened(tmp_path) as (place, _):
        path = place.tokens.path
        path.unlink()
        path.symlink_to(path)  # a loop: it cannot be read, and its own time stays
        until(lambda: len(place.reports) == 1)
        assert f"keeps its files of before: {path} cannot be read: " in place.reports[0]
        time.sleep(1)  # some looks
        assert ask(place, place.everything)[0] == 200 and len(place.reports) == 1
        replace_file(path, [b'{"format": 1, "tokens": []}'])
        until(lambda: ask(place, place.everything)[0] == 401)


def test_key_file_that_is_a_folder_is_named(tmp_path: Path) -> None:
    place = Place(tmp_path, [Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")])
    (tmp_path / "door.key").unlink()
    (tmp_path / "door.key").mkdir()
    with pytest.raises(SetupError, match=r"door\.toml: key: .*door\.key is missing"):
        FrontDoor(place.file, place.log)


def test_certificate_that_expires_soon_or_has_expired_is_reported(tmp_path: Path) -> None:
    place = Place(tmp_path, [Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")])
    for days in (15, 13, -1):
        place.certify(expires=datetime.now() + timedelta(days=days))
        reports: list[str] = []
        with FrontDoor(place.file, place.log, report=reports.append):
            named = [report for report in reports if f"{tmp_path / 'door.pem'} expires on 20" in report]
        assert len(named) == (days < 14)


def test_unresolvable_name_is_named(tmp_path: Path) -> None:
    far = Backend(
        name="far", grpc="nowhere.invalid:1", http="nowhere.invalid:2", ready="nowhere.invalid:3", plaintext=True
    )
    with pytest.raises(SetupError, match=r"could not resolve address 'nowhere\.invalid'"):
        FrontDoor(Place(tmp_path, [far]).file, tmp_path / "log").__enter__()
