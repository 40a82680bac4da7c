"""Rows that kill are found by what a dead process leaves; those that only stood beside one are not taken for them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_engine.scoring.in_flight import InFlight, row_digest

A, B, C = (row_digest("v", [n]) for n in range(3))

# Computes the rows that it is given, all at once or those left from a death alone, and dies in one of them.
_PROCESS = """
import os, signal, sys
from pathlib import Path
from scoremux_engine.scoring.in_flight import InFlight
folder, deadly, number, *rows = sys.argv[1:]
state = InFlight(Path(folder), overlap=2)
rows = [row for row in rows if row not in state.deadly]
alone = [[row] for row in rows if row in state.unfinished]
for part in [*alone, [row for row in rows if row not in state.unfinished]]:
    with state.running(part):
        if deadly in part:
            os.kill(os.getpid(), int(number))
"""


def die(folder: Path, deadly: str, number: int, *rows: str) -> int:
    """Return the exit status of a process that computes rows, one of which raises a signal."""
    command = [sys.executable, "-c", _PROCESS, str(folder), deadly, str(number), *rows]
    return subprocess.run(command, capture_output=True, timeout=240, check=False).returncode


@pytest.mark.parametrize(
    ("number", "rows", "deaths"),
    [
        *((number, (A, B, C), 2) for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS)),
        (signal.SIGSEGV, (B,), 2),
        (signal.SIGKILL, (A, B, C), 3),  # a death without a crash takes one more
    ],
)
def test_row_that_crashes_is_named(tmp_path: Path, number: int, rows: tuple[str, ...], deaths: int) -> None:
    assert [die(tmp_path, B, number, *rows) for _ in range(deaths + 1)] == [-number] * deaths + [0]
    assert set(InFlight(tmp_path, overlap=2).deadly) == {B}


def test_a_row_beside_one_that_kills_is_computed_and_no_longer_alone(tmp_path: Path) -> None:
    die(tmp_path, B, signal.SIGSEGV, A, B, C)
    state = InFlight(tmp_path, overlap=2)
    assert set(state.unfinished) == {A, B, C}
    for digest in (A, C):
        with state.running([digest]):
            pass
    assert set(state.unfinished) == {B}
    assert set(InFlight(tmp_path, overlap=2).unfinished) == {B}


def test_kills_that_meet_different_rows_name_none(tmp_path: Path) -> None:
    for row in (A, B, C, A):
        die(tmp_path, row, signal.SIGKILL, row)
    state = InFlight(tmp_path, overlap=1)
    assert set(state.deadly) == set()
    assert set(state.unfinished) == {A, B, C}


def test_a_kill_by_the_kernel_for_want_of_memory_is_a_crash(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    running = []  # kept, as a process that dies leaves it
    for count in (3, 4, 5):
        events.write_text(f"low 0\nhigh 0\nmax 7\noom {count}\noom_kill {count}\noom_group_kill 0\n")
        state = InFlight(tmp_path, overlap=1, memory_events=events)
        if A not in state.deadly:
            running.append(state.running([A]))
            running[-1].__enter__()
    assert set(state.deadly) == {A}


def test_deadly_row_runs_again_alone_after_an_hour_and_one_death_condemns_it_again(tmp_path: Path) -> None:
    now = [1_000_000.0]
    running = []  # kept, as a process that dies leaves it

    def start() -> InFlight:
        return InFlight(tmp_path, overlap=1, memory_events=tmp_path / "none", clock=lambda: now[0])

    for _ in range(3):  # deaths without a sign of a crash: one beside others, two alone
        running.append(start().running([A]))
        running[-1].__enter__()
    state = start()
    assert set(state.deadly) == {A} and A not in state.unfinished
    now[0] += 3599
    assert set(state.deadly) == set(start().deadly) == {A}
    now[0] += 2
    assert not state.deadly and A in state.unfinished  # which runs alone
    running.append(state.running([A]))
    running[-1].__enter__()
    assert set(start().deadly) == {A}
    now[0] -= 86_400  # the clock is set back: nobody waits for a day
    state = start()
    assert not state.deadly and A in state.unfinished
    running.append(state.running([A]))
    running[-1].__enter__()
    assert set(start().deadly) == {A}
    now[0] += 3601
    state = start()
    assert not state.deadly
    with state.running([A]):
        pass  # it was condemned by chance
    assert not state.unfinished and not start().deadly and not start().unfinished


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"unfinished": 1, "deadly": 2, "oom_kills": 3}', b"\xff" * 9])
def test_damaged_files_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "deaths.json").write_bytes(content)
    (tmp_path / "rows-in-flight").write_bytes(os.urandom(50))
    state = InFlight(tmp_path, overlap=2)
    assert set(state.deadly) == set()
    with state.running([A, B]):
        pass


def test_a_rows_digest_follows_its_version_and_tokens_and_as_many_are_noted_as_there_is_room(tmp_path: Path) -> None:
    assert len({row_digest("v", [1, 2]), row_digest("w", [1, 2]), row_digest("v", [1, 3]), row_digest("v", [])}) == 4
    with InFlight(tmp_path, overlap=1).running([row_digest("v", [n]) for n in range(2000)]):
        pass
