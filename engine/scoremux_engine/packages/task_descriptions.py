"""`task.json` for adapters that have none, or that a table of tasks describes."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_layout import head_width
from scoremux_engine.packages.package_files import MAX_TEXT_BYTES, TASK_JSON, PackageFiles
from scoremux_engine.packages.task import MOST_LEVELS, Task
from scoremux_engine.packages.tensor_file import TensorFile
from scoremux_files.digests import read_file
from scoremux_files.errors import reading
from scoremux_files.settings import parse_object, quote, quote_key

_MODEL_JSON = "config.json"
_TEXTS = ("language", "question", "reference", "rubric")
_INPUTS = ("first", "second", "template")
COLUMNS = ("folder", "id", "levels", *_TEXTS, *_INPUTS)
"""Columns that a table of tasks may have; one of the first two names the folder."""

TaskFields = dict[str, Any]
"""Fields of `task.json`."""


@dataclass(frozen=True)
class DescribedAdapter:
    """An adapter with its `task.json`. remark: which parts of that were made up or taken from a table."""

    files: PackageFiles
    remark: str = ""


def describe(
    folders: Sequence[Path], backbone: Backbone, table: Mapping[str, TaskFields] | None = None
) -> list[DescribedAdapter]:
    """Complete what adapter folders say of their tasks.

    A folder without `task.json` gets its name as id, and as levels the numbers of `id2label` in its `config.json`, or
    0, 1, … up to the width of its head.

    Args:
        folders: PEFT adapters.
        backbone: What they fit.
        table: Folder name → fields that override those of its `task.json` (`read_table`).

    Raises:
        PackageError: A row of the table has no folder, or a folder cannot be described.
    """
    table = table or {}
    names = [folder.absolute().name for folder in folders]
    for name in table:
        if name not in names:
            raise PackageError(f"the table has a task in the folder {quote_key(name)}, which is not among the adapters")
    return [_describe(folder, backbone, table.get(name, {})) for folder, name in zip(folders, names, strict=True)]


def _describe(folder: Path, backbone: Backbone, row: TaskFields) -> DescribedAdapter:
    files = PackageFiles.of(folder)
    described = os.path.lexists(folder / TASK_JSON)
    if described and not row:
        return DescribedAdapter(files)
    fields = {**(_parse(files.read(TASK_JSON), folder / TASK_JSON) if described else {}), **row}
    remarks = ["from the table"] if row else []
    if not described and "id" not in fields:
        fields["id"] = _name(folder)
        remarks.append("id: the folder's name")
    if not described and "levels" not in fields:
        fields["levels"], source = _levels(files, backbone)
        remarks.append(f"levels {' '.join(f'{level:g}' for level in fields['levels'])}: {source}")
    ordered = {name: fields.pop(name) for name in Task.model_fields if name in fields}
    data = json.dumps({**ordered, **fields}, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    return DescribedAdapter(files.replace(TASK_JSON, data), "; ".join(remarks))


def _name(folder: Path) -> str:
    name = folder.absolute().name
    if not re.fullmatch(TASK_ID_PATTERN, name):
        raise PackageError(
            f"{folder} has no {TASK_JSON}, and its name cannot be a task's id; rename it or write the file"
        )
    return name


def _levels(files: PackageFiles, backbone: Backbone) -> tuple[list[float], str]:
    """Return the levels of an adapter that does not say them, and where they come from."""
    width = head_width(TensorFile.open(files), backbone.spec)
    if width == 1:
        raise PackageError(f"{files.path}: its head has one output, which says no levels; write them into {TASK_JSON}")
    if width is None:
        return [0, 1], "made up"  # the adapter's check says what is wrong with its head
    labels = _labels(files.path / _MODEL_JSON)
    if len(labels) == width and labels == sorted(set(labels)):
        return labels, f"id2label in {_MODEL_JSON}"
    return [float(level) for level in range(min(width, MOST_LEVELS + 1))], "one for each output of the head"


def _labels(path: Path) -> list[float]:
    """Return the labels of `id2label` in order, if they are numbers; otherwise nothing."""
    if not path.exists():
        return []
    with reading(path, PackageError):
        labels = _parse(read_file(path, MAX_TEXT_BYTES), path).get("id2label")
    try:
        return [float(labels[str(number)]) for number in range(len(labels))]  # type: ignore[index,arg-type]
    except (TypeError, ValueError, KeyError):
        return []


def _parse(data: bytes, path: Path) -> TaskFields:
    try:
        return parse_object(data)
    except ValueError as error:
        raise PackageError(f"{path}: {error}") from error


def read_table(path: Path) -> dict[str, TaskFields]:
    """Read a CSV file of tasks: a header with some of `COLUMNS`, a row for each adapter folder.

    Returns:
        The fields of `task.json` by the folder's name, which is the id where there is no column `folder`. An empty cell
        overrides nothing.

    Raises:
        PackageError: It cannot be read, or a column or cell is wrong; says which.
    """
    table: dict[str, TaskFields] = {}
    try:
        with reading(path, PackageError), path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _refuse_columns(path, rows.fieldnames or [])
            for row in rows:
                name, fields = _read_row(f"{path}, line {rows.line_num}", row)
                if name in table:
                    raise PackageError(f"{path}, line {rows.line_num}: a second row for {quote_key(name)}")
                table[name] = fields
    except csv.Error as error:
        raise PackageError(f"{path} is not a CSV file: {error}") from error
    return table


def _refuse_columns(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in COLUMNS or list(columns).count(column) > 1:
            raise PackageError(f"{path}: column {quote(column)}; there are {', '.join(COLUMNS)}, each once at most")
    if not {"folder", "id"} & set(columns):
        raise PackageError(f"{path} has neither a column `folder` nor `id`, so it names no adapter")


def _read_row(where: str, row: Mapping[str | None, Any]) -> tuple[str, TaskFields]:
    if None in row or None in row.values():
        raise PackageError(f"{where}: the row and the header differ in the number of cells")
    cells = {str(column): cell for column, cell in row.items() if cell}
    fields: TaskFields = {name: cells[name] for name in ("id", *_TEXTS) if name in cells}
    if "levels" in cells:
        try:
            fields["levels"] = [float(level) for level in cells["levels"].split()]
        except ValueError as error:
            raise PackageError(f"{where}: levels: write numbers with spaces between them, such as 0 0.5 1") from error
    if given := {name: cells[name] for name in _INPUTS if name in cells}:
        fields["input"] = given
    if not (name := cells.get("folder") or cells.get("id")):
        raise PackageError(f"{where}: the row names neither a folder nor an id")
    return name, fields
