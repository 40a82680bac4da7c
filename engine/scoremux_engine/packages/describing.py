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
from scoremux_engine.packages.source import TASK_JSON, TENSORS, Folder
from scoremux_engine.packages.task import MAX_JSON_BYTES, MOST_LEVELS, Task
from scoremux_engine.packages.tensor_file import TensorFile
from scoremux_files.settings import parse_object, quote, quote_key

_MODEL_JSON = "config.json"
_TEXTS = ("language", "question", "reference", "rubric")
_INPUTS = ("first", "second", "template")
COLUMNS = ("folder", "id", "levels", *_TEXTS, *_INPUTS)
"""Columns that a table of tasks may have; one of the first two names the folder."""

Fields = dict[str, Any]
"""Fields of `task.json`."""


@dataclass(frozen=True)
class Described:
    """An adapter folder with its `task.json`. remark: which parts of that were made up or taken from a table."""

    source: Folder
    remark: str = ""


def describe(folders: Sequence[Path], backbone: Backbone, table: Mapping[str, Fields] | None = None) -> list[Described]:
    """Complete what adapter folders say of their tasks.

    A folder without `task.json` gets its name as id, and as levels the numbers of `id2label` in its `config.json`, or
    0, 1, … up to the width of its head.

    Args:
        folders: PEFT adapters.
        backbone: What they fit.
        table: Folder name → fields that stand before those of its `task.json` (`read_table`).

    Raises:
        PackageError: A row of the table has no folder, or a folder cannot be described.
    """
    names = [folder.absolute().name for folder in folders]
    for name in table or {}:
        if name not in names:
            raise PackageError(f"the table has a task in the folder {quote_key(name)}, which is not among those given")
    return [_describe(folder, backbone, (table or {}).get(name)) for folder, name in zip(folders, names, strict=True)]


def _describe(folder: Path, backbone: Backbone, given: Fields | None) -> Described:
    has_own = os.path.lexists(folder / TASK_JSON)
    if has_own and given is None:
        return Described(Folder(folder))
    own = _read_json(folder, TASK_JSON) if has_own else {}
    known, remarks = {**own, **(given or {})}, ["from the table"] if given else []
    if not has_own and "id" not in known:
        known["id"] = _name(folder)
        remarks.append("id: the folder's name")
    if not has_own and "levels" not in known:
        known["levels"], source = _levels(folder, backbone)
        remarks.append(f"levels {' '.join(f'{level:g}' for level in known['levels'])}: {source}")
    ordered = {name: known.pop(name) for name in Task.model_fields if name in known}
    data = json.dumps({**ordered, **known}, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    return Described(Folder(folder, data), "; ".join(remarks))


def _name(folder: Path) -> str:
    name = folder.absolute().name
    if not re.fullmatch(TASK_ID_PATTERN, name):
        raise PackageError(
            f"{folder} has no {TASK_JSON}, and its name cannot be a task's id; rename it or write the file"
        )
    return name


def _levels(folder: Path, backbone: Backbone) -> tuple[list[float], str]:
    """Return the levels of an adapter that does not say them, and where they come from."""
    with Folder(folder).span(TENSORS) as span:
        width = head_width(TensorFile.open(span), backbone.spec)
    if width == 1:
        raise PackageError(f"{folder}: its head has one output, which says no levels; write them into {TASK_JSON}")
    if width is None:
        return [0, 1], "made up"  # the adapter's check says what is wrong with its head
    labels = _labels(folder) if os.path.lexists(folder / _MODEL_JSON) else []
    if len(labels) == width and labels == sorted(set(labels)):
        return labels, f"id2label in {_MODEL_JSON}"
    return [float(level) for level in range(min(width, MOST_LEVELS + 1))], "one for each output of the head"


def _labels(folder: Path) -> list[float]:
    """Return the labels of `id2label` in order, if they are numbers; otherwise nothing."""
    labels = _read_json(folder, _MODEL_JSON).get("id2label")
    try:
        return [float(labels[str(number)]) for number in range(len(labels))]  # type: ignore[index,arg-type]
    except (TypeError, ValueError, KeyError):
        return []


def _read_json(folder: Path, name: str) -> Fields:
    with Folder(folder).span(name) as span:
        try:
            return parse_object(span.read_whole(MAX_JSON_BYTES))
        except ValueError as error:
            raise PackageError(f"{span.path}: {error}") from error


def read_table(path: Path) -> dict[str, Fields]:
    """Read a CSV file of tasks: a header with some of `COLUMNS`, a row for each adapter folder.

    Returns:
        The fields of `task.json` by the folder's name, which is the id where there is no column `folder`. An empty cell
        says nothing.

    Raises:
        PackageError: It cannot be read, or a column or cell is wrong; says which.
    """
    table: dict[str, Fields] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            _refuse_columns(path, rows.fieldnames or [])
            for row in rows:
                name, fields = _read_row(f"{path}, line {rows.line_num}", row)
                if name in table:
                    raise PackageError(f"{path}, line {rows.line_num}: a second row for {quote_key(name)}")
                table[name] = fields
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise PackageError(f"{path} is no CSV file in UTF-8: {error}") from error
    return table


def _refuse_columns(path: Path, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in COLUMNS or list(columns).count(column) > 1:
            raise PackageError(f"{path}: column {quote(column)}; there are {', '.join(COLUMNS)}, each once at most")
    if not {"folder", "id"} & set(columns):
        raise PackageError(f"{path} has neither a column `folder` nor `id`, so it names no adapter")


def _read_row(where: str, row: Mapping[str | None, Any]) -> tuple[str, Fields]:
    if None in row or None in row.values():
        raise PackageError(f"{where}: it has not as many cells as the header")
    cells = {str(column): cell for column, cell in row.items() if cell}
    fields: Fields = {name: cells[name] for name in ("id", *_TEXTS) if name in cells}
    if "levels" in cells:
        try:
            fields["levels"] = [float(level) for level in cells["levels"].split()]
        except ValueError as error:
            raise PackageError(f"{where}: levels: write numbers with spaces between them, such as 0 0.5 1") from error
    if given := {name: cells[name] for name in _INPUTS if name in cells}:
        fields["input"] = given
    if not (name := cells.get("folder") or cells.get("id")):
        raise PackageError(f"{where}: it names neither a folder nor an id")
    return name, fields
