"""The programs that are started here, and whom their end may hit."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from scoremux_server.log_file import LogFile
from scoremux_server.python_environment import PythonEnvironment

from scoremux_server import processes
from scoremux_server.process import ChildProcess


def child(folder: Path, *arguments: str) -> ChildProcess:
    return ChildProcess(["/bin/bash", "-c", *arguments], os.environ, LogFile.beside(folder / "log"))


def ended(process: ChildProcess) -> int:
    deadline = time.monotonic() + 10
    while (status := process.exit_status) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def test_its_end_is_told_before_and_after_it_is_cleared_away(tmp_path: Path) -> None:
    for program, status in (("exit 3", 3), ("kill -9 $$", -signal.SIGKILL), ("kill -8 $$", -signal.SIGFPE)):
        process = child(tmp_path, program)
        assert ended(process) == status
        process.kill()
        assert process.exit_status == status
    running = child(tmp_path, "sleep 60")
    assert running.exit_status is None
    running.kill()
    assert running.exit_status == -signal.SIGKILL


def test_what_it_started_ends_with_it_even_after_its_own_end(tmp_path: Path) -> None:
    process = child(tmp_path, "sleep 60 & exit 0")
    assert ended(process) == 0
    assert len(processes.living(process.pid)) == 1
    process.kill()
    assert processes.living(process.pid) == []


def test_its_id_is_nobody_elses_until_it_is_cleared_away_and_then_it_is_not_signalled(tmp_path: Path) -> None:
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not os.access(last, os.W_OK):
        pytest.skip("this user cannot choose the next process's id")
    process = child(tmp_path, "exit 0")
    assert ended(process) == 0
    seen = processes.look(process.pid)
    assert seen and not seen.alive
    process.kill()
    other = None
    for _ in range(200):
        last.write_text(str(process.pid - 1))
        other = subprocess.Popen(["sleep", "60"], start_new_session=True)
        if other.pid == process.pid:
            break
        other.kill()
        other.wait()
    else:
        pytest.skip("somebody else was always quicker")
    process.kill()
    time.sleep(0.1)
    assert other.poll() is None and process.exit_status == 0
    other.kill()
    other.wait()


def test_the_python_backends_folder_is_removed_if_it_is_known_and_empty(tmp_path: Path) -> None:
    (tmp_path / "python_env_before").mkdir()
    known = PythonEnvironment(tmp_path)
    (tmp_path / "python_env_own").mkdir()
    known.look()
    (tmp_path / "python_env_later").mkdir()
    known.remove()
    known.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["python_env_before", "python_env_later"]
    used = PythonEnvironment(tmp_path)
    (tmp_path / "python_env_used" / "0").mkdir(parents=True)
    used.remove()
    assert (tmp_path / "python_env_used" / "0").is_dir()


def test_of_two_folders_at_once_none_is_touched(tmp_path: Path) -> None:
    unknown = PythonEnvironment(tmp_path)
    for name in "ab":
        (tmp_path / f"python_env_{name}").mkdir()
    unknown.remove()
    assert len(list(tmp_path.iterdir())) == 2
