"""The audit log of a real engine: a line a row, what it says, and what it never says."""

import hashlib
import hmac
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faults import mounted, root_only
from making import ROOT, make_adapter
from scoremux_client.audit_lines import beginning, begins_one, erase_digests, read_log, text_digest
from scoremux_engine.backend import audit_log as audit_log
from scoremux_engine.backend.audit import Audit
from scoremux_engine.backend.audit_log import AppendLog
from scoremux_engine.backend.metrics import FirstLabels, Recorder
from scoremux_engine.engine import Engine
from scoremux_engine.errors import AuditError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.store.store import Store

KEY = b"a key that nobody guesses"
SECRET = "zzyzx what a student wrote"
PROVENANCE = Provenance("0.1.0", "onnxruntime", "cpu", "float32", "b" * 64, "onnxruntime-avx2-f32")


class Audited:
    """An engine with its audit log at `path`."""

    def __init__(self, repository: Path, path: Path, key_file: Path | None = None) -> None:
        self.path, self.recorder = path, Recorder(FirstLabels(100))
        audit = Audit(path, PROVENANCE, self.recorder, key_file=key_file)
        self.close = audit.close
        backbone = Backbone.open(repository / "backbone" / "1")
        runner = OnnxRuntimeRunner(backbone)
        self.engine = Engine(backbone, Store(repository / "store"), runner, observers=[audit, self.recorder])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def counted(self) -> dict[str, int]:
        added = dict(self.recorder.take())
        return {metric.name: count for (metric, labels), count in added.items() if not labels}


def test_every_row_has_a_line_that_says_what_scored_it(small_repository: Path, tmp_path: Path) -> None:
    audited = Audited(small_repository, tmp_path / "audit.jsonl")
    texts = ["the router", "", SECRET, SECRET, b"\xff", "the " * 400]
    tasks = ["t-1", "t-4", "no-such-task", SECRET, "t-2", "t-3"]
    scored = audited.engine.score(texts, tasks)
    lines = audited.lines()
    assert [line["status"] for line in lines] == [str(s.status) for s in scored]
    assert [line["task"] for line in lines] == ["t-1", "t-4", None, None, "t-2", "t-3"]
    assert [line["version"] or "" for line in lines] == [s.version for s in scored]
    for line, outcome, text in zip(lines, scored, texts, strict=True):
        raw = text if isinstance(text, bytes) else text.encode()
        assert line["digest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert line["level"] == (outcome.level if outcome.ok else None)
        assert (line["condition"], line["route"], line["confidence"]) == ("", outcome.route, outcome.confidence)
        kept = np.array(line["probabilities"] or [], dtype=np.float32)
        assert kept.tobytes() == np.array(outcome.probabilities, dtype=np.float32).tobytes()  # bit for bit
        assert (line["precision"], line["runner"], line["engine"]) == ("float32", "onnxruntime", "0.1.0")
        assert line["backbone"] == "b" * 64
        assert line["time"].endswith("Z")
        age = datetime.now(timezone.utc) - datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert abs(age) < timedelta(minutes=10)
    assert "zzyzx" not in audited.path.read_text()
    assert all(begins_one(line) for line in audited.path.read_bytes().splitlines())
    audited.close()
    assert not any(line.fault for line in read_log(audited.path))
    Audited(small_repository, audited.path).close()  # known again as an audit log


def test_a_total_is_logged_without_probabilities(own_repository: Path, backbone: Backbone, tmp_path: Path) -> None:
    traits = {"a": {"levels": [0, 1]}, "b": {"levels": [0, 1, 2]}}
    described = {"levels": None, "traits": traits, "total": {"sum": ["a", "b"]}}
    Store(own_repository / "store").add(
        [make_adapter(tmp_path / "e", backbone.spec, "e", task_json=described)], backbone
    )
    audited = Audited(own_repository, tmp_path / "audit.jsonl")
    audited.engine.score(["the router"] * 2, ["e.a", "e.total"])
    assert [len(line["probabilities"]) for line in audited.lines()] == [2, 0]


def test_with_a_key_nobody_can_guess_a_text_from_its_digest(small_repository: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    audited = Audited(small_repository, tmp_path / "audit.jsonl", tmp_path / "key")
    audited.engine.score(["yes"], ["t-1"])
    assert audited.lines()[0]["digest"] == f"hmac-sha256:{hmac.new(KEY, b'yes', 'sha256').hexdigest()}"


def test_log_of_format_1_is_continued(small_repository: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/upgrade/format-1/audit/audit.jsonl", tmp_path)
    audited = Audited(small_repository, tmp_path / "audit.jsonl")
    before = audited.lines()
    audited.engine.score(["the router"], ["t-1"])
    *old, new = audited.lines()
    assert (old, len(old)) == (before, 4)
    assert new["digest"] == old[0]["digest"]
    later = ("arithmetic", "salt", "number", "previous")
    assert [key for key in new if key not in later] == list(old[0])
    audited.close()
    assert not any(line.fault for line in read_log(audited.path))


@pytest.mark.parametrize("space", [b"\n", b" \t", b"\r\n\n"])
@pytest.mark.parametrize("key", [KEY, "ключ, 16 bytes and more".encode(), b"\xff\x80" * 8])
def test_white_space_is_no_part_of_the_key(tmp_path: Path, key: bytes, space: bytes) -> None:
    (tmp_path / "key").write_bytes(space + key + space)
    audit = Audit(tmp_path / "log", PROVENANCE, Recorder(FirstLabels(1)), key_file=tmp_path / "key")
    assert audit._key == key
    audit.close()
    (tmp_path / "key").write_bytes(b"fifteen bytes.." + space)
    with pytest.raises(AuditError, match="key has 15 bytes; it takes 16 at least"):
        Audit(tmp_path / "log", PROVENANCE, Recorder(FirstLabels(1)), key_file=tmp_path / "key")
    with pytest.raises(AuditError, match="/nowhere cannot be read"):
        Audit(tmp_path / "log", PROVENANCE, Recorder(FirstLabels(1)), key_file=Path("/nowhere"))


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


def test_log_is_its_owners_alone_and_goes_on_after_a_restart_or_a_line_cut_short(path: Path) -> None:
    lines = [LINE, LINE.replace(b"0", b"1")]
    for line in lines:
        log = AppendLog(path, 1 << 20)
        log.write(line)
        log.close()
    assert path.read_bytes() == b"".join(lines)
    assert path.stat().st_mode & 0o777 == 0o600
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


def add(path: Path, *words: str, rotate_bytes: int = 1 << 20) -> None:
    """Log a line for each word, as a process of its own does, each in a write."""
    log = AppendLog(path, rotate_bytes)
    for word in words:
        log.add([{**beginning(datetime.now(timezone.utc), text_digest(word.encode(), None)), "level": 1}])
    log.close()


def faults(path: Path) -> list[tuple[str, str]]:
    """Return file and line of each line that does not follow the one before, and why."""
    return [(line.place.removeprefix(f"{path.parent}/"), line.fault) for line in read_log(path) if line.fault]


def test_chain_holds_through_restarts_rotation_erasure_and_a_death_and_names_what_was_changed(path: Path) -> None:
    add(path, *"abc")
    with path.open("ab") as file:
        file.write(START + b"sha256:00")  # killed while it wrote a line
    add(path, *"defgh", rotate_bytes=700)
    assert len([*path.parent.glob("*Z")]) == 3
    assert erase_digests(path, [text_digest(word, None) for word in (b"b", b"d", b"h")]) == 3
    assert erase_digests(path, [text_digest(b"b", None)]) == 0
    add(path, "i")
    numbers = [line.values["number"] for line in read_log(path)]
    assert (numbers, faults(path)) == ([0, 1, 2, 0, 1, 2, 3, 4, 0], [])
    first, *_ = sorted(path.parent.glob("*Z"))
    whole = first.read_bytes()
    a, b, c = whole.splitlines(keepends=True)
    other = text_digest(b"x", None).encode()
    changed = {
        "lines before it are missing: 1": ([a, c], 2),
        "lines before it were changed or removed": ([a, b.replace(b'"level":1', b'"level":2'), c], 3),
        "lines before it were changed": ([a.replace(text_digest(b"a", None).encode(), other), b, c], 2),
        "it has no number": ([a, LINE, b, c], 2),
    }
    for why, (lines, place) in changed.items():
        first.write_bytes(b"".join(lines))
        (where, fault), *_ = faults(path)
        assert where == f"{first.name}, line {place}" and why in fault
    first.write_bytes(whole)
    rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(rest[-1])
    assert faults(path)[0][0] == f"{path.name}, line 1", "the last lines of a process are missed by the next one"
    first.unlink()
    assert len(faults(path)) == 1, "old files may go"


def test_log_rotates_deletes_nothing_and_leaves_another_file_as_it_is(written: AppendLog, path: Path) -> None:
    lines = [f"{number:039}\n".encode() for number in range(7)]
    for line in lines:
        written.write(line)
    rotated = sorted(file for file in path.parent.iterdir() if re.fullmatch(r"audit\.jsonl\.\d{8}T.*Z", file.name))
    assert [file.stat().st_size for file in (*rotated, path)] == [80, 80, 80, 40]
    assert b"".join(file.read_bytes() for file in (*rotated, path)) == b"".join(lines)
    written.write(LINE)
    path.rename(path.with_suffix(".old"))
    path.write_bytes(b"a thesis")
    for _ in range(2):
        with pytest.raises(AuditError, match=rf"{audit_log.UNWRITABLE}: .*left as it is"):
            written.write(LINE)
    assert path.read_bytes() == b"a thesis"
    path.unlink()  # a log that was moved away is begun again
    written.write(LINE)
    assert path.with_suffix(".old").read_bytes() == path.read_bytes() == LINE


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
    with pytest.raises(AuditError, match=r"audit\.jsonl cannot be opened: .*left as it is"):
        AppendLog(path, 1)
    assert path.read_bytes() == content
    path.rename(path.with_suffix(".old"))
    AppendLog(path, 100).close()  # the lock was given back


def test_a_second_writer_is_refused(written: AppendLog, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "_LOCK_TIMEOUT_S", 0.2)
    with pytest.raises(AuditError, match=r"audit\.jsonl cannot be opened: process \d+ on \S+ has locked it"):
        AppendLog(path, 100)
    written.close()
    AppendLog(path, 100).close()


@pytest.mark.parametrize("place", ["no/such/folder/audit.jsonl", ".", "link"])
def test_a_place_where_no_file_can_be_or_a_link_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="cannot be opened"):
        AppendLog(tmp_path / place, 100)


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
