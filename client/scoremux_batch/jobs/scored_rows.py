"""Scored rows with the texts of their responses, which `scoremux score` does not write: they are read from its sources.

Columns have the names that the job was given; its journal, or the note beside its file, has them.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple

from scoremux_batch.people import ALERTS
from scoremux_files.errors import InputError, parsing, reading
from scoremux_files.rows.readers import cell_text, read_records, read_rows
from scoremux_files.rows.row_layout import Json, Record, Row, RowLayout, column_names, list_columns
from scoremux_files.rows.writers import JOURNAL, beside_parts, check_kept, done_note, without_apostrophe

ADMINISTRATION = "administration"
"""A column of scored rows that tells apart responses of one id."""

_NEEDED = {"id", "task", "status", "level"}
_AS_WRITTEN = ("text", "source")
"""Columns of a CSV file whose cells have no apostrophe before a formula."""

_LAYOUT = [field.name for field in fields(RowLayout)]


class Origin(NamedTuple):
    """Where a response is, its text, who wrote it (empty: not known), and the columns that its job kept.

    Attributes:
        administration: None where the job kept no column of this name.
        kept: Further columns, as JSON.
    """

    source: str
    line: int
    text: str
    student: str
    administration: str | None = None
    kept: str = ""


def scored_rows(
    path: Path, responses: Sequence[Path] = (), columns: Sequence[str] | None = None
) -> Iterator[tuple[Row, Origin]]:
    """Yield the rows that `scoremux score` wrote, a folder of parts or one file, with the responses that they are of.

    Args:
        responses: The files that were scored, which scored files without source and line need.
        columns: Names of columns as `--column KEY=NAME` gives them, which count before those of the job.

    Raises:
        InputError: names file and row.
    """
    names = column_names(columns, path, id=None, text=None, student=None, keep=())
    texts = _Texts(responses, _layout_of(path, names))
    is_csv = path.suffix.lower() == ".csv"
    for number, cells in enumerate(read_rows(path), start=1):
        row = {**cells, **_without_apostrophes(cells)} if is_csv else cells
        foreign = f"{path}, row {number}: not what `scoremux score` writes"
        if not row.keys() >= _NEEDED:
            raise InputError(f"{foreign}; id, task, status, level needed")
        with parsing(f"{foreign}; a numeric column has no number"):
            origin = texts.of(path, number, row)
        yield row, origin


def _without_apostrophes(cells: Row) -> Row:
    """Return the cells of a CSV file as they were before formulas got an apostrophe, but for the text and its place."""
    return {name: without_apostrophe(cell) for name, cell in cells.items() if name not in _AS_WRITTEN}


def alerts_of(path: Path) -> Iterator[Json]:
    """Yield the alerts that `scoremux score --alert` wrote beside its output. Raises InputError."""
    folder = beside_parts(path, ALERTS) if path.is_dir() else path.with_name(f"{path.name}.{ALERTS}")
    for file in sorted(folder.glob("part-*.jsonl")):
        for number, alert in enumerate(read_rows(file), start=1):
            if not alert.keys() >= {"source", "line", "id", "alert_task"}:
                raise InputError(f"{file}, line {number}: not an alert that `scoremux score` wrote")
            yield alert


def texts_of(files: Sequence[Path], ids: Collection[str]) -> set[str]:
    """Return the texts that files of responses have for some ids. Raises InputError."""
    found = (record.values.get("text") for _, name, record in _named_records(files, RowLayout()) if name in ids)
    return {text for text in found if isinstance(text, str)}


def _layout_of(scored: Path, names: Mapping[str, str]) -> RowLayout:
    """Return how the job that wrote a folder of parts, or one file, read its rows. Raises InputError."""
    layout = Json()
    note = beside_parts(scored, JOURNAL) if scored.is_dir() else done_note(scored)
    if note.is_file():
        with reading(note), parsing(f"{note} is damaged"), note.open(encoding="utf-8") as file:
            content = json.loads(file.readline())
            layout = content["layout"] if scored.is_dir() else content["job"]["layout"]
    given = {name: column for name, column in names.items() if column}
    chosen = RowLayout(**{name: value for name, value in layout.items() if name in _LAYOUT} | given)
    check_kept(chosen.keep or (), chosen.text)
    return replace(chosen, task=chosen.text)  # the task is in the scored row


def _named_records(files: Sequence[Path], layout: RowLayout) -> Iterator[tuple[Path, str, Record]]:
    """Yield the records of files of responses with their ids, which are their numbers where there are none."""
    for path in files:
        for number, record in enumerate(read_records(path, layout), start=1):
            name = record.values.get(layout.id)
            yield path, str(number if name in (None, "") else name), record


class _Texts:
    """Finds texts by source and line, as the parts of a job have them, or by id in files of responses."""

    def __init__(self, responses: Sequence[Path], layout: RowLayout) -> None:
        self._layout, self._keep = replace(layout, keep=None), layout.keep or ()
        self._by_id: dict[str, Origin] = {}
        self._source = ""
        self._records: Iterator[Record] = iter(())
        self._last: Record | None = None
        for path, name, record in _named_records(responses, self._layout):
            if name in self._by_id:
                raise InputError(f"{path}, line {record.line}: id {name!r} is given twice")
            self._by_id[name] = self._origin(path, record)

    def of(self, path: Path, number: int, row: Row) -> Origin:
        """Return the origin of a scored row. Its own student counts before the response's."""

        def cell(column: str) -> str:
            return cell_text(row.get(column)) or ""

        if missing := [column for column in self._keep if column not in row]:
            raise InputError(f"{path}, row {number}: no column {missing[0]} (its columns: {list_columns(list(row))})")
        kept = {column: cell(column) or None for column in self._keep if column != ADMINISTRATION}
        student = cell(self._layout.student if self._layout.student in row else "student")
        origin = self._find(path, number, row)
        return origin._replace(
            student=student or origin.student,
            administration=cell(ADMINISTRATION) if ADMINISTRATION in row else None,
            kept=json.dumps(kept, ensure_ascii=False) if kept else "",
        )

    def _find(self, path: Path, number: int, row: Row) -> Origin:
        name, source, line = str(row["id"]), row.get("source"), row.get("line")
        if isinstance(row.get("text"), str):
            return Origin(str(source or path), int(line or number), row["text"], "")
        if self._by_id:
            if name not in self._by_id:
                raise InputError(f"{path}, row {number}: id {name!r} is not in the files of responses")
            return self._by_id[name]
        if not source or not line:
            raise InputError(
                f"{path} has no texts, and does not say where they are: give `scoremux review add` --responses FILE"
            )
        return self._origin(Path(source), self._at(str(source), int(line)))

    def _at(self, source: str, line: int) -> Record:
        # Parts have their rows in the order of the source, so one pass over it is enough.
        if source != self._source or (self._last and (self._last.line or 0) > line):
            self._source, self._last = source, None
            self._records = read_records(Path(source), self._layout)
        while self._last is None or (self._last.line or 0) < line:
            self._last = next(self._records, None)
            if self._last is None:
                break
            if self._last.line is None:
                raise InputError(f"{source}: {self._last.reason}")
        if self._last is None or self._last.line != line:
            raise InputError(f"{source} has no row in line {line}; it has changed since it was scored")
        return self._last

    def _origin(self, path: Path, record: Record) -> Origin:
        values, where = record.values, f"{path}, line {record.line}"
        student, text = self._layout.student, values.get(self._layout.text)
        if not isinstance(text, (str, bytes)):
            missing = f"no column {self._layout.text}; name it: --column text=NAME"
            raise InputError(f"{where}: {record.reason or missing}")
        if student and student not in values:
            raise InputError(
                f"{where}: no column {student} (its columns: {list_columns(list(values))}); name it "
                "with --column student=NAME of `scoremux review add`"
            )
        writer = cell_text(values[student]) if student else None
        whole = text if isinstance(text, str) else text.decode(errors="replace")
        return Origin(str(path), record.line or 0, whole, writer or "")
