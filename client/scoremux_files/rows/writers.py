"""Writes files of scored rows: JSONL, CSV and Parquet."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from scoremux_files.atomic import replacing
from scoremux_files.errors import InputError, writing

JOURNAL = "journal.jsonl"
"""The file of a job that says which parts are done, see `beside_parts`."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

SCHEMA = pa.schema(
    {
        "id": "string",
        "task": "string",
        "status": "string",
        "level": "int32",
        "score": "float32",
        "probabilities": pa.list_(pa.float32()),
        "version": "string",
        "tokens": "int32",
        "truncated": "bool",
        "confidence": "float32",
        "level_low": "int32",
        "level_high": "int32",
        "condition": "string",
        "route": "string",
        "read_behind": "float32",
        "arithmetic": "string",
        "student": "string",
        "feedback": "string",
        "trait": "string",
        "total": "float32",
    }
)
"""Columns of an output file. Without a score: level −1, score null, probabilities empty, version empty.

level_low, level_high: the range of levels that holds a human's, null where there is none.
read_behind: with which probability the row was picked for people to score too; null where it was not picked.
arithmetic: what computed the row, such as `x86-f32`; empty if nothing did.
student: who wrote the response, null where no column says it.
feedback: the version's text for the pupil about the level; empty without one.
trait: the name of the trait, where the row named an item with several; total: the item's total, if it has one.
"""


_OWN = {
    "source", "line", "text", "chosen_by", "probability", "seen", "second", "final", "settled_by", "saw", "size",
    "decision", "decided_at", "added_at", "code", "decided_by", "rater", "machine_level", "first_level",
    "machine_total", "first_total",
    *SCHEMA.names,
}  # fmt: skip
"""Names of columns that outputs, the desk's exports, or what reads them have for themselves."""


def check_kept(names: Iterable[str], text: str) -> None:
    """Raise InputError for a column that cannot be kept; text: the name of the texts' column."""
    if taken := sorted({*names} & (_OWN | {text})):
        raise InputError(
            f"column {taken[0]} cannot be kept: it has the texts, or the name of a column of scoremux's own"
        )


def beside_parts(folder: Path, name: str) -> Path:
    """Return the path of a file that a job keeps beside its parts: readers of Parquet folders pass over names with `_`.

    An earlier version wrote it without that: where it is there, it is taken.
    """
    before = folder / name
    return before if before.exists() else folder / f"_{name}"


def done_note(path: Path) -> Path:
    """Return the file in which a finished job notes that it wrote `path`."""
    return path.with_name(f".{path.name}.done.json")


def write_scored(path: Path, tables: Iterable[Any], keep: Sequence[str] = ()) -> None:
    """Write tables with the columns of `SCHEMA` to one .jsonl, .csv or .parquet file. Raises InputError.

    keep: names of further columns, of text.
    """
    schema = pa.schema([*SCHEMA, *(pa.field(name, "string") for name in keep)])
    write_rows(path, (table.select(schema.names) for table in tables), schema)


def write_rows(path: Path, tables: Iterable[Any], schema: Any) -> None:
    """Write tables of one schema to one .jsonl, .csv or .parquet file. Raises InputError."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"{path}: rows are written to {', '.join(WRITERS)} files")
    with writing(path), replacing(path, mode=None) as aside:
        writer(aside, tables, schema)


def formula_safe(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: one that looks like it gets an apostrophe before it.

    So does one that has such apostrophes already, or they would be lost when it is read.

    >>> formula_safe("=1+1"), formula_safe("'=1+1"), formula_safe("-5"), formula_safe("en-1")
    ("'=1+1", "''=1+1", '-5', 'en-1')
    """
    bare = cell.lstrip("'")
    if not bare.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    return cell if _NUMBER.fullmatch(bare) else f"'{cell}"


def without_apostrophe(cell: str) -> str:
    """Return the cell that `formula_safe` has changed, as it was."""
    return cell[1:] if cell[:1] == "'" and formula_safe(cell[1:]) == cell else cell


def _write_jsonl(path: Path, tables: Iterable[Any], _schema: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_csv(path: Path, tables: Iterable[Any], schema: Any) -> None:
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_list(field.type)]
    types = dict(zip(schema.names, schema.types, strict=True))
    plain = pa.schema(types | dict.fromkeys(texts, "string"))
    with pacsv.CSVWriter(path, plain) as writer:
        for table in tables:
            columns = {name: table[name] for name in plain.names}
            for name in texts:
                columns[name] = _cells(table[name])
            writer.write_table(pa.table(columns, schema=plain))


def _cells(column: Any) -> list[str]:
    if pa.types.is_list(column.type):
        return [" ".join(f"{value:.9g}" for value in values or ()) for values in column.to_pylist()]
    return [formula_safe(cell or "") for cell in column.to_pylist()]


def _write_parquet(path: Path, tables: Iterable[Any], schema: Any) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


WRITERS: dict[str, Callable[[Path, Iterable[Any], Any], None]] = {
    ".jsonl": _write_jsonl,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
"""What one file of rows may be, by its suffix."""
