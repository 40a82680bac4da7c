"""Rows leave files: an erasure takes the rows of some ids out of all that was written about them.

Each file is replaced as a whole, with its time of last change, and a second run finds nothing to do: a crash in the
middle is repaired by running the same erasure again.
"""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoremux_files.atomic import NEW, replace_file, replacing
from scoremux_files.errors import InputError, parsing, reading, writing
from scoremux_files.locks import lock_handle
from scoremux_files.rows.id_search import IdSearch
from scoremux_files.rows.readers import CHOSEN_BY, id_at_first
from scoremux_files.rows.writers import JOURNAL, done_note, without_apostrophe
from scoremux_files.settings import parse_object

_IDS = ("id", "userId", "spkitemid")  # of outputs and exports; of LTI scores; of RSMTool's input
_SHORT_NUMBER = 5
"""Digits of an id that is looked for in columns of ids alone, where a file has one: levels and counts look like it."""
_CSV_FIELD_BYTES = 1 << 30


@dataclass(frozen=True)
class Chosen:
    """Whose rows go.

    Attributes:
        ids: Ids all of whose rows go.
        places: Id → source and line of rows that go.
        tasks: Id → tasks of rows that go from files without source and line.
        last: Ids of `tasks` of which no row stays anywhere: rows without a task go, too.
    """

    ids: Collection[str] = ()
    places: Mapping[str, Collection[tuple[str, str]]] = field(default_factory=dict)
    tasks: Mapping[str, Collection[str]] = field(default_factory=dict)
    last: Collection[str] = ()

    def takes(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row goes: by its id, by its place where it says one, or by its task."""
        name = str(next((row[column] for column in _IDS if row.get(column) is not None), ""))
        if CHOSEN_BY in row and name not in self.ids:
            name = id_at_first(name)
        if not name or name in self.ids:
            return bool(name)
        if row.get("source") and row.get("line"):
            return (str(row["source"]), str(row["line"])) in self.places.get(name, ())
        if row.get("task"):
            return str(row["task"]).partition("@")[0] in self.tasks.get(name, ())
        return name in self.last


@dataclass
class Removal:
    """What left a place.

    Attributes:
        rows: How many rows.
        files: How many files they were in.
        named: Files that still hold an id, such as reports: somebody has to delete them.
    """

    rows: int = 0
    files: int = 0
    named: list[Path] = field(default_factory=list)


def remove_rows(place: Path, chosen: Chosen, before: float | None = None) -> Removal:
    """Remove rows from a file and what a job wrote beside it, or from all files under a folder.

    Args:
        place: The file or folder: what `scoremux score` or `scoremux review export` wrote. Symbolic links in a folder
            are named where what they point to holds an id, and nothing else is done with that.
        chosen: Whose rows go.
        before: All rows go from files that were changed last before this time, in seconds since the epoch.

    Raises:
        InputError: a file cannot be read or written, or a job is at work in the folder.
    """
    names = {*chosen.ids, *chosen.last} - {""}
    anywhere, among_numbers = IdSearch(names), IdSearch({name for name in names if not _is_short_number(name)})
    removal = Removal()
    files, links = _files_and_links(place.resolve() if place.is_symlink() else place)
    removal.named += [link for link in links if any(_holds(file, anywhere) for file in _files_behind(link))]
    with ExitStack() as locks:
        for file in files:
            if file.name == JOURNAL:
                locks.enter_context(_locked(file, timeout_s=0))
        for file in files:
            with _locked(file.parent):  # two erasures of one file must not undo each other
                number = _remove_from(file, chosen, before)
            search = anywhere if number is None else among_numbers
            if file.name != JOURNAL and file.exists() and _holds(file, search):
                removal.named.append(file)
            removal.rows += number or 0
            removal.files += bool(number)
    return removal


def _remove_from(file: Path, chosen: Chosen, before: float | None) -> int | None:
    """Return how many rows left a file; None where it has no ids of rows."""
    if file.name.startswith(NEW):
        file.unlink(missing_ok=True)  # of a writer that died; it may hold rows that go
        return None
    with reading(file):
        old = before is not None and file.stat().st_mtime < before
    remove = _REMOVERS.get(file.suffix.lower())
    if remove is None:
        return None
    number = remove(file, chosen, old)
    _mend_note(file)
    return number


def _files_and_links(place: Path) -> tuple[list[Path], list[Path]]:
    if not place.exists():
        raise InputError(f"{place} does not exist")
    beside = [path for path in place.parent.iterdir() if path.name.lstrip(".").startswith(f"{place.name}.")]
    places = [place] if place.is_dir() else [place, *sorted(beside)]
    paths = [file for path in places for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    links = [path for path in paths if path.is_symlink()]
    return [path for path in paths if path.is_file() and not path.is_symlink()], links


def _files_behind(link: Path) -> list[Path]:
    return [path for path in (link.resolve().rglob("*") if link.is_dir() else [link]) if path.is_file()]


def _is_short_number(name: str) -> bool:
    return name.isdecimal() and len(name) <= _SHORT_NUMBER


def _holds(file: Path, search: IdSearch) -> bool:
    """Return whether an id is in a file; the columns of a Parquet file are compressed, and floats are no ids."""
    if file.suffix.lower() != ".parquet":
        return search.in_file(file)
    with _parquet(file) as rows:
        columns = [column.name for column in rows.schema_arrow if not _is_float(column.type)]
        batches = (batch.to_pylist() for batch in rows.iter_batches(columns=columns))
        return search.in_blocks(
            "\n".join(str(cell) for row in batch for cell in row.values()) + "\n" for batch in batches
        )


def _is_float(kind: Any) -> bool:
    return bool(pa.types.is_floating(kind) or (pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)))


@contextmanager
def _locked(path: Path, timeout_s: float | None = None) -> Iterator[None]:
    """Lock a journal or a folder; None: wait for another erasure."""
    with writing(path):
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            lock_handle(handle, path, timeout_s)
        except BlockingIOError:
            os.close(handle)
            raise InputError(f"{path.parent}: another process is at work on this job; erase when it ends") from None
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    before = path.stat()
    with writing(path), replacing(path, stat.S_IMODE(before.st_mode)) as aside:
        yield aside
        os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with reading(path), pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise InputError(f"{path} cannot be read; delete it if it holds what is to be erased") from error


def _remove_parquet(path: Path, chosen: Chosen, old: bool) -> int | None:
    with _parquet(path) as file:
        names = [name for name in (*_IDS, "task", "source", "line", CHOSEN_BY) if name in file.schema_arrow.names]
        rows = (row for batch in file.iter_batches(columns=names) for row in batch.to_pylist())
        keeps = [not (old or chosen.takes(row)) for row in rows] if names else [not old] * file.metadata.num_rows
        if all(keeps):
            return None if set(_IDS).isdisjoint(names) else 0
        with _replacing(path) as aside, pq.ParquetWriter(aside, file.schema_arrow, compression="zstd") as writer:
            first = 0
            for batch in file.iter_batches():
                mask = pa.array(keeps[first : first + len(batch)])
                writer.write_batch(batch.filter(mask))
                first += len(batch)
    return keeps.count(False)


def _remove_jsonl(path: Path, chosen: Chosen, old: bool) -> int | None:
    has_ids = False

    def keeps(line: bytes) -> bool:
        nonlocal has_ids
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # no row of ours; it is searched for ids as a text
            return True
        if not isinstance(row, dict):
            return True
        has_ids = has_ids or not row.keys().isdisjoint(_IDS)
        return not (old or chosen.takes(row))

    if path.name == JOURNAL:
        return 0
    with reading(path), path.open("rb") as lines:
        removed = sum(not keeps(line) for line in lines)
    if removed:
        with path.open("rb") as lines, _replacing(path) as aside, aside.open("wb") as file:
            file.writelines(line for line in lines if keeps(line))
    return removed if removed or has_ids else None


def _remove_csv(path: Path, chosen: Chosen, old: bool) -> int | None:
    csv.field_size_limit(max(csv.field_size_limit(), _CSV_FIELD_BYTES))

    has_ids = False

    def records() -> Iterator[tuple[str, bool]]:
        nonlocal has_ids
        lines: list[str] = []
        with reading(path), path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(lines.append(line) or line for line in file)  # type: ignore[func-returns-value]
            header: list[str] | None = None
            for cells in reader:
                row = dict(zip(header or (), map(without_apostrophe, cells), strict=False))
                yield "".join(lines), header is None or not (old or chosen.takes(row))
                header = header or [name.lstrip("\ufeff") for name in cells]
                has_ids = not set(_IDS).isdisjoint(header)
                lines.clear()

    removed = sum(not keeps for _, keeps in records())
    if removed:
        with _replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(text for text, keeps in records() if keeps)
    return removed if removed or has_ids else None


_REMOVERS: dict[str, Callable[[Path, Chosen, bool], int | None]] = {
    ".parquet": _remove_parquet,
    ".jsonl": _remove_jsonl,
    ".csv": _remove_csv,
}


def _mend_note(path: Path) -> None:
    """Let the job that wrote a file know it again: its size has changed and its time has not, so an erasure did it."""
    note = done_note(path)
    if not note.exists():
        return
    with reading(note), parsing(f"{note} is damaged; delete it"):
        content, status = parse_object(note.read_bytes()), path.stat()
    if content.get("mtime_ns") == status.st_mtime_ns and content.get("size") != status.st_size:
        with writing(note):
            replace_file(note, [json.dumps({**content, "size": status.st_size}).encode()], mode=None)
