"""Backends that door.toml gives by name: a real HAProxy, and names that come, move and go."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from doors import Place, needs_haproxy, statistics, wait_for_backends
from scoremux_server.errors import ControlError
from scoremux_server.front_door.config import Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.front_door.names import Names, host_name, look_up
from small_backends import ask, small_backend, until

UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Book:
    """A name service with one name in it."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def __call__(self, _name: str) -> list[str]:
        if not self.addresses:
            raise UNKNOWN
        return list(self.addresses)


def named(host: str, port: int, name: str = "named") -> Backend:
    return Backend(name=name, grpc=f"{host}:{port}", http=f"{host}:{port}", ready=f"{host}:{port}", plaintext=True)


@contextmanager
def opened(place: Place, book: Book, reports: list[str], own: Backend | None = None) -> Iterator[FrontDoor]:
    with FrontDoor(place.file, place.log, own, reports.append, Names(book, every_s=0.1)) as door:
        yield door


def status(door: FrontDoor, name: str) -> set[str]:
    return {row["status"] for row in statistics(door) if row["svname"] == name}


def kill(door: FrontDoor) -> None:
    """End HAProxy, and wait for the next one."""
    before = door.restarts, door.process.pid
    os.kill(door.process.pid, signal.SIGKILL)
    until(lambda: door.restarts > before[0] and door.process.pid != before[1] and answers(door))


def answers(door: FrontDoor) -> bool:
    try:
        return bool(statistics(door))
    except ControlError:
        return False


@needs_haproxy
def test_a_name_that_is_unknown_closes_nothing_and_is_used_once_it_is_known(tmp_path: Path) -> None:
    book, reports = Book(), list[str]()
    with small_backend() as port, small_backend("127.0.0.2") as other:
        place = Place(tmp_path, [named("no.such.host", other)])
        with opened(place, book, reports, named("127.0.0.1", port, "own")) as door:
            assert all(one.startswith("MAINT") for one in status(door, "named"))
            assert {ask(place, place.everything) for _ in range(6)} == {(200, "127.0.0.1")}
            place.certify()
            until(lambda: door.reloads == 1)  # a reload needs no DNS either
            kill(door)
            assert {ask(place, place.everything) for _ in range(6)} == {(200, "127.0.0.1")}
            book.addresses = ("127.0.0.2",)
            until(lambda: {ask(place, place.everything)[1] for _ in range(6)} == {"127.0.0.1", "127.0.0.2"})
            assert status(door, "named") == {"UP"} and (door.reloads, door.restarts) == (1, 1)
    unknown = "no.such.host cannot be looked up (Name or service not known): nothing is sent there until it is known"
    assert reports.count(unknown) == 1 and reports.count("no.such.host is at 127.0.0.2 now") == 1


@needs_haproxy
def test_an_address_that_changes_is_followed_and_outlives_an_outage_of_dns(tmp_path: Path) -> None:
    book, reports = Book("127.0.0.1"), list[str]()
    with ExitStack() as stack:
        port = stack.enter_context(small_backend())
        stack.enter_context(small_backend("127.0.0.2", port))
        place = Place(tmp_path, [named("triton.test", port)])
        door = stack.enter_context(opened(place, book, reports))
        wait_for_backends(door)
        assert ask(place, place.everything) == (200, "127.0.0.1") and not reports
        book.addresses = ("127.0.0.2",)
        until(lambda: ask(place, place.everything) == (200, "127.0.0.2"))
        assert (door.reloads, door.restarts) == (0, 0)
        book.addresses = ()
        until(lambda: len(reports) == 2)
        place.configure(idle_s=50)
        until(lambda: door.reloads == 1 and ask(place, place.everything) == (200, "127.0.0.2"))
        kill(door)
        until(lambda: status(door, "named") == {"UP"})
        assert ask(place, place.everything) == (200, "127.0.0.2")
    assert reports[:2] == [
        "triton.test is at 127.0.0.2 now",
        "triton.test cannot be looked up (Name or service not known): its address stays 127.0.0.2",
    ]


@needs_haproxy
def test_each_address_of_a_backend_may_be_a_name(tmp_path: Path) -> None:
    """Health alone is asked at a name; HAProxy reads this one where it used to look it up itself."""
    book = Book()
    with small_backend() as port, small_backend("127.0.0.2") as health:
        backend = Backend(
            name="mixed", grpc=f"[::1]:{port}", http=f"127.0.0.1:{port}", ready=f"watcher.test:{health}", plaintext=True
        )
        place = Place(tmp_path, [backend])
        with opened(place, book, []) as door:
            assert ask(place, place.everything)[0] == 503
            book.addresses = ("127.0.0.2",)
            until(lambda: ask(place, place.everything) == (200, "127.0.0.1"))
            assert status(door, "mixed") == {"UP"}


@needs_haproxy
def test_names_of_the_hosts_file_work(tmp_path: Path) -> None:
    with small_backend(look_up("localhost")[0]) if "." in look_up("localhost")[0] else small_backend() as port:
        place = Place(tmp_path, [named("localhost", port)])
        with place.open():
            assert ask(place, place.everything) == (200, "127.0.0.1")


@pytest.mark.parametrize(
    ("where", "name"),
    [("10.0.0.2:8001", None), ("[::1]:8001", None), ("::1:8001", None), ("a.b:1", "a.b"), ("localhost:1", "localhost")],
)
def test_what_is_a_name(where: str, name: str | None) -> None:
    assert host_name(where) == name


def test_an_address_that_is_still_among_a_names_addresses_stays() -> None:
    book = Book("10.0.0.1", "10.0.0.2")
    names = Names(book, every_s=0)
    assert names.ask(["a"], 5) == {"a": "10.0.0.1"}
    for addresses, expected in (
        (("10.0.0.2", "10.0.0.1"), "10.0.0.1"),
        (("10.0.0.2",), "10.0.0.2"),
        ((), "10.0.0.2"),
        (("fe80::1%eth0", "10.0.0.3"), "10.0.0.3"),
    ):
        book.addresses = addresses
        for _ in range(3):
            until(lambda: not names._known["a"].under_way)
            names.ask(["a"])
        assert names.ask(["a"]) == {"a": expected}


def test_a_look_up_that_hangs_holds_up_nobody() -> None:
    release = threading.Event()

    def hang(name: str) -> list[str]:
        if name == "slow":
            release.wait(10)
        return ["10.0.0.1"]

    names = Names(hang, every_s=0)
    assert names.ask(["slow", "quick"], 0.3) == {"quick": "10.0.0.1"}
    assert names.ask(["slow", "quick"]) == {"quick": "10.0.0.1"}
    release.set()
    until(lambda: "slow" in names.ask(["slow", "quick"]))
    assert names.news() == []


def test_a_name_that_cannot_be_one_is_said() -> None:
    names = Names(every_s=60)
    assert names.ask([f"{'x' * 70}.test"], 5) == {}
    (said,) = names.news()
    assert "cannot be looked up" in said
