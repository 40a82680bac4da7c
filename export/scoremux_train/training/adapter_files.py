"""Trained tables as stock PEFT folders with `task.json` and `card.md`, and the other way round for a shared start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file

from scoremux_engine.model.backbone import head_inputs, site_inputs
from scoremux_engine.packages.adapter_layout import PREFIX
from scoremux_engine.packages.package_files import CONFIG_JSON, TENSORS
from scoremux_export.opening.sites import ALL_LINEAR, HEADS, REGEX
from scoremux_files.atomic import replacing_folder
from scoremux_train.errors import RecipeError
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.training.table_layout import TableLayout


def write_adapter(
    folder: Path,
    layout: TableLayout,
    row: torch.Tensor,
    levels: int,
    plan: Plan,
    recipe: Recipe,
    texts: Mapping[str, str],
) -> None:
    """Write a PEFT adapter that replaces `folder` as a whole.

    Args:
        folder: The adapter's folder.
        layout: How `row` lies.
        row: The trained table, float32 [width].
        levels: Width of the head.
        plan: Sites and the modules that are saved whole.
        recipe: Rank and scaling.
        texts: Further files by name, such as `task.json`.
    """
    views = layout.views(row)
    tensors = {}
    for site in layout.sites:
        a, b = (views[name] for name in site_inputs(site.name))
        tensors[f"{PREFIX}{site.name}.lora_A.weight"] = a[:, : recipe.rank].T.contiguous()
        tensors[f"{PREFIX}{site.name}.lora_B.weight"] = b[: recipe.rank].T.contiguous()
    for linear in layout.head:
        weight, bias = (views[name] for name in head_inputs(linear.name))
        width = levels if linear.d_out is None else linear.d_out
        tensors[f"{PREFIX}{linear.name}.weight"] = weight[:, :width].T.contiguous()
        if linear.bias:
            tensors[f"{PREFIX}{linear.name}.bias"] = bias[:width].clone()
    with replacing_folder(folder) as new:
        save_file(tensors, new / TENSORS, metadata={"format": "pt"})
        (new / CONFIG_JSON).write_text(_config(layout, plan, recipe), encoding="utf-8")
        for name, text in texts.items():
            (new / name).write_text(text, encoding="utf-8")


def read_start(folder: Path, layout: TableLayout) -> torch.Tensor:
    """Read a shared start that `write_adapter` wrote, as a table float32 [width]. Raises RecipeError."""
    try:
        tensors = load_file(folder / TENSORS)
        row = torch.zeros(layout.width)
        views = layout.views(row)
        for site in layout.sites:
            a, b = (views[name] for name in site_inputs(site.name))
            down, up = (tensors[f"{PREFIX}{site.name}.lora_{part}.weight"] for part in "AB")
            a[:, : len(down)], b[: len(down)] = down.T, up.T
        for linear in layout.head:
            weight, bias = (views[name] for name in head_inputs(linear.name))
            saved = tensors[f"{PREFIX}{linear.name}.weight"]
            weight[:, : len(saved)] = saved.T
            bias[: len(saved)] = tensors.get(f"{PREFIX}{linear.name}.bias", torch.zeros(len(saved)))
    except FileNotFoundError as error:
        raise RecipeError(f"{folder} has no {TENSORS}: --start has no start for so many levels") from error
    except (KeyError, RuntimeError) as error:
        raise RecipeError(f"{folder} does not fit this backbone, these sites or this rank") from error
    return row


def _config(layout: TableLayout, plan: Plan, recipe: Recipe) -> str:
    config = peft.LoraConfig(
        task_type=peft.TaskType.SEQ_CLS,
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        use_rslora=recipe.rslora,
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
