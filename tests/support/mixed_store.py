"""A store as varied as users' are: PEFT adapters of many ranks, sites, kinds and numbers of levels."""

import copy
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import nn

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

OPENING = Opening("query,key,value,dense", dora=True, bias=True)


@dataclass(frozen=True)
class Kind:
    """What one adapter is like. options: further arguments of `peft.LoraConfig`; task: further keys of `task.json`.

    outputs: of its head, 0 for as many as it has levels.
    """

    rank: int
    levels: int
    sites: str = "query,value"
    options: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    outputs: int = 0


_SITES = ("query,value", "query", "key,value", "query,key,value", "query,key,value,dense")
_OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"use_rslora": True},
    {"use_dora": True},
    {"rank_pattern": {"query": 2}, "alpha_pattern": {"value": 3}},
    {"lora_bias": True},
    {"bias": "lora_only"},
)
_RANKS = (4, 8, 16, 1, 64, 2, 24, 8, 256, 3, 32, 16, 128, 4, 17, 8, 96, 65, 40)
_LEVELS = (5, 2, 3, 4, 9, 20, 8)

KINDS = tuple(
    Kind(_RANKS[n % len(_RANKS)], _LEVELS[n % len(_LEVELS)], _SITES[n % len(_SITES)], _OPTIONS[n % len(_OPTIONS)])
    for n in range(27)
)


def make_mixed_repository(
    source: str, repository: Path, kinds: tuple[Kind, ...] = KINDS, opening: Opening = OPENING
) -> None:
    """Export `source` with the sites of `opening` open, and publish one random adapter a kind."""
    add_adapters(source, repository, kinds, export_backbone(source, opening, repository))


def make_store(exported: Path, repository: Path, kinds: tuple[Kind, ...]) -> None:
    """Copy an exported repository, whose model is in ``source``, and publish one random adapter a kind."""
    shutil.copytree(exported, repository, dirs_exist_ok=True)
    add_adapters(str(repository / "source"), repository, kinds, Backbone.open(repository / "backbone" / "1"))


def add_adapters(source: str, repository: Path, kinds: tuple[Kind, ...], backbone: Backbone) -> None:
    """Publish one random adapter a kind, ``t-0`` and so on; their folders are in ``adapters``."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source)
    folders = [repository / "adapters" / f"t-{n}" for n in range(len(kinds))]
    for seed, (kind, folder) in enumerate(zip(kinds, folders, strict=True)):
        _write_adapter(model, kind, seed, folder)
        described = {"id": folder.name, "levels": list(range(kind.levels)), **kind.task}
        given = {key: value for key, value in described.items() if value is not None}
        (folder / "task.json").write_text(json.dumps(given))
    Store(repository / "store").add(folders, backbone)


def train_adapter(model: Path, folder: Path, seed: int, **keys: Any) -> Path:
    """Write an adapter with three levels and random weights as `save_pretrained` does; return its folder.

    keys: arguments of `peft.LoraConfig`.
    """
    torch.manual_seed(seed)
    base = transformers.AutoModelForSequenceClassification.from_pretrained(model, num_labels=3)
    made = peft.get_peft_model(base, peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=4, **keys))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.2)
    made.save_pretrained(str(folder))
    (folder / "task.json").write_text(json.dumps({"id": folder.name, "levels": [0, 1, 2]}))
    return folder


def open_with_peft(source: str, folder: Path, levels: int) -> nn.Module:
    """Return the adapter in `folder` as PEFT's users run it."""
    base = transformers.AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=levels, ignore_mismatched_sizes=True
    )  # the adapter brings its head
    opened: nn.Module = peft.PeftModel.from_pretrained(base, str(folder)).eval()
    return opened


def _write_adapter(model: Any, kind: Kind, seed: int, folder: Path) -> None:
    base = copy.deepcopy(model)
    outputs = kind.outputs or kind.levels
    base.num_labels = base.config.num_labels = outputs
    name = "score" if hasattr(base, "score") else "classifier"
    head = getattr(base, name)
    setattr(base, name, nn.Linear(head.in_features, outputs, bias=head.bias is not None))
    targets = kind.sites if kind.sites == "all-linear" else kind.sites.split(",")
    config = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, r=kind.rank, target_modules=targets, **kind.options)
    made = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.requires_grad:
                drawn = torch.randn(parameter.shape, generator=generator)
                if "lora_" not in name or "magnitude" in name:
                    parameter.add_(drawn * 0.02)
                else:
                    parameter.copy_(drawn * parameter.shape[-1] ** -0.5 * (0.3 if "lora_B" in name else 1.0))
    made.save_pretrained(str(folder))
