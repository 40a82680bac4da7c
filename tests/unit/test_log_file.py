"""The file that a program's output goes to: what is kept, what is read, and whose it is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.log_file import LogFile, keeps


def test_what_it_holds_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    for text in (b"first", b"second", b"third"):
        log = LogFile(path)
        with log.begin() as output:
            output.write(text)
        log.close()
    assert path.read_bytes() == b"third"
    assert path.with_name("a.log.1").read_bytes() == b"second"


def test_head_and_tail(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log")
    with log.begin() as output:
        assert (log.head(), log.tail()) == (b"", b"")
        output.write(b"a" * 5000 + b"b" * 5000)
        output.flush()
        assert (log.head(), log.tail()) == (b"a" * 4096, b"b" * 4096)


def test_what_a_link_leads_to_is_written_and_left_alone_otherwise(tmp_path: Path) -> None:
    path, link = tmp_path / "a.log", tmp_path / "link"
    link.symlink_to(path)
    path.write_bytes(b"before\n")
    log = LogFile(link)
    with log.begin() as output:
        output.write(b"after\n")
        output.flush()
        log.bound(0)
        assert (log.head(), log.tail()) == (b"", b"")
    assert link.is_symlink() and path.read_bytes() == b"before\nafter\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.log", "link"]


def test_standard_output_is_shared_and_not_opened_anew(tmp_path: Path) -> None:
    program = (
        "import sys, subprocess; from pathlib import Path; from scoremux_server.log_file import LogFile\n"
        "print('one', flush=True)\n"
        "with LogFile(Path('/dev/stdout')).begin() as output:\n"
        "    subprocess.run([sys.executable, '-c', 'print(2)'], stdout=output)\n"
        "    print('three', flush=True)\n"
        "    subprocess.run([sys.executable, '-c', 'print(4)'], stdout=output)\n"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True)
    assert (tmp_path / "out").read_text().split() == ["one", "2", "three", "4"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/null", "pipe", "."])
def test_only_what_is_a_file_or_becomes_one_is_kept(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "there").touch()
    assert not keeps(tmp_path / name)
    assert keeps(tmp_path / "there") and keeps(tmp_path / "not" / "yet")


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SetupError, match="nobody reads that pipe"):
        LogFile(tmp_path / "pipe").begin()


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
    path.touch(0o600)
    log = LogFile(path)
    with log.begin() as output:
        path.chmod(0o600)
        for size, left in ((10, 10), (91, 0), (5, 5)):
            output.write(b"x" * size)
            output.flush()
            log.bound(100)
            assert path.stat().st_size == left
        assert path.with_name("a.log.1").stat().st_size == 101
        assert path.with_name("a.log.1").stat().st_mode == path.stat().st_mode
        os.truncate(path, 0)  # as logrotate does
        output.write(b"end")
        output.flush()
        assert path.read_bytes() == log.tail() == b"end"
        path.with_name("a.log.1").unlink()
        path.with_name("a.log.1").mkdir()  # whatever stands in the way of a copy
        log.bound(0)
        assert path.read_bytes() == b""


def test_the_log_of_a_program_that_runs_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path)
    for text in (b"first", b"second"):  # it stays its own from one program to the next
        with log.begin() as output:
            output.write(text)
        with pytest.raises(SetupError, match=r"a\.log is the log of a program that runs: .* --log FILE"):
            LogFile(path)
        second, third = LogFile.beside(path), LogFile.beside(path)
        assert [second.path.name, third.path.name] == ["a-2.log", "a-3.log"]
        second.close()
        third.close()
    assert path.read_bytes() == b"second"
    log.close()
    log.close()
    again = LogFile.beside(path)
    assert again.path == path
    again.close()


def test_a_killed_process_holds_no_log(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    program = (
        f"from pathlib import Path; from scoremux_server.log_file import LogFile; log = LogFile(Path({str(path)!r}))"
    )
    command = [sys.executable, "-c", f"{program}; print('up', flush=True); input()"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout and other.stdin and other.stdout.readline() == b"up\n"
    with pytest.raises(SetupError, match="is the log of a program that runs"):
        LogFile(path)
    other.kill()
    other.communicate()
    LogFile(path).close()


def test_where_nothing_can_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"the log .* cannot be written: Is a directory; name another: --log"):
        LogFile(tmp_path).begin()


def test_a_folder_that_was_removed_is_made_again_and_the_log_stays_its_own(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.log"
    log = LogFile(path)
    log.begin().close()
    shutil.rmtree(path.parent)
    with log.begin() as output:
        output.write(b"again")
    assert path.read_bytes() == b"again"
    with pytest.raises(SetupError, match="is the log of a program that runs"):
        LogFile(path)
    log.close()
