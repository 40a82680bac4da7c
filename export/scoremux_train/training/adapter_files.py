"""Trained tables as stock PEFT folders with `task.json` and `card.md`, and the other way round for a shared start."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import peft
import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scoremux_engine.model.backbone import head_inputs, site_inputs
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.package_files import CONFIG_JSON, TENSORS
from scoremux_export.opening.openable import ALL_LINEAR, HEADS, REGEX
from scoremux_files.atomic import replacing_folder
from scoremux_files.errors import reading
from scoremux_files.settings import parse_model
from scoremux_train.errors import RecipeError
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.training.checkpoint import save_tensors
from scoremux_train.training.table_layout import START_OUTPUTS, TableLayout

START = ".start"
"""Folder of a run's shared start, in its output."""

START_JSON = "start.json"
SHARED_BY_START = ("rank", "alpha")
"""Keys of the recipe in which a task must not differ from the start of its table."""


def write_adapter(
    folder: Path,
    layout: TableLayout,
    row: Tensor,
    levels: int,
    plan: Plan,
    recipe: Recipe,
    texts: Mapping[str, str],
) -> None:
    """Write a PEFT adapter that replaces `folder` as a whole.

    Args:
        row: The trained table, float32 [width].
        plan: Says which sites and which whole modules the adapter changes.
        texts: Further files by name, such as `task.json`.
    """
    parts = _peft_parts(layout, row, recipe.rank, levels)
    tensors = {name: part.clone(memory_format=torch.contiguous_format) for name, part in parts.items()}
    with replacing_folder(folder) as new:
        save_tensors(tensors, new / TENSORS, {"format": "pt"})
        (new / CONFIG_JSON).write_text(_config(layout, plan, recipe), encoding="utf-8")
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")


class StartDescription(BaseModel, extra="forbid", frozen=True):
    """`start.json` of a shared start.

    Attributes:
        backbone: The digest of the weights that it was trained on.
        tasks, rows: The ids of the tasks that it was trained on, and the number of their rows.
    """

    format: Literal[1] = 1
    backbone: str
    recipe: Recipe
    tasks: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Start:
    """A shared start: its description, and its table with `START_OUTPUTS` outputs, float32 [width]."""

    description: StartDescription
    table: Tensor


def write_start(folder: Path, layout: TableLayout, start: Start, plan: Plan) -> None:
    """Write a shared start as a PEFT adapter with `start.json`; it replaces `folder` as a whole."""
    description = start.description
    texts = {START_JSON: description.model_dump_json(indent=1) + "\n"}
    write_adapter(folder, layout, start.table, START_OUTPUTS, plan, description.recipe, texts)


def read_start(folder: Path, layout: TableLayout, plan: Plan, weights: str) -> Start:
    """Read a shared start that `write_start` wrote. weights: the digest of the backbone's weights.

    Raises RecipeError naming what differs where it does not fit the layout, the plan or the backbone.
    """
    path = folder / START_JSON
    if not path.exists():
        raise RecipeError(f"{path} does not exist: --start is the --out of a run that had a shared start")
    with reading(path, RecipeError):
        try:
            description = parse_model(StartDescription, path.read_bytes())
        except ValueError as error:
            raise RecipeError(f"{path}: {error}; train the shared start again to write it") from error
    theirs = description.recipe
    if description.backbone != weights:
        raise RecipeError(f"{path}: backbone has weights {description.backbone[:12]}, and --backbone {weights[:12]}")
    for name in SHARED_BY_START:
        value, ours = getattr(theirs, name), getattr(plan.recipe, name)
        if value != ours:
            raise RecipeError(f"{path}: {name} is {value}, and {ours} in [recipe]")
    with reading(folder / TENSORS, RecipeError):
        try:
            tensors = load_file(folder / TENSORS)
        except SafetensorError as error:
            raise RecipeError(f"{folder / TENSORS} is damaged; train the shared start again to write it") from error
    row = torch.zeros(layout.width)
    parts = _peft_parts(layout, row, theirs.rank, START_OUTPUTS)
    for name in sorted(parts.keys() | tensors.keys()):
        if name not in parts or name not in tensors or parts[name].shape != tensors[name].shape:
            module = name.removeprefix(PREFIX)
            raise RecipeError(f"{folder}: the shared start has other sites or another head than this plan ({module})")
        parts[name].copy_(tensors[name])
    return Start(description, row)


def _peft_parts(
    layout: TableLayout,
    row: Tensor,
    rank: int,
    levels: int,
) -> dict[str, Tensor]:
    """Return the parts of a table by the names that PEFT gives them, as views."""
    views, parts = layout.views(row), {}
    for site in layout.sites:
        a, b = (views[name] for name in site_inputs(site.name))
        parts[f"{PREFIX}{site.name}.lora_A.weight"] = a[:, :rank].T
        parts[f"{PREFIX}{site.name}.lora_B.weight"] = b[:rank].T
    for linear in layout.head:
        weight, bias = (views[name] for name in head_inputs(linear.name))
        width = levels if linear.d_out is None else linear.d_out
        parts[f"{PREFIX}{linear.name}.weight"] = weight[:, :width].T
        if linear.bias:
            parts[f"{PREFIX}{linear.name}.bias"] = bias[:width]
    return parts


def _config(layout: TableLayout, plan: Plan, recipe: Recipe) -> str:
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=_target_modules(layout, plan.sites),
        modules_to_save=[*HEADS, *plan.modules_to_save],
        base_model_name_or_path=plan.base_model or None,
        inference_mode=True,
    )
    # PEFT keeps some of these as sets, whose order changes from run to run.
    content = {name: sorted(v) if isinstance(v, set) else v for name, v in config.to_dict().items()}
    return json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"


def _target_modules(layout: TableLayout, sites: str) -> list[str] | str:
    if sites.startswith(REGEX):
        return sites.removeprefix(REGEX)
    if sites == ALL_LINEAR:
        return [site.name for site in layout.sites]
    return [suffix.strip() for suffix in sites.split(",") if suffix.strip()]
