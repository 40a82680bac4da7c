"""What the kernel says about processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from scoremux_server import processes

SECRET = "s3cret-of-this-start"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A sleeping child in a group of its own, with a secret among its arguments."""
    command = [sys.executable, "-c", "import time; time.sleep(60)", "before", f"--key={SECRET}", "after"]
    process = subprocess.Popen(command, start_new_session=True)
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


HOLDER = """
import socket, sys, threading, time
held = bytearray(200_000_000)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
for _ in range(30):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("held", flush=True)
time.sleep(60)
"""


def test_the_port_of_a_process_that_has_ended_is_free() -> None:
    for _ in range(5):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-c", HOLDER, str(port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            assert not processes.has_ended(process.pid)
            process.kill()
            deadline = time.monotonic() + 20
            while not processes.has_ended(process.pid):
                assert time.monotonic() < deadline
            assert processes.name(process.pid).startswith("python")
            socket.create_server(("127.0.0.1", port)).close()
        assert processes.has_ended(process.pid)


def test_a_group_is_its_leader_and_children(child: subprocess.Popen[bytes]) -> None:
    assert processes.group(child.pid) == [child.pid]
    assert processes.memory_bytes(child.pid) > 1_000_000
    assert processes.stubs(child.pid) == {}


def test_time_spent_computing_is_counted() -> None:
    before = processes.look(os.getpid())
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = processes.look(os.getpid())
    assert before and after
    assert after.ticks - before.ticks >= 5


def test_a_secret_is_overwritten_in_a_childs_arguments_and_nothing_else(child: subprocess.Popen[bytes]) -> None:
    assert f"--key={SECRET}" in processes.arguments(child.pid)
    assert processes.hide(child.pid, SECRET)
    assert processes.arguments(child.pid)[3:] == ["before", "--key=" + "x" * len(SECRET), "after"]


def test_hiding_in_a_process_that_is_gone_says_so() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert not processes.hide(child.pid, SECRET)


def test_a_name_that_is_no_text_is_read_all_the_same() -> None:
    name = "ctypes.CDLL(None).prctl(15, b'\\xc3berg) R\\xc3', 0, 0, 0)"
    program = f"import ctypes, time; {name}; print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        seen = processes.look(process.pid)
        assert seen and seen.alive and not seen.stopped
        assert processes.name(process.pid).endswith("berg) R\ufffd")
        process.kill()


WITHOUT_FILES = """
import os, resource, sys
from scoremux_server import processes
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
held = []
try:
    while True: held.append(os.open("/dev/null", os.O_RDONLY))
except OSError: pass
pid = os.getppid()
seen = processes.look(pid)
print(seen.alive, seen.stopped, seen.waits_for_disk, processes.has_ended(pid), processes.hide(pid, "secret"))
for ask in (processes.every, lambda: processes.arguments(pid)):
    try: print(ask())
    except OSError as error: print(error.strerror)
"""


def test_who_has_no_file_left_to_ask_with_takes_nobody_for_dead() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_FILES], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.splitlines() == ["True False True False False", *["Too many open files"] * 2]
