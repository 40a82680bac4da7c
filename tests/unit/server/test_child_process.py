"""The programs that are started here, and whom their end may hit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.triton import processes
from scoremux_server.triton.process import ChildProcess, open_log


def child(folder: Path, *arguments: str) -> ChildProcess:
    return ChildProcess(["/bin/bash", "-c", *arguments], os.environ, folder / "logs" / "log")


def ended(process: ChildProcess) -> int:
    deadline = time.monotonic() + 60
    while (status := process.exit_status) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return status


def test_its_end_is_known_before_and_after_it_is_cleared_away(tmp_path: Path) -> None:
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


def test_its_log_is_appended_to_and_its_tail_is_its_own(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log"
    for text in ("first", "second"):
        process = child(tmp_path, f"echo {text}")
        ended(process)
        assert process.log_tail() == f"{text}\n"
    assert log.read_text() == "first\nsecond\n"
    long = child(tmp_path, "printf 'a%.0s' {1..5000}; printf 'b%.0s' {1..4096}")
    ended(long)
    assert long.log_tail() == "b" * 4096
    os.truncate(log, 3)  # as logrotate does
    assert long.log_tail() == "fir"


@pytest.mark.parametrize("kind", ["pipe", "link", "/dev/null"])
def test_only_a_regular_log_is_read(tmp_path: Path, kind: str) -> None:
    log = Path(kind) if kind.startswith("/") else tmp_path / kind
    reader = None
    if kind == "pipe":
        os.mkfifo(log)
        reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    elif kind == "link":
        log.symlink_to(tmp_path / "target")
    process = ChildProcess(["/bin/bash", "-c", "echo heard"], os.environ, log)
    ended(process)
    assert process.log_tail() == ""
    if reader is not None:
        assert os.read(reader, 9) == b"heard\n"
        os.close(reader)
    if kind == "link":
        assert (tmp_path / "target").read_text() == "heard\n" and log.is_symlink()


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SetupError, match="nobody reads that pipe"):
        open_log(tmp_path / "pipe")
    with pytest.raises(SetupError, match=r"the log .* cannot be written: Is a directory; give another with --log"):
        open_log(tmp_path)


def test_standard_output_is_shared_and_not_opened_again(tmp_path: Path) -> None:
    program = (
        "import sys, subprocess; from pathlib import Path; from scoremux_server.triton.process import open_log\n"
        "print('one', flush=True)\n"
        "with open_log(Path('/dev/stdout')) as output:\n"
        "    subprocess.run([sys.executable, '-c', 'print(2)'], stdout=output)\n"
        "    print('three', flush=True)\n"
        "    subprocess.run([sys.executable, '-c', 'print(4)'], stdout=output)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text().split() == ["one", "2", "three", "4"]
