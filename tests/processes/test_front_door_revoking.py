"""Tokens in a running HAProxy: as many as there are, in every worker, and never fewer than the file has."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from doors import KEY, Place, bearer, needs_haproxy
from http_peers import running
from scoremux_server.errors import ControlError
from scoremux_server.front_door.access_tokens import Token
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.haproxy import Haproxy, find_program
from scoremux_server.front_door.haproxy import ask as command
from scoremux_server.profile import LOOPBACK
from small_backends import Watched, ask, small_backend
from waiting import until


def many(count: int) -> list[Token]:
    now = datetime.now(timezone.utc)
    digests = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(count))
    times = {"created": now, "ends": now + timedelta(days=3)}
    patterns = ("t-*", "en-6.3-*")
    return [Token(name=f"n{i}", sha256=one, tasks=patterns, rate=0, **times) for i, one in enumerate(digests)]


def entries(door: FrontDoor, worker: int) -> list[str]:
    """The keys of a worker's tokens."""
    shown = command(door.haproxy.master_socket, f"@!{worker} show map {door.run.path}/tokens.map")
    return [line.split(" ")[1] for line in shown.splitlines()]


@needs_haproxy
def test_more_tokens_than_a_buffer_holds_come_and_go(tmp_path: Path) -> None:
    with small_backend() as port:
        at = f"{LOOPBACK}:{port}"
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)], request_bytes=1 << 12)
        guest = place.tokens.add("guest", ["*"], 0, 1)
        with place.open() as door:
            (worker,) = door.haproxy.workers()
            place.tokens._write((*place.tokens.read(), *many(26_000)))
            until(lambda: len(entries(door, worker)) == 26_002)
            until(lambda: ask(place, guest)[0] == ask(place, place.everything)[0] == 200)
            place.tokens.revoke("guest")
            until(lambda: ask(place, guest)[0] == 401)
            # On a busy machine a health check may have taken the small backend out for a moment.
            until(lambda: ask(place, place.everything)[0] == 200)
            assert len(entries(door, worker)) == 26_001 and not place.reports
            assert (door.restarts, door.reloads) == (0, 0)


@contextmanager
def runtime_api(folder: Path, loses: str) -> Iterator[list[str]]:
    """A master with one worker that loses the entries of lines with a certain name."""
    path, heard, taken = folder / "master.sock", list[str](), list[str]()

    def answer(said: str) -> str:
        heard.append(said)
        if said == "show proc":
            return "7 worker"
        if "add map" in said:
            taken.extend(line for line in said.splitlines()[1:] if loses not in line)
        if "show map" in said:
            return "\n".join(f"0x1 {line}" for line in taken)
        return "New version created: 1" if "prepare" in said else ""

    def serve() -> None:
        said = ""
        while said != "end":
            with listener.accept()[0] as connection:
                said = b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode().rstrip("\n")
                connection.sendall(answer(said).encode())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield heard
        finally:
            command(path, "end")
            thread.join()


@needs_haproxy
def test_what_arrived_in_part_is_not_committed(tmp_path: Path) -> None:
    haproxy = Haproxy(find_program(), tmp_path, tmp_path / "log")
    lines = "".join(f"{token.map_line(KEY, time.time())}\n" for token in many(1000))
    with runtime_api(tmp_path, loses=":n500:") as heard:
        with pytest.raises(ControlError, match="HAProxy took 999 tokens of 1000"):
            haproxy.replace_tokens(lines)
        assert not [said for said in heard if "commit" in said]
        assert [said for said in heard if "clear map @1 " in said]
        assert max(map(len, heard)) < (16 << 10) + 200
    (tmp_path / "master.sock").unlink()
    with runtime_api(tmp_path, loses="?") as heard:
        haproxy.replace_tokens(lines)
        assert [said for said in heard if "commit map @1 " in said]


@needs_haproxy
def test_a_token_revoked_with_a_reload_is_revoked_in_draining_workers_too(tmp_path: Path) -> None:
    release, under_way = threading.Event(), threading.Event()

    class Handler(Watched):
        def do_GET(self) -> None:
            under_way.set()
            release.wait(240)
            self.do_HEAD()

    with running(ThreadingHTTPServer((LOOPBACK, 0), Handler)) as web:
        at = f"{LOOPBACK}:{web.server_port}"
        place = Place(tmp_path, [Backend(name="slow", grpc=at, http=at, ready=at)])
        place.tokens.add("guest", ["*"], 0, 1)
        try:
            with place.open() as door, place.connect() as connection:
                told = "".join(f"{name}: {value}\r\n" for name, value in bearer(place.everything).items())
                connection.sendall(f"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n{told}\r\n".encode())
                assert under_way.wait(60)
                (old,) = door.haproxy.workers()
                assert len(entries(door, old)) == 2
                place.tokens.revoke("guest")
                place.configure(client_s=41)  # before the next look
                until(lambda: door.reloads == 1)
                until(lambda: len(entries(door, old)) == 1)
                assert len(door.haproxy.workers()) == 2
                release.set()
                assert connection.recv(4096).startswith(b"HTTP/1.0 200")
        finally:
            release.set()


@needs_haproxy
def test_a_folder_with_a_space_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="my files ") as scratch, small_backend() as port:
        monkeypatch.setattr(tempfile, "tempdir", scratch)
        at = f"{LOOPBACK}:{port}"
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)], client_ca="ca.pem")
        place.configure()
        guest = place.tokens.add("guest", ["*"], 0, 1)
        with place.open() as door:
            assert door.haproxy.worker_socket.is_relative_to(scratch)
            assert ask(place, guest)[0] == 200
            place.tokens.revoke("guest")
            until(lambda: ask(place, guest)[0] == 401)
            place.configure(client_ca="ca.pem")
            until(lambda: door.reloads == 1)
            assert not [report for report in place.reports if "keeps its files of before" in report]


@needs_haproxy
def test_keys_are_copied_for_nobody_else(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        place = Place(tmp_path, [Backend(name="a", grpc="127.0.0.1:1", http="127.0.0.1:1", ready="127.0.0.1:1")])
        with FrontDoor(place.file, place.log) as door:
            written = [path for path in door.run.path.rglob("*") if path.is_file()]
            assert {"door.pem", "door.pem.key", "tokens.map"} <= {path.name for path in written}
            assert not [path for path in written if path.is_symlink() or path.stat().st_mode & 0o077]
    finally:
        os.umask(before)


@needs_haproxy
def test_grants_are_renewed_before_they_end_also_while_the_token_file_is_away(tmp_path: Path) -> None:
    with small_backend() as port:
        at, now = f"{LOOPBACK}:{port}", [time.time()]
        place = Place(tmp_path, [Backend(name="small", grpc=at, http=at, ready=at)])
        with FrontDoor(place.file, place.log, clock=lambda: now[0]) as door:
            until(lambda: ask(place, place.everything)[0] == 200)

            def ends() -> int:
                (worker,) = door.haproxy.workers()
                shown = command(door.haproxy.master_socket, f"@!{worker} show map {door.run.path}/tokens.map")
                return int(shown.split(":")[3])

            first = ends()
            assert 7190 < first - now[0] <= 7200
            place.tokens.path.unlink()
            for after, renewed in ((3500, False), (3700, True)):
                now[0] = first - 7200 + after
                assert door.look() == ""
                assert (ends() > first) == renewed
            assert ask(place, place.everything)[0] == 200
