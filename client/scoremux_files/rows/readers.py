"""Reading files of rows: by file suffix, one record after the other."""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from scoremux_files.errors import InputError, reading
from scoremux_files.rows.parquet import read_parquet
from scoremux_files.rows.row_layout import FILE_START, ReadPosition, Record, Row, RowLayout, list_columns
from scoremux_files.rows.text_files import read_csv, read_jsonl, refuse_foreign
from scoremux_files.rows.writers import without_apostrophe

Item = TypeVar("Item")

CHOSEN_BY = "chosen_by"
"""A column of what the review desk exports, and of its queues."""

_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods")
READERS: dict[str, Callable[[Path, RowLayout, ReadPosition], Iterator[Record]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}


def read_rows(path: Path, id_column: str = "id", text_column: str = "text") -> Iterator[Row]:
    """Yield the rows of a .jsonl, .csv or .parquet file, or of the folder that a job wrote, with all their columns.

    Args:
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


def not_read(file: Path) -> str:
    """Return why a file of this suffix is not read, and what to do."""
    if file.suffix.lower() in _WORKBOOKS:
        return "a workbook is not read: in Excel, File > Save As > CSV UTF-8 writes the sheet as .csv"
    return f"rows are read from {', '.join(READERS)} files"


def read_records(file: Path, layout: RowLayout, start: ReadPosition = FILE_START) -> Iterator[Record]:
    """Yield the records of a file of rows, those that are wrong with a reason. A null text is blank.

    Raises InputError where the file cannot be read, or has another suffix.
    """
    reader = READERS.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file}: {not_read(file) if file.exists() else 'it does not exist'}")
    if reader is not read_parquet and start == FILE_START:
        refuse_foreign(file)
    with reading(file):
        for record in reader(file, layout, start):
            if record.values.get(layout.text, "") is None:
                record.values[layout.text] = ""
            if reader is read_csv and CHOSEN_BY in record.values:  # of the desk, which writes safe cells
                record.values.update({name: without_apostrophe(cell) for name, cell in record.values.items()})
            yield record


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items by the list, `size` at a time; the last list may be shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def files_of(path: Path) -> list[Path]:
    """Return the files of rows that a path stands for: itself, or the parts in the folder that a job wrote.

    Raises InputError for a folder without parts, whose files were not meant to be left out.
    """
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} has no part-*.parquet: name files, or a folder that `scoremux score` wrote")
    return files


def text_cell(path: Path, number: int, row: Row, column: str) -> str:
    """Return the cell of a row that must be text. Raises InputError naming file and row."""
    text = row.get(column)
    if not isinstance(text, str):
        columns = list_columns(list(row))
        raise InputError(f"{path}, row {number}: no {column}; rows need this column (their columns: {columns})")
    return text


def cell_text(value: object) -> str | None:
    """Return who wrote a response, as a cell says it: numbers as text, 7.0 like 7; None for an empty cell or NaN."""
    if type(value) is str:
        return value or None
    if isinstance(value, float) and (value.is_integer() or math.isnan(value)):  # pandas makes floats of ints with nulls
        value = None if math.isnan(value) else int(value)
    return None if value in (None, "") else str(value)


def same_text(text: str) -> str:
    """Return a text in the form that equal texts share: with single spaces, and none at the ends."""
    return " ".join(text.split())


def text_check(text: str) -> str:
    """Return 32 bits of the digest of `same_text`: they differ between rows of one id that are not one response."""
    return hashlib.sha256(same_text(text).encode("utf-8", "replace")).hexdigest()[:8]


def whole_number(path: Path, row: int, value: object) -> int:
    """Return a level that may come as text or as a float. Raises InputError naming file and row."""
    try:
        number = float(value)  # type: ignore[arg-type]
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path}, row {row}: level is not a whole number")
