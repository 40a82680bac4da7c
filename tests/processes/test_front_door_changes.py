"""What changes while the front door, a real HAProxy, runs: tokens, certificates, its configuration; and its end."""

import hashlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from doors import Place, bearer, needs_haproxy
from peers import running
from scoremux_files.atomic import replace_file
from scoremux_server.errors import SetupError, StartError
from scoremux_server.front_door import door as front_door
from scoremux_server.front_door import haproxy
from scoremux_server.front_door.access_tokens import AccessToken
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.haproxy import Haproxy
from scoremux_server.profile import LOOPBACK
from scoremux_server.triton import processes
from serving import SCOREMUX
from stands import Watched, ask, opened, small_backend
from waiting import until

pytestmark = needs_haproxy


def many(count: int) -> list[AccessToken]:
    now = datetime.now(timezone.utc)
    digests = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))
    times = {"created": now, "ends": now + timedelta(days=3)}
    patterns = ("t-*", "en-6.3-*")
    return [AccessToken(name=f"n{i}", sha256=one, tasks=patterns, rate=0, **times) for i, one in enumerate(digests)]


def entries(door: FrontDoor) -> list[str]:
    return (door.haproxy.folder / "tokens.map").read_text().splitlines()


def ended_by(place: Place) -> None:
    stop = threading.Event()
    stop.set()
    place.reports = []
    FrontDoor(place.file, place.reports.append, place.log).run(stop)


def test_more_tokens_than_a_buffer_holds_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tempfile.mkdtemp(prefix="my files ")  # of tmp_path, sockets would have too long names
    monkeypatch.setattr(tempfile, "tempdir", scratch)
    with opened(tmp_path, request_bytes=1 << 12) as (place, door):
        guest = place.tokens.add("guest", ["*"], 0, 1)
        place.tokens._write((*place.tokens.read(), *many(6_000)))
        until(lambda: len(entries(door)) == 6_002)
        until(lambda: ask(place, guest)[0] == ask(place, place.everything)[0] == 200)
        place.tokens.revoke("guest")
        until(lambda: ask(place, guest)[0] == 401)
        # On a busy machine a health check may have taken the small backend out for a moment.
        until(lambda: ask(place, place.everything)[0] == 200)
        assert len(entries(door)) == 6_001 and not place.reports
        place.write_tokens('{"format": 1, "tokens": []}')
        until(lambda: ask(place, place.everything)[0] == 401)
    Path(scratch).rmdir()  # nothing is left in it


def test_request_in_flight_outlives_the_revocation_of_its_token_and_its_connection_ends(tmp_path: Path) -> None:
    release, under_way = threading.Event(), threading.Event()

    class Handler(Watched):
        def do_GET(self) -> None:
            under_way.set()
            release.wait(240)
            self.do_HEAD()

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as web:
        at = f"{LOOPBACK}:{web.server_port}"
        place = Place(tmp_path, [Backend(name="slow", grpc=at, http=at, ready=at)])
        guest = place.tokens.add("guest", ["*"], 0, 1)
        headers = "".join(f"{name}: {value}\r\n" for name, value in bearer(guest).items())

        def request(connection: ssl.SSLSocket, path: str) -> None:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())

        def is_refused() -> bool:
            with place.connect() as connection:
                request(connection, "/none")
                return b" 401 " in connection.recv(4096)

        try:
            with place.open(), place.connect() as connection:
                request(connection, "/v2/health/live")
                assert under_way.wait(60)
                place.tokens.revoke("guest")
                until(is_refused)
                release.set()
                request(connection, "/v2/health/live")
                answers = b"".join(iter(lambda: connection.recv(4096), b""))
                assert answers.count(b"HTTP/1.") == 1 and answers.startswith(b"HTTP/1.0 200")
        finally:
            release.set()


def test_tokens_stay_valid_and_get_new_grants_while_their_file_is_away(tmp_path: Path) -> None:
    with opened(tmp_path) as (place, door):

        def ends() -> int:
            (line,) = entries(door)
            return int(line.split(":")[3])

        first = ends()
        assert abs(first - 7200 - time.time()) < 300
        place.tokens.path.unlink()
        until(lambda: len(place.reports) == 1)
        place.write_tokens('{"tokens": [')
        until(lambda: len(place.reports) == 2)
        for report, cause in zip(place.reports, ("is missing: put", "cannot be read: "), strict=True):
            assert f"keeps its files of before: {place.tokens.path} {cause}" in report
        until(lambda: time.time() > first - 7200 + 2)
        assert ends() == first
        door._apply_at -= 3700
        until(lambda: ends() > first)
        assert ask(place, place.everything)[0] == 200 and len(place.reports) == 2
        replace_file(place.tokens.path, [b'{"format": 1, "tokens": []}'])
        until(lambda: ask(place, place.everything)[0] == 401)


def test_reload_that_failed_is_tried_again_and_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "_RETRY_S", 1.2)  # some looks
    tries, load = [], Haproxy.reload

    def fails_twice(haproxy: Haproxy) -> None:
        tries.append(haproxy)
        if len(tries) <= 2:
            raise SetupError("HAProxy does not answer: timed out")
        load(haproxy)

    monkeypatch.setattr(Haproxy, "reload", fails_twice)
    with opened(tmp_path) as (place, _):
        place.configure(client_s=41)
        until(lambda: place.reloads == 1)
        assert len(tries) == 3
        assert [report for report in place.reports if "does not answer" in report] == place.reports[:1]


@pytest.mark.parametrize("trouble", ["HAProxy hangs", "its folder is gone"])
def test_door_ends_where_haproxy_loads_no_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    monkeypatch.setattr(haproxy, "_RELOAD_S", 0.5)
    with (
        pytest.raises(StartError, match="HAProxy has loaded no new grants for two hours: start it again"),
        opened(tmp_path) as (place, door),
    ):
        if trouble == "HAProxy hangs":
            os.kill(door.haproxy.pid, signal.SIGSTOP)
        else:
            shutil.rmtree(door.haproxy.folder)
        place.write_tokens('{"format": 1, "tokens": []}')
        until(lambda: len(place.reports) == 1)
        assert door.haproxy.exit_status is None
        door._granted_at -= 7200
        until(lambda: door.haproxy.exit_status is not None)


def test_keys_are_copied_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with opened(tmp_path) as (place, door):
            place.write_tokens('{"format": 1, "tokens": []}')
            until(lambda: ask(place, place.everything)[0] == 401)
            written = [path for path in door.haproxy.folder.rglob("*") if path.is_file()]
            assert {"door.pem", "door.pem.key", "tokens.map"} <= {path.name for path in written}
            assert not [path for path in written if path.is_symlink() or path.stat().st_mode & 0o077]
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"certificate": "ca.pem"}, "certificate: {}/ca.pem cannot be used with its key"),
        ({"client_s": 1 << 40}, "HAProxy refuses the new configuration; its own messages say why"),
        ({"tokens": "other.json"}, "other.json is missing"),
    ],
)
def test_wrong_configuration_is_named_and_the_one_before_stays(
    tmp_path: Path, wrong: dict[str, Any], sentence: str
) -> None:
    with opened(tmp_path) as (place, _):
        place.configure(**wrong)
        until(lambda: place.reports)
        assert sentence.format(tmp_path) in place.reports[0]
        guest = place.tokens.add("guest", ["*"], 0, 1)
        until(lambda: ask(place, guest)[0] == 200)
        place.tokens.revoke("guest")
        until(lambda: ask(place, guest)[0] == 401)
        assert len(place.reports) == 1 and ("timer overflow" in place.log.read_text()) == ("client_s" in wrong)
        place.configure(client_s=41)
        until(lambda: place.reloads == 1)
        assert ask(place, place.everything)[0] == 200


def test_taken_port_is_refused_at_a_reload_and_its_own_is_not_in_the_way(tmp_path: Path) -> None:
    with socket.socket() as other, opened(tmp_path) as (place, door):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as HAProxy does: both would get connections
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        place.configure(client_s=50)
        until(lambda: place.reloads == 1)
        place.configure(port=taken)
        until(lambda: any(f"port {taken} cannot be used" in report for report in place.reports))
        assert door.config.port == place.port
        with pytest.raises(SetupError, match=f"the front door's port {taken} cannot be used"):
            ended_by(place)


def test_haproxy_that_refuses_its_configuration_ends_the_door_with_its_own_words(tmp_path: Path) -> None:
    far = dict.fromkeys(("grpc", "http", "ready"), "nowhere.invalid:1")
    place = Place(tmp_path, [Backend(name="far", plaintext=True, **far)])
    with pytest.raises(StartError, match="HAProxy ended with status 1; its own messages say why"):
        FrontDoor(place.file, log=place.log).run(threading.Event())
    assert "could not resolve address 'nowhere.invalid'" in place.log.read_text()


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_door_ends_with_haproxy_and_works_again_when_it_is_started_again(tmp_path: Path, victim: str) -> None:
    def status(token: str) -> int:
        try:
            return ask(place, token)[0]
        except OSError:
            return 0

    def started(name: str) -> tuple[subprocess.Popen[bytes], list[int]]:
        with (tmp_path / name).open("wb") as output:
            command, environment = [SCOREMUX, "front-door", str(place.file)], {**os.environ, "TMPDIR": scratch}
            door = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        until(lambda: status(place.everything) == 200, door, (tmp_path / name).read_text)
        (master,) = Path(f"/proc/{door.pid}/task/{door.pid}/children").read_text().split()
        return door, sorted(processes.living(int(master)), key=lambda pid: pid != int(master))

    with small_backend() as port, tempfile.TemporaryDirectory() as scratch:
        at = f"{LOOPBACK}:{port}"
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)])
        door, haproxies = started("first")
        os.kill(haproxies[victim == "worker"], signal.SIGKILL)
        assert door.wait(120) == 2 and "HAProxy ended with status" in (tmp_path / "first").read_text()
        assert status(place.everything) == 0
        door, haproxies = started("second")
        door.send_signal(signal.SIGHUP)
        until(lambda: "loaded again" in (tmp_path / "second").read_text(), door)
        if victim == "master":
            door.terminate()
            assert door.wait(120) == 0
        else:
            door.kill()
            door.wait()
        until(lambda: not processes.living(haproxies[0]))
