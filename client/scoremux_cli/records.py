"""Files of rows: responses in, scored rows out, as JSONL, CSV or Parquet by the file's suffix."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from scoremux_client.errors import InputError
from scoremux_client.rows import Response

Row = dict[str, Any]
_BLOCK_ROWS = 4096
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("status", pa.string()),
        ("level", pa.int32()),
        ("score", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("version", pa.string()),
        ("tokens", pa.int32()),
        ("truncated", pa.bool_()),
    ]
)
"""Columns of an output file. Without a score: level −1, score null, probabilities empty, version empty."""


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a .jsonl, .csv or .parquet file, or of a job's folder. Raises InputError with file and line."""
    if path.is_dir():
        for table in read_tables(path):
            yield from table.to_pylist()
        return
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {
        ".jsonl": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    try:
        yield from readers[path.suffix.lower()](path)
    except KeyError:
        raise InputError(f"{path}: rows are read from .jsonl, .csv or .parquet files") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def read_responses(paths: Iterable[Path]) -> Iterator[Response]:
    """Yield the responses of files with columns `task` and `text`, and `id` if there is one.

    A row without an id gets its number in the whole run, from 1.
    """
    number = 0
    for path in paths:
        for line, row in enumerate(read_rows(path), start=1):
            number += 1
            for name in ("task", "text"):
                if not isinstance(row.get(name), str):
                    raise InputError(f"{path}, row {line}: no {name}; rows need the columns task and text")
            row_id = row.get("id")
            yield Response(row["task"], row["text"], str(number if row_id is None else row_id))


def whole_number(path: Path, row: int, value: object) -> int:
    """Return a level that may come as text or as a float. Raises InputError naming file and row."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}, row {row}: level is not a whole number") from error
    if not number.is_integer():
        raise InputError(f"{path}, row {row}: level is not a whole number")
    return int(number)


def read_tables(folder: Path) -> Iterator[Any]:
    """Yield the parts of a job's folder as tables, in order. Raises InputError for one that is broken."""
    parts = sorted(folder.glob("part-*.parquet"))
    try:
        for part in parts:
            yield pq.read_table(part)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{folder} has a part that cannot be read") from error


def write_scored(path: Path, tables: Iterable[Any]) -> None:
    """Write tables with the columns of `SCHEMA` to one file. It appears under its name when it is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        writer = WRITERS[path.suffix.lower()](part)
        try:
            for table in tables:
                writer.write(table.select(SCHEMA.names))
        finally:
            writer.close()
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def formula_safe(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: one that looks like it gets an apostrophe before it.

    >>> formula_safe("=1+1"), formula_safe("-5"), formula_safe("en-1")
    ("'=1+1", '-5', 'en-1')
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if _NUMBER.fullmatch(cell) else f"'{cell}"


def without_apostrophe(cell: str) -> str:
    """Return what `formula_safe` was given."""
    return cell[1:] if cell[:1] == "'" and formula_safe(cell[1:]) == cell else cell


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if not text.strip():
                    continue
                row = json.loads(text)
            except UnicodeDecodeError as error:
                raise InputError(f"{path}, line {number}: not UTF-8") from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not JSON") from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: not a JSON object")
            yield row


def _read_csv(path: Path) -> Iterator[Row]:
    options = pacsv.ConvertOptions(strings_can_be_null=False, column_types={})
    try:
        names = pacsv.open_csv(path).schema.names
        # Everything is text here: `007` is an id, not seven.
        options.column_types = {name: pa.string() for name in names}
        parse = pacsv.ParseOptions(newlines_in_values=True)
        for batch in pacsv.open_csv(path, parse_options=parse, convert_options=options):
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        # Arrow quotes the row, and a row holds a student's text: only the numbers may pass.
        counted = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", str(error))
        if counted is None:
            raise InputError(f"{path} is not a CSV file in UTF-8 with a header") from None
        where = f", row {counted[1]}" if counted[1] else ""
        raise InputError(f"{path}{where}: {counted[3]} columns, the header has {counted[2]}") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        for batch in pq.ParquetFile(path).iter_batches(_BLOCK_ROWS):
            yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a Parquet file") from error


class _Writer(Protocol):
    def write(self, table: Any) -> None: ...

    def close(self) -> None: ...


class _JsonlWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, table: Any) -> None:
        for row in table.to_pylist():
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class _CsvWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, SCHEMA.names)
        self._writer.writeheader()

    def write(self, table: Any) -> None:
        for row in table.to_pylist():
            cells = {name: formula_safe(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            self._writer.writerow({**cells, "probabilities": " ".join(f"{p:.9g}" for p in row["probabilities"])})

    def close(self) -> None:
        self._file.close()


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, SCHEMA)

    def write(self, table: Any) -> None:
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


WRITERS: dict[str, Callable[[Path], _Writer]] = {
    ".jsonl": _JsonlWriter,
    ".csv": _CsvWriter,
    ".parquet": _ParquetWriter,
}
"""What one file of scored rows may be, by its suffix."""
