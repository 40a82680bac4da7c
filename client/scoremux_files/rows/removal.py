"""Rows leave files: an erasure takes the rows of some ids out of all that was written about them.

Each file is replaced as a whole, with its time of last change, and a second run finds nothing to do: a crash in the
middle is repaired by running the same erasure again.
"""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoremux_files.atomic import NEW, replace_file, replacing
from scoremux_files.errors import InputError, reading, writing
from scoremux_files.locks import lock_handle
from scoremux_files.rows.writers import JOURNAL, done_note, without_apostrophe
from scoremux_files.settings import parse_object

Chosen = Mapping[str, Collection[str]]
"""Id → the tasks whose rows go; all of them if there are none."""

_IDS = ("id", "userId")  # of outputs and exports; of LTI scores
_CSV_FIELD_BYTES = 1 << 30


@dataclass
class Removal:
    """What left a place.

    Attributes:
        rows: How many rows.
        files: How many files they were in.
        named: Files that hold an id and are no rows, such as reports: somebody has to delete them.
    """

    rows: int = 0
    files: int = 0
    named: list[Path] = field(default_factory=list)


def remove_rows(place: Path, chosen: Chosen, before: float | None = None) -> Removal:
    """Remove rows from a file and what a job wrote beside it, or from all files under a folder.

    Args:
        place: The file or folder: what `scoremux score` or `scoremux review export` wrote.
        chosen: Whose rows go.
        before: All rows go from files that were changed last before this time, in seconds since the epoch.

    Raises:
        InputError: a file cannot be read or written, or a job is at work in the folder.
    """
    removal, words = Removal(), _any_of(chosen)
    files = _files_under(place)
    with ExitStack() as locks:
        for file in files:
            if file.name == JOURNAL:
                locks.enter_context(_locked(file))
        for file in files:
            if file.name.startswith(NEW):
                file.unlink(missing_ok=True)  # of a writer that died; it may hold rows that go
                continue
            remove = _REMOVERS.get(file.suffix.lower())
            with reading(file):
                old = before is not None and file.stat().st_mtime < before
            number = remove(file, chosen, old) if remove else 0
            if remove is not None:
                _mend_note(file)
            elif words and words.search(file.read_bytes()):
                removal.named.append(file)
            removal.rows += number
            removal.files += number > 0
    return removal


def _files_under(place: Path) -> list[Path]:
    if not place.exists():
        raise InputError(f"{place} does not exist")
    beside = [path for path in place.parent.iterdir() if path.name.lstrip(".").startswith(f"{place.name}.")]
    places = [place] if place.is_dir() else [place, *sorted(beside)]
    files = [file for path in places for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _any_of(chosen: Chosen) -> re.Pattern[bytes] | None:
    """Return a pattern of the ids as whole words."""
    ids = b"|".join(re.escape(name.encode("utf-8", "replace")) for name in chosen)
    return re.compile(rb"(?<![\w-])(?:" + ids + rb")(?![\w-])") if ids else None


@contextmanager
def _locked(journal: Path) -> Iterator[None]:
    with writing(journal):
        handle = os.open(journal, os.O_RDWR)
        try:
            lock_handle(handle, journal, timeout_s=0)
        except BlockingIOError:
            os.close(handle)
            raise InputError(f"{journal.parent}: another process is at work on this job; erase when it ends") from None
    try:
        yield
    finally:
        os.close(handle)


def _goes(chosen: Chosen, row: Mapping[str, Any]) -> bool:
    """Return whether a row goes: by its id, and by its task where it says one."""
    name = next((row[column] for column in _IDS if row.get(column) is not None), None)
    tasks = chosen.get(str(name)) if name is not None else None
    task = row.get("task")
    return tasks is not None and (not tasks or task is None or str(task).partition("@")[0] in tasks)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    before = path.stat()
    with writing(path), replacing(path, stat.S_IMODE(before.st_mode)) as aside:
        yield aside
        os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))


def _remove_parquet(path: Path, chosen: Chosen, old: bool) -> int:
    try:
        with pq.ParquetFile(path) as file:
            names = [name for name in (*_IDS, "task") if name in file.schema_arrow.names]
            rows = [row for batch in file.iter_batches(columns=names) for row in batch.to_pylist()] if names else []
            keeps = [not (old or _goes(chosen, row)) for row in rows] or [not old] * file.metadata.num_rows
            if all(keeps):
                return 0
            with _replacing(path) as aside, pq.ParquetWriter(aside, file.schema_arrow, compression="zstd") as writer:
                first = 0
                for batch in file.iter_batches():
                    mask = pa.array(keeps[first : first + len(batch)])
                    writer.write_batch(batch.filter(mask))
                    first += len(batch)
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read; delete it if it holds what is to be erased") from error
    return keeps.count(False)


def _remove_jsonl(path: Path, chosen: Chosen, old: bool) -> int:
    def keeps(line: bytes) -> bool:
        try:
            row = json.loads(line)
        except ValueError:
            return True
        return not isinstance(row, dict) or not (old or _goes(chosen, row))

    if path.name == JOURNAL:
        return 0
    with reading(path), path.open("rb") as lines:
        removed = sum(not keeps(line) for line in lines)
    if removed:
        with path.open("rb") as lines, _replacing(path) as aside, aside.open("wb") as file:
            file.writelines(line for line in lines if keeps(line))
    return removed


def _remove_csv(path: Path, chosen: Chosen, old: bool) -> int:
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_BYTES))

    def records() -> Iterator[tuple[str, bool]]:
        lines: list[str] = []
        with reading(path), path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(lines.append(line) or line for line in file)  # type: ignore[func-returns-value]
            header: list[str] | None = None
            for cells in reader:
                row = dict(zip(header or (), map(without_apostrophe, cells), strict=False))
                yield "".join(lines), header is None or not (old or _goes(chosen, row))
                header = header or [name.lstrip("\ufeff") for name in cells]
                lines.clear()

    removed = sum(not keeps for _, keeps in records())
    if removed:
        with _replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(text for text, keeps in records() if keeps)
    return removed


_REMOVERS: dict[str, Callable[[Path, Chosen, bool], int]] = {
    ".parquet": _remove_parquet,
    ".jsonl": _remove_jsonl,
    ".csv": _remove_csv,
}


def _mend_note(path: Path) -> None:
    """Let the job that wrote a file know it again: its size has changed and its time has not, so an erasure did it."""
    note = done_note(path)
    if not note.exists():
        return
    with reading(note):
        content, status = parse_object(note.read_bytes()), path.stat()
    if content.get("mtime_ns") == status.st_mtime_ns and content.get("size") != status.st_size:
        with writing(note):
            replace_file(note, [json.dumps({**content, "size": status.st_size}).encode()], mode=None)
