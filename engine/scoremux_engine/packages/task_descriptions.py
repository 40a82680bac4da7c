"""`task.json` for adapters that have none, or that a table of tasks describes."""

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
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.adapter_tokens import compare_tokens
from scoremux_engine.packages.package_files import MAX_TEXT_BYTES, TASK_JSON, PackageFiles
from scoremux_engine.packages.task import MOST_LEVELS, Task
from scoremux_files.digests import read_file
from scoremux_files.errors import for_each, reading
from scoremux_files.settings import parse_file, quote, quote_key

_MODEL_JSON = "config.json"
_NO_LABEL = re.compile(r"LABEL_\d+")
"""What transformers calls an output that has no label."""

TaskFields = dict[str, Any]
"""Fields of `task.json`."""


@dataclass(frozen=True)
class DescribedAdapter:
    """An adapter with its `task.json`.

    remark: which parts of that were made up or taken from a table.
    limit: at how many tokens its training cut texts; the backbone's limit where the folder does not say.
    """

    files: PackageFiles
    remark: str
    limit: int


def describe(
    folders: Sequence[Path], backbone: Backbone, table: Mapping[str, TaskFields] | None = None
) -> list[DescribedAdapter]:
    """Complete what adapter folders say of their tasks.

    A folder without `task.json` gets its name as id, and as levels the numbers of `id2label` in its `config.json`, or,
    where that has no labels, 0, 1, … up to the width of its head.

    Args:
        table: Folder name → fields that override those of its `task.json` (`packages.task_table`).

    Raises:
        PackageError: A row of the table lacks its folder, or an adapter cannot be described, saw other tokens, or has a
            `config.json` by which the outputs of its head are not ascending levels.
    """
    names = {folder.absolute().name for folder in folders}
    for name in table or ():
        if name not in names:
            raise PackageError(f"the table has a task in the folder {quote_key(name)}, which is not among the adapters")
    described = for_each(
        folders, lambda folder: describe_folder(folder, backbone, table or {}), PackageError, "adapters"
    )
    limits = compare_tokens(folders, backbone)
    return [DescribedAdapter(*pair, limit) for pair, limit in zip(described, limits, strict=True)]


def describe_folder(folder: Path, backbone: Backbone, table: Mapping[str, TaskFields]) -> tuple[PackageFiles, str]:
    """Return the files of an adapter with its `task.json`, and what that was made from. Raises PackageError.

    Of the backbone only the head is read.
    """
    files, row = PackageFiles(folder), table.get(folder.absolute().name, {})
    path = folder / TASK_JSON
    existing = parse_file(files.read(TASK_JSON), path, PackageError) if os.path.lexists(path) else None
    width, labels = _outputs(files, backbone)
    if existing is not None and not row:
        return files, ""
    fields, remarks = {**(existing or {}), **row}, ["from the table"] if row else []
    if existing is None and "id" not in fields:
        fields["id"] = _name(folder)
        remarks.append("id: the folder's name")
    if existing is None and not {"levels", "traits"} & fields.keys():
        fields["levels"], source = _levels(folder, width, labels)
        remarks.append(f"levels {' '.join(f'{level:g}' for level in fields['levels'])}: {source}")
    ordered = {name: fields.pop(name) for name in Task.model_fields if name in fields}
    data = json.dumps({**ordered, **fields}, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")
    files.texts[TASK_JSON] = data
    return files, "; ".join(remarks)


def _name(folder: Path) -> str:
    name = folder.absolute().name
    if not re.fullmatch(TASK_ID_PATTERN, name):
        raise PackageError(
            f"{folder} has no {TASK_JSON}, and its name cannot be a task's id; rename it or write the file"
        )
    return name


def _levels(folder: Path, width: int | None, labels: list[str]) -> tuple[list[float], str]:
    """Return the levels of an adapter that does not say them, and where they come from."""
    if width == 1:
        raise PackageError(f"{folder}: its head has one output, which says no levels; write them into {TASK_JSON}")
    if width is None:
        return [0, 1], "made up"  # the adapter's check says what is wrong with its head
    points = _points(labels)
    if points:
        return points, f"id2label in {_MODEL_JSON}"
    if not all(_NO_LABEL.fullmatch(label) for label in labels):
        names = ", ".join(quote_key(label) for label in labels[:8])
        raise PackageError(
            f"{folder / _MODEL_JSON}: id2label names the outputs of the head {names}, and not their points; write "
            f"them into {TASK_JSON} as levels, where the first output must be of the lowest"
        )
    return [float(level) for level in range(min(width, MOST_LEVELS + 1))], "one for each output of the head"


def _outputs(files: PackageFiles, backbone: Backbone) -> tuple[int | None, list[str]]:
    """Return how many outputs the head has, and the labels of `id2label` in order where there is one for each.

    Raises PackageError if the outputs are not levels in ascending order.
    """
    shapes, path = files.tensors.shapes, files.path / _MODEL_JSON
    last = (f"{PREFIX}{linear.name}.weight" for linear in backbone.spec.head if linear.d_out is None)
    width = next((shapes[name][0] for name in last if shapes.get(name)), None)
    if not path.exists():
        return width, []
    with reading(path, PackageError):
        config = parse_file(read_file(path, MAX_TEXT_BYTES), path, PackageError)
    needed, kind = "regression" if width == 1 else "single_label_classification", config.get("problem_type")
    if width and kind not in (None, needed):
        raise PackageError(
            f"{path}: problem_type is {quote(kind)}, and with {width} outputs only {needed} gives the levels of a score"
        )
    labels = config.get("id2label")
    if not isinstance(labels, dict) or labels.keys() != {str(number) for number in range(width or 0)}:
        return width, []
    ordered = [str(labels[str(number)]) for number in range(len(labels))]
    points = _points(ordered)
    if points != sorted(set(points)):
        raise PackageError(
            f"{path}: id2label gives the outputs of the head the points {' '.join(ordered[:8])}; they must ascend: "
            "reorder the rows of the head's last Linear, weight and bias, and id2label with them"
        )
    return width, ordered


def _points(labels: list[str]) -> list[float]:
    """Return labels as numbers; nothing unless all are."""
    try:
        return [float(label) for label in labels]
    except ValueError:
        return []
