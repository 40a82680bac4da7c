"""What changes while the front door, a real HAProxy, runs: tokens, the clock, its configuration; and its end."""

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

import psutil
import pytest

from doors import KEY, Place, bearer, needs_haproxy
from peers import running
from scoremux_engine.scoring.permission import HEADER, Permissions
from scoremux_server.errors import SetupError
from scoremux_server.front_door import door, haproxy
from scoremux_server.front_door.access_tokens import AccessToken
from scoremux_server.front_door.config import Backend
from scoremux_server.profile import LOOPBACK
from serving import SCOREMUX
from stands import Watched, ask, opened, small_backend
from waiting import free_port, until

pytestmark = needs_haproxy
LATER_S = 2.5 * 3600
CLOCK = """
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (now && access(getenv("SHIFTED"), F_OK) == 0) now->tv_sec += 9000;
    return failed;
}
"""
"""What HAProxy reads the time with; 2.5 hours later once the file SHIFTED is there."""


def many(count: int) -> list[AccessToken]:
    now = datetime.now(timezone.utc)
    digests = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))
    times = {"created": now, "ends": now + timedelta(days=3)}
    patterns = ("t-*", "en-6.3-*")
    return [AccessToken(name=f"n{i}", sha256=one, tasks=patterns, rate=0, **times) for i, one in enumerate(digests)]


def test_more_tokens_than_a_buffer_holds_come_and_go(tmp_path: Path) -> None:
    with opened(tmp_path, request_bytes=1 << 12) as place:
        guest = place.tokens.add("guest", ["*"], 0, 1)
        place.tokens._write((*place.tokens.read(), *many(6_000)))
        place.reload()
        until(lambda: ask(place, guest)[0] == ask(place, place.everything)[0] == 200)
        place.tokens.revoke("guest")
        place.reload()
        assert ask(place, guest)[0] == 401
        # On a busy machine a health check may have taken the small backend out for a moment.
        until(lambda: ask(place, place.everything)[0] == 200)
        place.write_tokens('{"format": 1, "tokens": []}')
        place.reload()
        assert ask(place, place.everything)[0] == 401


class Granting(Watched):
    """Answers with the grant that a request brings."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.headers[HEADER].encode())


def test_grants_are_signed_for_each_request_and_end_soon_or_with_their_token(tmp_path: Path) -> None:
    with running(ThreadingHTTPServer((LOOPBACK, 0), Granting)) as web:
        at = f"{LOOPBACK}:{web.server_port}"
        place = Place(tmp_path, [Backend(name="granting", grpc=at, http=at, ready=at)])
        patterns = [f"{number:03}" + "*" * 125 for number in range(23)]
        longest = place.tokens.add("n" * 64, patterns, 1_000_000, 3650, weight=100)
        place.tokens._write(
            tuple(
                token.model_copy(update={"ends": datetime.now(timezone.utc) + timedelta(seconds=500)})
                if token.name == "everything"
                else token
                for token in place.tokens.read()
            )
        )
        (ends,) = (token.ends.timestamp() for token in place.tokens.read() if token.name == "everything")
        with place.open():
            grant = Permissions(KEY).verified(ask(place, longest)[1])
            assert (grant.name, grant.weight, grant.tasks) == ("n" * 64, 100, tuple(patterns))
            assert 590 < grant.ends - time.time() <= 1200
            assert Permissions(KEY).verified(ask(place, place.everything)[1]).ends == int(ends)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is installed")
def test_tokens_are_accepted_hours_later_without_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, shifted = tmp_path / "clock.so", tmp_path / "shifted"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], input=CLOCK.encode(), check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("SHIFTED", str(shifted))
    with running(ThreadingHTTPServer((LOOPBACK, 0), Granting)) as web:
        at = f"{LOOPBACK}:{web.server_port}"
        place = Place(tmp_path, [Backend(name="granting", grpc=at, http=at, ready=at)])
        short = place.tokens.add("short", ["*"], 0, 1)
        place.expire("short", datetime.now(timezone.utc) + timedelta(hours=2))
        with place.open():
            later = Permissions(KEY, lambda: time.time() + LATER_S)
            Permissions(KEY).verified(ask(place, place.everything)[1])
            assert ask(place, short)[0] == 200
            shifted.touch()
            until(lambda: ask(place, short)[0] == 401)
            assert later.verified(ask(place, place.everything)[1]).ends > time.time() + LATER_S


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

        try:
            with place.open(), place.connect() as connection:
                request(connection, "/v2/health/live")
                assert under_way.wait(60)
                place.tokens.revoke("guest")
                place.reload()
                with place.connect() as refused:
                    request(refused, "/none")
                    assert b" 401 " in refused.recv(4096)
                release.set()
                request(connection, "/v2/health/live")
                answers = b"".join(iter(lambda: connection.recv(4096), b""))
                assert answers.count(b"HTTP/1.") == 1 and answers.startswith(b"HTTP/1.0 200")
        finally:
            release.set()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"certificate": "ca.pem"}, "certificate: {}/ca.pem cannot be used with its key"),
        ({"client_s": 1 << 40}, "HAProxy refuses what {}/door.toml asks for: .*timer overflow"),
        ({"tokens": "other.json"}, "other.json is missing"),
        ({"grant_key": "ca.key"}, "grant_key: {}/ca.key is missing"),
    ],
)
def test_wrong_configuration_changes_nothing(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with opened(tmp_path) as place:
        before = (place.run / "haproxy.cfg").read_bytes()
        place.configure(**wrong)
        with pytest.raises(SetupError, match=sentence.format(tmp_path)):
            place.reload()
        assert ask(place, place.everything)[0] == 200 and (place.run / "haproxy.cfg").read_bytes() == before
        place.configure(client_s=41)
        place.reload()
        until(lambda: ask(place, place.everything)[0] == 200)


def test_files_are_for_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o002)
    try:
        with opened(tmp_path) as place:
            written = [path for path in place.run.rglob("*") if path.is_file()]
            assert {"haproxy.cfg", "tokens.map", "grant_key.map"} <= {path.name for path in written}
            assert not [path for path in written if path.is_symlink() or path.stat().st_mode & 0o077]
            with pytest.raises(SetupError, match="no HAProxy answers"):
                door.reload(place.file, tmp_path / "elsewhere")
    finally:
        os.umask(before)
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for folder in ("open", "link"):
        with pytest.raises(SetupError, match="a folder that its user alone may open"):
            door.prepare(place.file, tmp_path / folder)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert door.folder_of(place.file) != door.folder_of(tmp_path / "other.toml")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/door")
    assert door.folder_of(place.file) == Path("/run/door")


def test_reload_that_haproxy_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(haproxy, "_RELOAD_S", 0.5)
    with opened(tmp_path) as place:
        (place.run / "haproxy.cfg").write_text("nonsense")
        with pytest.raises(SetupError, match="HAProxy does not load the new configuration"):
            haproxy.reload(place.run)
        place.reload()
        shutil.rmtree(place.run)
        with pytest.raises(SetupError, match="no HAProxy answers in"):
            place.reload()


def test_port_of_another_process_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as HAProxy does: both would get connections
        other.bind((LOOPBACK, place.port))
        other.listen()
        with tempfile.TemporaryDirectory() as folder, pytest.raises(SetupError, match=f"port {place.port} cannot"):
            door.run(place.file, Path(folder))


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_command_becomes_haproxy_reloads_it_and_ends_with_it(tmp_path: Path, victim: str) -> None:
    def status(token: str) -> int:
        try:
            return ask(place, token)[0]
        except OSError:
            return 0

    with small_backend() as port, tempfile.TemporaryDirectory() as scratch:
        at = [f"{LOOPBACK}:{port}", f"{LOOPBACK}:{free_port()}"]
        backends = [Backend(name=f"b{n}", grpc=a, http=a, ready=a) for n, a in enumerate(at)]
        place = Place(tmp_path, backends, arithmetic="any")
        environment = {**os.environ, "TMPDIR": scratch}
        command = [SCOREMUX, "front-door", str(place.file)]
        with place.log.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until(lambda: status(place.everything) == 200, process, place.log.read_text)
        until(lambda: "Server http/b1 is DOWN" in place.log.read_text())
        said = place.log.read_text()
        assert said.startswith(f"no Triton answers at {at[1]} (Connection refused): the door opens, and refuses")
        assert said.count("Server http/b1 is DOWN") == 1
        place.tokens.add("guest", ["*"], 0, 1)
        subprocess.run([*command, "--reload"], check=True, env=environment)
        workers = psutil.Process(process.pid).children()
        if victim == "worker":
            workers[-1].kill()
            assert process.wait(120) != 0
        else:
            process.send_signal(signal.SIGUSR1)
            assert process.wait(120) == 0
        until(lambda: not any(worker.is_running() for worker in workers))
        assert status(place.everything) == 0
