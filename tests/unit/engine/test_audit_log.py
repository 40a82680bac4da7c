"""The file under the audit log: whole lines or none, whatever dies, fills up or rotates."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rooms import mounted, root_only
from scoremux_engine.errors import AuditError
from scoremux_engine.triton import audit_log as audit_log
from scoremux_engine.triton.audit_log import AppendLog

START = b'{"format":1,"time":"2026-01-02T03:04:05.678901Z","digest":"'
LINE = START + b'sha256:0"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def written(path: Path) -> Iterator[AppendLog]:
    opened = AppendLog(path, 100)
    yield opened
    opened.close()


def test_log_is_its_owners_alone_and_goes_on_after_a_restart(path: Path) -> None:
    lines = [LINE, LINE.replace(b"0", b"1")]
    for line in lines:
        log = AppendLog(path, 1 << 20)
        log.write(line)
        log.close()
    assert path.read_bytes() == b"".join(lines)
    assert path.stat().st_mode & 0o777 == 0o600


def test_log_rotates_before_it_grows_too_large_and_deletes_nothing(written: AppendLog, path: Path) -> None:
    lines = [f"{number:039}\n".encode() for number in range(7)]
    for line in lines:
        written.write(line)
    rotated = sorted(file for file in path.parent.iterdir() if re.fullmatch(r"audit\.jsonl\.\d{8}T.*Z", file.name))
    assert [file.stat().st_size for file in (*rotated, path)] == [80, 80, 80, 40]
    assert b"".join(file.read_bytes() for file in (*rotated, path)) == b"".join(lines)


def test_a_file_that_was_moved_away_is_begun_anew(written: AppendLog, path: Path) -> None:
    written.write(b"one\n")
    path.rename(path.with_suffix(".old"))
    written.write(b"two\n")
    assert (path.with_suffix(".old").read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_a_line_that_was_cut_short_is_removed(path: Path) -> None:
    torn = [START[:length] for length in range(len(START) + 1)]
    torn += [LINE[:-1], START + b"y" * 200_000, START + b"\0" * 4096, START[:20] + b"\0" * 4096]
    for before in (b"", LINE, LINE * 2000):
        for part in torn:
            path.write_bytes(before + part)
            AppendLog(path, 1 << 20).close()
            assert path.read_bytes() == before
    path.write_bytes(LINE + b"\0" * 70_000)  # as a power cut leaves it
    AppendLog(path, 1 << 20).close()
    assert path.read_bytes() == LINE


@pytest.mark.parametrize(
    "content",
    [
        b"a thesis without a last newline",
        b"task,text\nt-1,yes\nt-2,no",
        b"task,text\nt-1,yes\n",
        b'{"a": [1, 2]}',
        b'{"time":"2026-01-02T03:04:05.678901Z","level":"INFO"}\n',  # another program's log
        b'{"format":1,"time":"yesterday',
        LINE.replace(b'"format":1,', b""),  # of an earlier version
        LINE.replace(b"1", b"2", 1),
        b"task,text\n" + START,
        LINE + b"a note",
        LINE + b"a note\n",
        LINE + b"x" * 200_000,
        b"\n" + START,
        b"\0" * 5000,
        b"x" * 200_000,
    ],
)
def test_a_file_that_is_no_audit_log_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(AuditError, match=r"audit\.jsonl cannot be opened: .*left as it is; name another file, or move"):
        AppendLog(path, 1)
    assert path.read_bytes() == content
    path.rename(path.with_suffix(".old"))
    AppendLog(path, 100).close()  # the lock was given back


def test_another_file_in_place_of_the_log_is_left_as_it_is(written: AppendLog, path: Path) -> None:
    written.write(LINE)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"a thesis")
    for _ in range(2):
        with pytest.raises(AuditError, match=rf"{audit_log.UNWRITABLE}: .*left as it is"):
            written.write(LINE)
    assert path.read_bytes() == b"a thesis"
    path.unlink()
    written.write(LINE)
    assert path.with_suffix(".old").read_bytes() == path.read_bytes() == LINE


def test_a_second_writer_is_refused(written: AppendLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "_LOCK_TIMEOUT_S", 0.2)
    with pytest.raises(AuditError, match=r"audit\.jsonl cannot be opened: process \d+ on \S+ has locked it"):
        AppendLog(path, 100)
    written.close()
    AppendLog(path, 100).close()


@pytest.mark.parametrize("place", ["no/such/folder/audit.jsonl", "."])
def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(AuditError, match="cannot be opened"):
        AppendLog(tmp_path / place, 100)


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(AuditError, match="cannot be opened"):
        AppendLog(path, 100)


@root_only
def test_a_full_disk_takes_whole_batches_or_none_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", 64 << 10):
        path = tmp_path / "small" / "audit.jsonl"
        log = AppendLog(path, 1 << 20)
        batch = b"x" * 9_999 + b"\n"
        taken = 0
        with pytest.raises(AuditError, match=rf"{audit_log.UNWRITABLE}: .*: No space left on device"):
            for _ in range(20):
                log.write(batch)
                taken += 1
        assert 3 <= taken < 7
        assert path.read_bytes() == batch * taken
        log.write(b"a short one still fits\n")
        with pytest.raises(AuditError):
            log.write(batch)
        path.rename(path.with_suffix(".old"))
        path.with_suffix(".old").unlink()
        log.write(batch)
        assert path.read_bytes() == batch
        log.close()


def test_written_lines_survive_kill_9_at_any_moment(path: Path) -> None:
    draw = random.Random(3)
    for _ in range(25):
        told, tells = os.pipe()
        child = os.fork()
        if child == 0:
            log = AppendLog(path, 20_000)
            for number in range(1_000_000):
                log.write(b"".join(b'%s%d:%d:%d"}\n' % (START, os.getpid(), number, r) for r in range(50)))
                os.write(tells, b".")
        os.close(tells)
        time.sleep(draw.uniform(0.01, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged = 0
        while got := os.read(told, 65536):
            acknowledged += len(got)
        os.close(told)
        AppendLog(path, 20_000).close()
        kept = b"".join(
            file.read_bytes() for file in sorted(path.parent.glob("audit.jsonl*")) if file.suffix != ".lock"
        )
        assert kept == b"" or kept.endswith(b"\n")
        lines = [line for line in kept.splitlines() if line.startswith(b"%s%d:" % (START, child))]
        assert len(lines) >= 50 * acknowledged
        assert all(line.endswith(b"}") for line in lines)
        for file in path.parent.iterdir():
            file.unlink()
