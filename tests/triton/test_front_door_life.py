"""`scoremux serve --front-door`: HAProxy dies and hangs, and is there again; nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from doors import Place, needs_haproxy, statistics
from ports import port_options
from scoremux_client import NO_RETRIES, Response, Retries, ScoringClient
from scoremux_server.front_door.config import I_KNOW, Backend
from scoremux_server.front_door.door import FrontDoor
from scoremux_server.triton import processes
from serving import SCOREMUX, serving
from waiting import until

pytestmark = [pytest.mark.triton, needs_haproxy]
ROW = [Response("t-1", "a router")]


class Served:
    """`scoremux serve --front-door` as a process of its own."""

    def __init__(self, repository: Path, place: Place, name: str, *told: str) -> None:
        self.place = place
        self.output = place.folder / f"{name}.txt"
        command = [SCOREMUX, "serve", "--repository", str(repository), "--log", str(place.folder / "triton.log")]
        command += port_options()
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [*command, "--front-door", str(place.file), *told], stdout=file, stderr=file
            )

    def wait_until_ready(self) -> None:
        until(lambda: "ready;" in self.output.read_text(), self.process, self.output.read_text)

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(child) for task in tasks for child in task.read_text().split()]

    def haproxies(self) -> list[int]:
        """The master, then its workers."""
        names = {pid: Path((processes.arguments(pid) or [""])[0]).name for pid in self.children()}
        (master,) = [pid for pid, name in names.items() if name == processes.PROXY]
        return sorted(processes.living(master), key=lambda pid: pid != master)

    def scores_within(self, seconds: float) -> None:
        patient = Retries(patience_s=seconds, contact_s=seconds)
        with ScoringClient(
            self.place.url("grpcs"), tls=self.place.tls, token=self.place.everything, retries=patient
        ) as client:
            assert client.score(ROW)[0].ok


@contextmanager
def served(repository: Path, place: Place, name: str = "serve", *told: str) -> Iterator[Served]:
    made = Served(repository, place, name, *told)
    try:
        made.wait_until_ready()
        made.scores_within(60)
        yield made
    finally:
        with suppress(ProcessLookupError):
            made.process.terminate()
        made.process.wait(90)


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if (seen := processes.look(pid)) and seen.alive]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_haproxy_is_healed_whatever_befalls_it(small_repository: Path, place: Place) -> None:
    with served(small_repository, place) as serve:
        for whom, number in ((0, signal.SIGKILL), (1, signal.SIGKILL), (1, signal.SIGSTOP)):
            before = serve.haproxies()
            assert len(before) == 2
            os.kill(before[whom], number)
            deadline = time.monotonic() + 120
            while not gone(before) and time.monotonic() < deadline:
                time.sleep(0.02)
            serve.scores_within(deadline - time.monotonic())
            assert gone(before) and len(serve.haproxies()) == 2
        last = serve.haproxies()
    said = serve.output.read_text()
    assert serve.process.returncode == 0 and said.count("restarting HAProxy") == 3 and "stopped" in said
    assert gone(last)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.port), 5)


def test_a_killed_serve_takes_its_haproxy_along(small_repository: Path, place: Place) -> None:
    with served(small_repository, place) as serve:
        left = serve.haproxies()
        serve.process.kill()
        serve.process.wait()
        until(lambda: gone(left))


def test_a_door_that_cannot_open_says_why_before_triton_starts(small_repository: Path, place: Place) -> None:
    (place.folder / "door.key").write_text("no key")
    failed = Served(small_repository, place, "failed")
    assert failed.process.wait(120) == 2
    assert "door.pem cannot be used with its key" in failed.output.read_text()
    assert not (place.folder / "triton.log").exists()


def test_a_stop_answers_the_rows_in_flight(small_repository: Path, place: Place) -> None:
    rows = [Response("t-4", f"{number} " + "router packet " * 40) for number in range(2000)]
    with (
        served(small_repository, place) as serve,
        ScoringClient(place.url("grpcs"), tls=place.tls, token=place.everything, chunk_rows=500, window=4) as client,
    ):
        scored = client.score_iter(rows[:500])
        first = next(scored)
        assert first.ok and all(one.ok for one in scored)
        with ScoringClient(
            place.url("https"), tls=place.tls, token=place.everything, retries=NO_RETRIES, chunk_rows=500, window=4
        ) as strict:
            strict.score(rows)  # opens its four connections
            going = strict.score_iter(rows)
            assert next(going).ok  # the other three requests are under way
            serve.process.terminate()
            assert sum(one.ok for one in going) == len(rows) - 1


@pytest.mark.parametrize(
    ("keys", "told", "sentence"),
    [
        ({"address": "0.0.0.0"}, (), "address is 0.0.0.0: a front door that other machines reach needs Triton 2"),
        ({}, ("--set", "grant_key_file=grant.key"), "set grant_key in door.toml instead"),
    ],
)
def test_a_door_that_would_not_be_safe_does_not_open(
    small_repository: Path, place: Place, keys: dict[str, str], told: tuple[str, ...], sentence: str
) -> None:
    place.configure(**keys)
    failed = Served(small_repository, place, "failed", *told)
    assert failed.process.wait(120) == 2
    assert sentence in failed.output.read_text()
    assert not (place.folder / "triton.log").exists()


def test_an_open_door_may_be_asked_for_by_name(small_repository: Path, place: Place) -> None:
    place.configure(address="0.0.0.0", i_know=I_KNOW)
    with served(small_repository, place) as serve:
        serve.scores_within(60)


def test_a_door_and_a_triton_that_start_apart_share_a_key(small_repository: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    with serving(small_repository, tmp_path, f"grant_key_file={tmp_path}/grant.key") as server:
        place.backends = [Backend.of(server.endpoints, "apart")]
        place.configure()
        tokens = place.tokens.add("one", ["t-1"], 0, 1)
        with place.open(), ScoringClient(place.url("grpcs"), tls=place.tls, token=tokens) as client:
            scored = client.score([Response("t-1", "a router"), Response("t-2", "a router")])
        assert [one.status for one in scored] == ["OK", "FORBIDDEN_TASK"]
        (tmp_path / "other.key").write_bytes(b"another key of at least 32 bytes")
        place.configure(grant_key="other.key")
        with FrontDoor(place.file, place.log) as door:
            until(lambda: {row["status"] for row in statistics(door) if row["svname"] == "apart"} == {"DOWN"})
