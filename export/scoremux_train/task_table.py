"""A table of tasks to train, as CSV or JSON lines: its columns are keys of `task.json`."""

from pathlib import Path
from typing import Any

from scoremux_engine.errors import PackageError
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.row_layout import Row, RowLayout
from scoremux_files.settings import quote, quote_key

_TEXTS = ("id", "language", "question", "reference", "rubric")
_INPUTS = ("first", "second", "template")
_COLUMNS = ("levels", *_TEXTS, *_INPUTS)


def read_tasks(path: Path) -> dict[str, Row]:
    """Return fields of `task.json` by task id; an empty cell says nothing.

    Raises PackageError that names the column or cell that is wrong.
    """
    tasks: dict[str, Row] = {}
    try:
        for record in read_records(path, RowLayout(every_column=True)):
            where = f"{path}, line {record.line}" if record.line else f"{path}"
            if record.reason:
                raise PackageError(f"{where}: {record.reason}")
            fields = _read_row(where, record.values)
            if fields["id"] in tasks:
                raise PackageError(f"{where}: a second row for {quote_key(fields['id'])}")
            tasks[fields["id"]] = fields
    except InputError as error:
        raise PackageError(str(error)) from error
    return tasks


def _read_row(where: str, row: dict[str, Any]) -> Row:
    if unknown := set(row) - set(_COLUMNS):
        raise PackageError(f"{where}: unknown column {quote(min(unknown))}; the columns are {', '.join(_COLUMNS)}")
    cells = {column: cell for column, cell in row.items() if cell}
    fields: Row = {name: cells[name] for name in _TEXTS if name in cells}
    if "id" not in fields:
        raise PackageError(f"{where}: the row has no id")
    if "levels" in cells:
        try:
            levels = cells["levels"]
            fields["levels"] = [float(level) for level in (levels if isinstance(levels, list) else str(levels).split())]
        except (TypeError, ValueError) as error:
            raise PackageError(f"{where}: levels: write numbers with spaces between them, such as 0 0.5 1") from error
    if rendering := {name: cells[name] for name in _INPUTS if name in cells}:
        fields["input"] = rendering
    return fields
