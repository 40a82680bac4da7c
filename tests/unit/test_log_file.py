"""The file that a program's output goes to: what is kept, what is read, and whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.log_file import LogFile


def test_what_it_holds_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    for text in (b"first", b"second", b"third"):
        with LogFile(path).begin() as output:
            output.write(text)
    assert path.read_bytes() == b"third"
    assert path.with_name("a.log.1").read_bytes() == b"second"


def test_head_and_tail_are_of_this_beginning(tmp_path: Path) -> None:
    path, link = tmp_path / "a.log", tmp_path / "link"
    link.symlink_to(path)
    path.write_bytes(b"before\n")
    log = LogFile(link)  # not renamed: it may be /dev/stdout
    with log.begin() as output:
        assert (log.head(), log.tail()) == (b"", b"")
        output.write(b"a" * 5000 + b"b" * 5000)
        output.flush()
        assert (log.head(), log.tail()) == (b"a" * 4096, b"b" * 4096)
    assert link.is_symlink() and path.stat().st_size == 10_007


def test_a_pipe_is_written_and_never_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = LogFile(path)
    with log.begin() as output:
        output.write(b"heard")
        output.flush()
        assert (log.head(), log.tail()) == (b"", b"")
        log.bound(0)
        assert os.read(reader, 9) == b"heard"
    os.close(reader)
    LogFile(Path("/dev/null")).begin().close()
    assert Path("/dev/null").is_char_device()


def test_too_large_a_log_begins_anew_where_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path)
    with log.begin() as output:
        for size, left in ((10, 10), (91, 0), (5, 5)):
            output.write(b"x" * size)
            output.flush()
            log.bound(100)
            assert path.stat().st_size == left
        os.truncate(path, 0)  # as logrotate does
        output.write(b"end")
        output.flush()
        assert path.read_bytes() == log.tail() == b"end"
    assert path.with_name("a.log.1").stat().st_size == 101


def test_the_log_of_a_program_that_runs_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    with LogFile(path).begin() as output:
        command = [sys.executable, "-c", "print('up', flush=True); input()"]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output)
    with pytest.raises(SetupError, match=r"a\.log is the log of a program that runs: .* --log FILE"):
        LogFile(path).begin()
    assert not path.with_name("a.log.1").exists()
    assert LogFile.free(path) == tmp_path / "a-2.log"
    other.kill()
    other.wait()
    assert LogFile.free(path) == path
    LogFile(path).begin().close()
    assert other.stdin
    other.stdin.close()
    assert path.with_name("a.log.1").read_bytes() == b"up\n"


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"the log .* cannot be written: Is a directory; name another: --log"):
        LogFile(tmp_path).begin()
