"""Trained tables as stock PEFT folders with `task.json` and `card.md`."""

import json
from collections.abc import Mapping
from pathlib import Path

import peft
import torch
from torch import Tensor

from scoremux_engine.model.backbone import head_inputs, site_inputs
from scoremux_engine.packages.adapter_tables import PREFIX
from scoremux_engine.packages.package_files import CONFIG_JSON, TENSORS
from scoremux_export.opening.openable import ALL_LINEAR, HEADS, REGEX
from scoremux_files.atomic import replacing_folder
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.training.checkpoint import save_tensors
from scoremux_train.training.table_layout import TableLayout


def write_adapter(
    folder: Path, layout: TableLayout, row: Tensor, levels: int, plan: Plan, recipe: Recipe, texts: Mapping[str, str]
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


def _peft_parts(layout: TableLayout, row: Tensor, rank: int, levels: int) -> dict[str, Tensor]:
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
