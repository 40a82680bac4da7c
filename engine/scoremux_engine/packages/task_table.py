"""A table of tasks: a CSV file with a row for each adapter folder, which overrides its `task.json`."""

from pathlib import Path
from typing import Any

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task_descriptions import TaskFields
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.row_layout import RowLayout
from scoremux_files.settings import quote, quote_key

_TEXTS = ("id", "language", "question", "reference", "rubric")
_INPUTS = ("first", "second", "template")
COLUMNS = ("folder", "levels", *_TEXTS, *_INPUTS)
"""Columns that a table may have; `folder` or else `id` names the folder."""


def read_table(path: Path) -> dict[str, TaskFields]:
    """Return the fields of `task.json` by the folder's name, or by id where the column `folder` is missing.

    An empty cell overrides nothing. Raises PackageError that names the column or cell that is wrong.
    """
    table: dict[str, TaskFields] = {}
    try:
        for record in read_records(path, RowLayout(every_column=True)):
            where = f"{path}, line {record.line}" if record.line else f"{path}"
            if record.reason:
                raise PackageError(f"{where}: {record.reason}")
            name, fields = _read_row(where, record.values)
            if name in table:
                raise PackageError(f"{where}: a second row for {quote_key(name)}")
            table[name] = fields
    except InputError as error:
        raise PackageError(str(error)) from error
    return table


def _read_row(where: str, row: dict[str, Any]) -> tuple[str, TaskFields]:
    if unknown := set(row) - set(COLUMNS):
        raise PackageError(f"{where}: unknown column {quote(min(unknown))}; the columns are {', '.join(COLUMNS)}")
    cells = {column: cell for column, cell in row.items() if cell}
    fields: TaskFields = {name: cells[name] for name in _TEXTS if name in cells}
    if "levels" in cells:
        try:
            levels = cells["levels"]
            fields["levels"] = [float(level) for level in (levels if isinstance(levels, list) else str(levels).split())]
        except (TypeError, ValueError) as error:
            raise PackageError(f"{where}: levels: write numbers with spaces between them, such as 0 0.5 1") from error
    if rendering := {name: cells[name] for name in _INPUTS if name in cells}:
        fields["input"] = rendering
    if not (name := cells.get("folder") or cells.get("id")):
        raise PackageError(f"{where}: the row names neither a folder nor an id")
    return name, fields
