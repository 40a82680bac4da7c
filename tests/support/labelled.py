"""Labelled rows for tests: made from dictionaries, and seen one by one."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoremux_evidence.rows.reading import read_labels
from scoremux_evidence.rows.table import Rows, groups_of
from scoremux_files.rows.codes import Codes
from scoremux_files.rows.columns import encode

CODES = (
    *("task", "administration", "rater", "student", "cluster", "split", "chosen_by", "version", "adapter"),
    *("decided_at", "status"),
)


Row = dict[str, Any]


def labelled(
    id_: str,
    task: str,
    level: float,
    second: float | None = None,
    where: str = "rows.jsonl, line 1",
    text: str | None = None,
    probabilities: Any = None,
    **more: Any,
) -> Row:
    """Return the cells of a row for `rows_of`."""
    file, _, line = where.rpartition(", line ")
    row = {"id": id_, "task": task, "level": level, "second": second, "file": file, "line": int(line), "text": text}
    return {**row, "probabilities": probabilities, **more}


def rows_of(*rows: Row) -> Rows:
    """Return rows as `read_labels` does, with these values in place of what an empty file would have."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(f'{{"id": "{n}"}}\n' for n, _ in enumerate(rows)))
        made = read_labels([path]).rows
    given = {name for row in rows for name in row}
    columns: dict[str, Any] = {}
    for name in given:
        values = [row.get(name) for row in rows]
        if name in (*CODES, "file"):
            columns[name] = encode(pa.array(values, "string"))
        elif name in ("id", "text", "probabilities", "text_check"):
            columns[name] = np.empty(len(rows), object)
            columns[name][:] = values
        elif name in ("line", "has_id"):
            columns[name] = np.array(values)
        else:
            columns[name] = np.array(values, np.float64)
    return made.plus(**columns)


def each(rows: Rows) -> list[SimpleNamespace]:
    """Return the rows one by one, for comparing: codes as text, None for no second level."""
    columns: dict[str, list[Any]] = {}
    for name, column in rows.columns.items():
        columns[name] = column.texts() if isinstance(column, Codes) else column.tolist()
    columns["key"] = [*rows.response_keys()]
    columns["second"] = [None if second != second else second for second in columns["second"]]
    groups = {name: codes.texts() for name, codes in groups_of(rows).items()}
    columns["groups"] = [{name: values[n] or "" for name, values in groups.items()} for n in range(len(rows))]
    return [SimpleNamespace(**{name: column[n] for name, column in columns.items()}) for n in range(len(rows))]


def cells(row: SimpleNamespace) -> Row:
    """Return the cells of one of `each` for `rows_of`."""
    names = ("id", "task", "level", "second", "file", "line", "text", "administration", "student", "probabilities")
    return {name: getattr(row, name) for name in names}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([*rows]), path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
