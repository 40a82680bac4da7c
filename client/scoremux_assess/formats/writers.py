"""Writing files of scored rows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from scoremux_client.errors import InputError
from scoremux_client.files import replacing

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


def write_scored(path: Path, tables: Iterable[Any]) -> None:
    """Write tables with the columns of `SCHEMA` to one .jsonl, .csv or .parquet file. Raises InputError."""
    chosen = (table.select(SCHEMA.names) for table in tables)
    try:
        with replacing(path, mode=None) as aside:
            WRITERS[path.suffix.lower()](aside, chosen)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


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


def _write_jsonl(path: Path, tables: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_csv(path: Path, tables: Iterable[Any]) -> None:
    schema = pa.schema([(field.name, pa.string() if _as_text(field) else field.type) for field in SCHEMA])
    with pacsv.CSVWriter(path, schema) as writer:
        for table in tables:
            columns = [_cells(table[field.name]) if _as_text(field) else table[field.name] for field in SCHEMA]
            writer.write_table(pa.table(columns, schema=schema))


def _as_text(field: Any) -> bool:
    return bool(pa.types.is_string(field.type) or pa.types.is_list(field.type))


def _cells(column: Any) -> list[str]:
    if pa.types.is_list(column.type):
        return [" ".join(f"{value:.9g}" for value in values) for values in column.to_pylist()]
    return [formula_safe(cell) for cell in column.to_pylist()]


def _write_parquet(path: Path, tables: Iterable[Any]) -> None:
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for table in tables:
            writer.write_table(table)


WRITERS: dict[str, Callable[[Path, Iterable[Any]], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
"""What one file of scored rows may be, by its suffix."""
