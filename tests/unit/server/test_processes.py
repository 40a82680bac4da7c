"""Processes: their states, and the programs that are started here and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.triton import processes
from scoremux_server.triton.processes import ChildProcess, open_log
from waiting import until


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()


def test_processes_and_groups_and_listeners_are_told_apart(child: subprocess.Popen[bytes]) -> None:
    assert processes.group(child.pid) == [child.pid]
    assert processes.stubs(child.pid) == {}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        ports = [listener.getsockname()[1] for listener in (one, six)]
        assert processes.listens(os.getpid(), ports)
        assert not processes.listens(child.pid, ports[:1])
        with socket.create_connection(("127.0.0.1", ports[0])) as client:
            assert not processes.listens(os.getpid(), [client.getsockname()[1]])  # a connection is no listener
    assert not processes.listens(os.getpid(), ports)
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert processes.alive(child.pid) and not processes.is_zombie(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.alive(child.pid) and processes.is_zombie(child.pid)
    child.wait()
    assert not processes.alive(child.pid) and not processes.is_zombie(child.pid)
    assert processes.arguments(child.pid) == []
    assert not processes.listens(child.pid, ports)


WITHOUT_FILES = """
import os, resource, sys
from scoremux_server.errors import SetupError
from scoremux_server.triton import processes
from scoremux_server.triton.processes import ChildProcess, open_log
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
files = []
try:
    while True: files.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
pid = os.getppid()
print(processes.alive(pid), processes.listens(pid, [1]))
for ask in (lambda: processes.group(pid), lambda: processes.arguments(pid)):
    try: print(ask())
    except OSError as error: print(error.strerror)
"""


def test_processes_count_as_alive_when_no_file_is_left_to_read_them() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, timeout=240, check=True)
    assert ran.stdout.splitlines() == ["True True", *["Too many open files"] * 2]


def start(folder: Path, *arguments: str) -> ChildProcess:
    return ChildProcess(["/bin/bash", "-c", *arguments], os.environ, folder / "logs" / "log")


def ended(process: ChildProcess) -> int:
    until(lambda: process.exit_status is not None)
    status = process.exit_status
    assert status is not None
    return status


def test_exit_status_survives_kill_which_ends_a_childs_children(tmp_path: Path) -> None:
    for program, status in (("exit 3", 3), ("kill -9 $$", -signal.SIGKILL), ("kill -8 $$", -signal.SIGFPE)):
        process = start(tmp_path, program)
        assert ended(process) == status
        process.kill()
        assert process.exit_status == status
    running = start(tmp_path, "sleep 60")
    assert running.exit_status is None
    running.kill()
    assert running.exit_status == -signal.SIGKILL
    process = start(tmp_path, "sleep 60 & exit 0")
    assert ended(process) == 0
    assert len(processes.living(process.pid)) == 1
    process.kill()
    assert processes.living(process.pid) == []


def test_id_of_an_ended_child_is_kept_until_kill_and_never_signalled_after_it(tmp_path: Path) -> None:
    last = Path("/proc/sys/kernel/ns_last_pid")
    if not os.access(last, os.W_OK):
        pytest.skip("this user cannot choose the next process's id")
    process = start(tmp_path, "exit 0")
    assert ended(process) == 0
    assert processes.is_zombie(process.pid)
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


def test_log_is_appended_to_and_the_tail_is_the_childs_own(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "log"
    for text in ("first", "second"):
        process = start(tmp_path, f"echo {text}")
        ended(process)
        assert process.log_tail() == f"{text}\n"
    assert log.read_text() == "first\nsecond\n"
    long = start(tmp_path, "printf 'a%.0s' {1..5000}; printf 'b%.0s' {1..4096}")
    ended(long)
    assert long.log_tail() == "b" * 4096
    os.truncate(log, 3)  # as logrotate does
    assert long.log_tail() == "fir"


@pytest.mark.parametrize("kind", ["pipe", "link", "/dev/null"])
def test_log_tail_reads_regular_files_only(tmp_path: Path, kind: str) -> None:
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


def test_unwritable_log_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SetupError, match="the pipe has no reader"):
        open_log(tmp_path / "pipe")
    with pytest.raises(SetupError, match=r"the log .* cannot be written: Is a directory; give another with --log"):
        open_log(tmp_path)


def test_standard_output_as_log_is_not_opened_again(tmp_path: Path) -> None:
    program = (
        "import sys, subprocess; from pathlib import Path; from scoremux_server.triton.processes import open_log\n"
        "print('one', flush=True)\n"
        "with open_log(Path('/dev/stdout')) as output:\n"
        "    subprocess.run([sys.executable, '-c', 'print(2)'], stdout=output)\n"
        "    print('three', flush=True)\n"
        "    subprocess.run([sys.executable, '-c', 'print(4)'], stdout=output)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text().split() == ["one", "2", "three", "4"]
