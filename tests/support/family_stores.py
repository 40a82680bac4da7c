"""Stores of small models of many families."""

import shutil
from pathlib import Path
from typing import Any

from families import FAMILIES
from making import WORDS
from mixed_store import Kind, add_adapters
from scoremux_engine.model.backbone import Backbone

_QUESTION = " ".join(WORDS)


def template(repeats: int, after: str = "") -> dict[str, Any]:
    """Return keys of `task.json` by which a question so many times as long as all words precedes each response."""
    return {"question": _QUESTION, "input": {"template": "{question} " * repeats + "{response}" + after}}


def kinds_of(family: str) -> tuple[Kind, ...]:
    """Return adapters of several ranks, kinds and heads; one gives one value in points; decoders' have prefixes too."""
    sites = FAMILIES[family].sites
    options = ({}, {"use_rslora": True}, {"use_dora": True}, {"lora_bias": True}, {})
    shapes = ((4, 5), (24, 2), (8, 3), (16, 20), (70, 4))
    classes = (Kind(rank, levels, sites, kind) for (rank, levels), kind in zip(shapes, options, strict=True))
    long, longer, pair = template(1, " [SEP] the"), template(3), {"first": "{question}", "second": "{response}"}
    prefixed = (
        Kind(8, 5, sites, task=long),
        Kind(4, 2, sites, {"use_dora": True}, longer),
        Kind(16, 3, sites, {"lora_bias": True}, {"question": _QUESTION, "input": pair}),
        Kind(70, 4, sites, task=longer, outputs=1),
    )
    return (*classes, Kind(8, 4, sites, outputs=1), *(prefixed if FAMILIES[family].decoder else ()))


def make_store(family: str, exported: Path, repository: Path) -> None:
    """Copy what `families.export_family` wrote, and publish an adapter of each kind."""
    shutil.copytree(exported, repository, dirs_exist_ok=True)
    add_adapters(str(repository / "source"), repository, kinds_of(family), Backbone.open(repository / "backbone" / "1"))
