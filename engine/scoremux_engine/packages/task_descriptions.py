"""`task.json` for adapters that have none."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.adapter_tokens import compare_tokens
from scoremux_engine.packages.package_files import MAX_TEXT_BYTES, TASK_JSON, PackageFiles
from scoremux_engine.packages.task import MOST_LEVELS
from scoremux_files.digests import read_file
from scoremux_files.errors import for_each, reading
from scoremux_files.settings import parse_file, quote, quote_key

_MODEL_JSON = "config.json"
_NO_LABEL = re.compile(r"LABEL_\d+")
"""What transformers calls an output that has no label."""


@dataclass(frozen=True)
class DescribedAdapter:
    """An adapter with its `task.json`.

    remark: which parts of that were made up.
    limit: at how many tokens its training cut texts; the backbone's limit where the folder does not say.
    """

    files: PackageFiles
    remark: str
    limit: int


def describe(folders: Sequence[Path], backbone: Backbone) -> list[DescribedAdapter]:
    """Complete what adapter folders say of their tasks.

    A folder without `task.json` gets its name as id, and as levels the numbers of `id2label` in its `config.json`, or,
    where that has no labels, 0, 1, … up to the width of its head.

    Raises:
        PackageError: An adapter cannot be described, saw other tokens, or has a `config.json` by which the outputs of
            its head are not ascending levels.
    """
    described = for_each(folders, lambda folder: describe_folder(folder, backbone), PackageError, "adapters")
    limits = compare_tokens(folders, backbone)
    return [DescribedAdapter(*pair, limit) for pair, limit in zip(described, limits, strict=True)]


def describe_folder(folder: Path, backbone: Backbone) -> tuple[PackageFiles, str]:
    """Return the files of an adapter with its `task.json`, and what that was made from. Raises PackageError.

    Of the backbone only the head is read.
    """
    files = PackageFiles(folder)
    width, labels = _outputs(files, backbone)
    if os.path.lexists(folder / TASK_JSON):
        return files, ""
    name, (levels, source) = _name(folder), _levels(folder, width, labels)
    files.texts[TASK_JSON] = json.dumps({"id": name, "levels": levels}, indent=1).encode()
    return files, f"id: the folder's name; levels {' '.join(f'{level:g}' for level in levels)}: {source}"


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
