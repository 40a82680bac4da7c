"""What is found out about processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scoremux_server.triton import processes


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A sleeping child in a group of its own."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    time.sleep(0.2)
    yield process
    process.kill()
    process.wait()


def test_a_childs_states_are_told_apart(child: subprocess.Popen[bytes]) -> None:
    seen = processes.look(child.pid)
    assert seen and seen.alive and not seen.stopped
    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    seen = processes.look(child.pid)
    assert seen and seen.stopped
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    seen = processes.look(child.pid)
    assert seen and not seen.alive
    child.wait()
    assert processes.look(child.pid) is None
    assert processes.arguments(child.pid) == []


def test_a_group_is_its_leader_and_children(child: subprocess.Popen[bytes]) -> None:
    assert processes.group(child.pid) == [child.pid]
    assert processes.memory_bytes(child.pid) > 1_000_000
    assert processes.stubs(child.pid) == {}


def test_who_listens_on_a_port_is_known(child: subprocess.Popen[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        ports = [listener.getsockname()[1] for listener in (one, six)]
        assert processes.listens(os.getpid(), ports)
        assert not processes.listens(child.pid, ports[:1])
        with socket.create_connection(("127.0.0.1", ports[0])) as client:
            assert not processes.listens(os.getpid(), [client.getsockname()[1]])  # a connection is no listener
    assert not processes.listens(os.getpid(), ports)
    child.kill()
    child.wait()
    assert not processes.listens(child.pid, ports)


def test_time_spent_computing_is_counted() -> None:
    before = processes.look(os.getpid())
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = processes.look(os.getpid())
    assert before and after
    assert after.cpu_s - before.cpu_s >= 0.05


def test_a_name_that_is_no_text_is_read_all_the_same() -> None:
    name = "ctypes.CDLL(None).prctl(15, b'\\xc3berg) R\\xc3', 0, 0, 0)"
    program = f"import ctypes, time; {name}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        seen = processes.look(process.pid)
        assert seen and seen.alive and not seen.stopped
        process.kill()


WITHOUT_FILES = """
import os, resource, sys
from scoremux_server.triton import processes
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
pid = os.getppid()
seen = processes.look(pid)
print(seen.alive, seen.stopped, seen.waits_for_disk, processes.listens(pid, [1]))
for ask in (lambda: processes.group(pid), lambda: processes.arguments(pid)):
    try: print(ask())
    except OSError as error: print(error.strerror)
"""


def test_who_has_no_file_left_to_ask_with_takes_nobody_for_dead() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.splitlines() == ["True False True True", *["Too many open files"] * 2]
