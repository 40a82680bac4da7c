"""Faults at one chosen file operation of a child process: it is killed there, or the operation fails."""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from scoremux_engine.errors import EngineError

DONE, REFUSED, UNFORESEEN, KILLED = 0, 3, 4, -signal.SIGKILL
_AUDITED = {
    "open", "os.chmod", "os.listdir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate",
    "fcntl.flock",
}  # fmt: skip


def run_with_fault(action: Callable[[], object], number: int, fault: Callable[[], None]) -> int:
    """Run `action` in a forked child with `fault` at its `number`-th file operation, counted from 1.

    An operation is what Python's audit hooks report, an fsync, and each half of a write. Returns DONE, REFUSED for an
    error of ours, UNFORESEEN for another, KILLED.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        _arm(number, fault)
        action()
        os._exit(DONE)
    except EngineError:
        os._exit(REFUSED)
    except BaseException:
        traceback.print_exc()
        os._exit(UNFORESEEN)


def raised_in_child(action: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> str:
    """Return the error that `action` raises in a forked child, empty if none; prepare: runs there before it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        message = ""
        try:
            prepare()
            action()
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(writer, message.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    return message


def count_operations(action: Callable[[], object]) -> int:
    """Run `action` unharmed in a forked child; return how many file operations it has."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader) as report:
            counted = report.read()
        os.waitpid(child, 0)
        return int(counted)
    try:
        tell = os.write
        count = _arm(0, kill)
        action()
        tell(writer, str(count()).encode())
    finally:
        os._exit(DONE)


def kill() -> None:
    """Die as `kill -9` does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(number: int, fault: Callable[[], None]) -> Callable[[], int]:
    """Put the fault in place; return what says how many operations there have been."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if count == number:
            fault()

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            raise AssertionError("Python's own file objects write unseen; the store writes with os.write")
        if event in _AUDITED:
            step()

    write, fsync = os.write, os.fsync

    def write_halves(handle: int, data: Any) -> int:
        step()
        half = len(data) // 2
        written = write(handle, data[:half]) if half else 0
        step()
        return written + write(handle, data[half:])

    def fsync_counted(handle: int) -> None:
        step()
        fsync(handle)

    os.write, os.fsync = write_halves, fsync_counted  # type: ignore[assignment]
    sys.addaudithook(audit)
    return lambda: count


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems and becomes somebody else")


@contextmanager
def mounted(folder: Path, size_bytes: int) -> Iterator[Callable[..., None]]:
    """Give a file system of this size at `folder`, and a function that mounts it again with other options."""

    def mount(*options: str) -> None:
        subprocess.run(["mount", *options, str(folder)], check=True, capture_output=True)

    folder.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs")
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("file systems cannot be mounted here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(folder)], check=True)
