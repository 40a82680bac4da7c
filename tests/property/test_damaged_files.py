"""Files that scoremux reads again, cut, swapped and forged: each is read, or refused with a sentence."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from making import ROOT
from scoremux_batch.job import Job
from scoremux_batch.job_output import Output
from scoremux_batch.journal import Journal
from scoremux_batch.parts import read_rejected
from scoremux_batch.people import AlertFiles
from scoremux_batch.sources import expand
from scoremux_client.audit_lines import erase_digests
from scoremux_decide.decision import Decision
from scoremux_engine.model.backbone import BackboneSpec, read_spec
from scoremux_engine.scoring.in_flight import InFlight
from scoremux_engine.store.history import History
from scoremux_engine.store.store import Store
from scoremux_files.errors import ScoremuxError
from scoremux_files.rows.row_layout import RowLayout
from scoremux_server.front_door.access_tokens import AccessTokenFile

FORMATS = ROOT / "tests/upgrade/format-1"
MIXED = 40
ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    10**400,
    1e308,
    float("nan"),
    "",
    "x",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"a": None},
)
"""Values in place of a file's own."""


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return content that was cut, overwritten, or has other values than were written."""
    kind = draw.randrange(5)
    if kind == 0:
        return content[: draw.randrange(len(content))]
    if kind == 1:
        at = draw.randrange(len(content))
        return content[:at] + draw.randbytes(draw.randint(1, 8)) + content[at + draw.randint(0, 8) :]
    if kind == 2:
        return draw.choice((b"", b"\n", b"\0" * 100, b"[" * 100_000, b"9" * 5000, b"null", b"[]", b'"x"', b"\xff\xfe"))
    lines = [content] if content.lstrip()[:2] == b"{\n" or content.count(b"\n") < 2 else content.splitlines()
    place = draw.randrange(len(lines))
    value = json.loads(lines[place])
    for _ in range(draw.randint(1, 2)):
        _swap(value, draw)
    lines[place] = json.dumps(value).replace("1e+308", draw.choice(("1e308", "1e999"))).encode()
    return b"\n".join(lines) + b"\n"


def _swap(value: Any, draw: random.Random) -> None:
    while isinstance(value, (dict, list)) and value:
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        if draw.random() < 0.5 or not isinstance(value[key], (dict, list)) or not value[key]:
            if draw.random() < 0.2:
                del value[key]
            else:
                value[key] = draw.choice(ODD)
            return
        value = value[key]


def job_of(folder: Path) -> Job:
    return Job(expand([str(folder / "responses.jsonl")]), RowLayout(part_rows=10))


def journal(folder: Path) -> None:
    with Journal(folder / "scored", job_of(folder)):
        pass


def finished(folder: Path) -> None:
    assert Output(folder / "done.csv").finished(job_of(folder)) is not None


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "journal": ("job/scored/journal.jsonl", lambda path: journal(path.parents[1])),
    "note": ("job/.done.csv.done.json", lambda path: finished(path.parent)),
    "rejected": ("job/scored/rejected/part-000000.jsonl", lambda path: list(read_rejected(path.parents[1]))),
    "alerts": ("part-000000.jsonl", lambda path: AlertFiles(path.parent).add(0, {"source": "s", "line": 1})),
    "audit log": ("audit/audit.jsonl", lambda path: erase_digests(path, [f"sha256:{1:064}"])),
    "manifest": ("store/manifest.json", lambda path: Store(path.parent).manifest()),
    "pins": ("store/pins.json", lambda path: Store(path.parent).pins()),
    "history": ("store/history.jsonl", lambda path: History(path.parent).entries()),
    "backbone": ("backbone/backbone.json", lambda path: read_spec(BackboneSpec, path, "export")),
    "decision": ("decision.json", lambda path: Decision.parse(path.read_bytes(), "decision.json")),
    "tokens": ("tokens.json", lambda path: AccessTokenFile(path).read()),
    "deaths": ("deaths.json", lambda path: InFlight(path.parent, 1).deadly),
}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(FORMATS, tmp_path / "files")
    folder = tmp_path / "files"
    path, note = folder / "job" / "scored" / "journal.jsonl", folder / "job" / ".done.csv.done.json"
    parts = path.read_text().splitlines()[1:]
    job, written = job_of(folder / "job"), (folder / "job" / "done.csv").stat()
    job.sources[:] = [source.with_digest() for source in job.sources]
    path.write_text("".join(f"{line}\n" for line in (json.dumps(job.as_json()), *parts)))
    stamp = {"size": written.st_size, "mtime_ns": written.st_mtime_ns}
    note.write_text(json.dumps({**json.loads(note.read_text()), "job": job.as_json(), **stamp}))
    (decision,) = folder.glob("store/packages/*/decision.json")
    shutil.copy(decision, folder)
    AccessTokenFile(folder / "tokens.json").add("one", ["t-*"], 0, 1)
    (folder / "part-000000.jsonl").write_text('{"source": "s", "line": 1}\n{"source": "s", "line": 2}\n')
    (folder / "deaths.json").write_text(json.dumps({"unfinished": {"a": 1}, "deadly": {"b": 2.0}, "oom_kills": 0}))
    return folder


@pytest.mark.parametrize("name", READERS)
def test_damaged_file_is_read_or_refused_with_a_sentence(files: Path, name: str) -> None:
    place, read = READERS[name]
    path, draw, outcomes = files / place, random.Random(name), set()
    content = path.read_bytes()
    read(path)
    for number in range(MIXED):
        path.write_bytes(damaged(content, draw))
        try:
            read(path)
            outcomes.add("read")
        except ScoremuxError as error:
            assert str(error), number
            outcomes.add("refused")
    assert outcomes
