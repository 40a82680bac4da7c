"""Reading files of rows: by file suffix, one record after the other."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TypeVar

from scoremux_files.errors import InputError, reading
from scoremux_files.rows.parquet import read_parquet
from scoremux_files.rows.row_layout import (
    BY_FILE,
    FILE_START,
    ReadPosition,
    Record,
    Row,
    RowLayout,
    column_of,
    list_columns,
)
from scoremux_files.rows.text_files import read_csv, read_jsonl, refuse_foreign
from scoremux_files.rows.writers import without_apostrophe

Item = TypeVar("Item")

CHOSEN_BY = "chosen_by"
"""A column of what the review desk exports, and of its queues."""

MACHINE_COLUMNS = "version", "arithmetic", "decided_by", "machine_level"
"""A file with the first two (of `score` and `sample`) or the last two (final scores) has the machine's `level`."""

_NUMBERED = re.compile(r" \(\d+\)$")

READERS: dict[str, Callable[[Path, RowLayout, ReadPosition], Iterator[Record]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def read_rows(path: Path, id_column: str = "id", text_column: str = "text") -> Iterator[Row]:
    """Yield the rows of a .jsonl, .csv or .parquet file, or of the folder that a job wrote, with all their columns.

    Args:
        id_column: Name of the column of ids, see `BY_FILE`.
        text_column: Name of the column of texts, where null is a blank text.

    Raises:
        InputError: a row cannot be read; names file and line.
    """
    for file in files_of(path):
        for record in read_records(file, RowLayout(id_column, text=text_column, every_column=True)):
            if record.reason:
                where = file if record.line is None else f"{file}, line {record.line}"
                raise InputError(f"{where}: {record.reason}")
            yield record.values


def read_records(file: Path, layout: RowLayout, start: ReadPosition = FILE_START) -> Iterator[Record]:
    """Yield the records of a file of rows, those that are wrong with a reason. A null text is blank.

    Raises InputError where the file cannot be read, or has another suffix.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        what = (
            f"rows are read from {', '.join(READERS)} files" if file.exists() else "the file or folder does not exist"
        )
        raise InputError(f"{file}: {what}")
    if reader is not read_parquet and start == FILE_START:
        refuse_foreign(file)
    with reading(file):
        for record in reader(file, layout, start):
            if record.values.get(layout.text, "") is None:
                record.values[layout.text] = ""
            if reader is read_csv and CHOSEN_BY in record.values:  # of the desk, which writes safe cells
                record.values.update({name: without_apostrophe(cell) for name, cell in record.values.items()})
            if layout.id.startswith(BY_FILE) and record.values:
                name, start_of_id = record.values.get(column_of(layout.id)), id_start(file, layout.id, record.values)
                record.values[layout.id] = name if name in (None, "") else f"{start_of_id}{name}"
            yield record


def id_start(file: Path, id_column: str, columns: Container[str]) -> str:
    """Return what the ids of a file's rows begin with: its name, see `BY_FILE`; rows of the desk have it already."""
    return f"{file.name}:" if id_column.startswith(BY_FILE) and CHOSEN_BY not in columns else ""


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items by the list, `size` at a time; the last list may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def files_of(path: Path) -> list[Path]:
    """Return the files of rows that a path stands for: itself, or the parts in the folder that a job wrote."""
    return sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]


def desk_row(row: Row, names: Mapping[str, str | None]) -> Row:
    """Return a row that the review desk exported with the names of columns that other files have; others as they are.

    Args:
        row: Its columns.
        names: Our name of a column → the name that was given.
    """
    if CHOSEN_BY not in row:
        return row
    more = {name: row[ours] for ours, name in names.items() if name and name not in row and ours in row}
    return {**row, **more} if more else row


def refuse_machine_levels(path: Path, names: Iterable[str], level: str) -> None:
    """Raise InputError where the column of people's levels is the machine's, of `score`, `sample` or final scores.

    Args:
        path: The file.
        names: Its columns.
        level: The name that was given for that of people's levels.
    """
    columns = {*names}
    of_machine = any({*pair} <= columns for pair in (MACHINE_COLUMNS[:2], MACHINE_COLUMNS[2:]))
    if of_machine and (level == "level" or level not in columns):
        raise InputError(
            f"{path}: its column level has the machine's levels. The desk's --labelled export has those of people; "
            "if another column of this file has them, name it with --column level=NAME"
        )


def text_cell(path: Path, number: int, row: Row, column: str) -> str:
    """Return the cell of a row that must be text. Raises InputError naming file and row."""
    text = row.get(column)
    if not isinstance(text, str):
        columns = list_columns(list(row))
        raise InputError(f"{path}, row {number}: no {column}; rows need this column (their columns: {columns})")
    return text


def student_of(value: object) -> str | None:
    """Return who wrote a response, as a cell says it: numbers as text, 7.0 like 7; None for an empty cell or NaN."""
    if isinstance(value, float) and (value.is_integer() or math.isnan(value)):  # pandas makes floats of ints with nulls
        value = None if math.isnan(value) else int(value)
    return None if value in (None, "") else str(value)


def same_text(text: str) -> str:
    """Return what equal texts have in common: white space at the ends and its kind do not tell them apart."""
    return " ".join(text.split())


def decision_of(row: Row) -> str | None:
    """Return what tells a decision of the review desk from all others, None for rows of other files."""
    number, at = student_of(row.get("decision")) or "", row.get("decided_at")
    return f"{number} {at}" if CHOSEN_BY in row and at and number.isdecimal() else None


def id_at_first(id_: str) -> str:
    """Return the id that the review desk exported before other responses came that have it too: `7` for `7 (1)`."""
    return _NUMBERED.sub("", id_)


def text_check(text: str) -> str:
    """Return 32 bits of the digest of `same_text`: they differ between rows of one id that are not one response."""
    return hashlib.sha256(same_text(text).encode("utf-8", "replace")).hexdigest()[:8]


def repeated_ids_remedy(files: int) -> str:
    """Return what to do about an id that is given twice, where there are several files."""
    remedy = f", with another text or level; --column id={BY_FILE}id names rows by file and id, in every command"
    return f"{remedy}, where ids are unique within a file only" if files > 1 else ""


def whole_number(path: Path, row: int, value: object) -> int:
    """Return a level that may come as text or as a float. Raises InputError naming file and row."""
    try:
        number = float(value)  # type: ignore[arg-type]
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path}, row {row}: level is not a whole number")
