"""Stores of small models of many families, and how far their scores are from PEFT's for each text alone."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from families import FAMILIES
from making import WORDS
from mixed_store import Kind, add_adapters, open_with_peft
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.task import Task
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice

# What the tokenizers of `families` read as special tokens, the padding token among them.
ODD = ("[PAD]", "[CLS]", "[SEP]")
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


@dataclass
class Distance:
    """From PEFT: the largest |Δlogit|, and how many levels differ."""

    max_abs_difference: float = 0.0
    levels: int = 0


def distance_from_peft(
    repository: Path, family: str, rows: int, seed: int, runner: RunnerChoice = REFERENCE
) -> Distance:
    """Score random texts of all tasks in one batch, and each alone and unpadded with PEFT's own model."""
    engine, draw = Engine.open(repository, runner=runner), random.Random(seed)
    kinds = kinds_of(family)
    words = [*WORDS, *ODD]
    texts = [" ".join(draw.choices(words, k=draw.randint(0, 60))) for _ in range(rows)]
    tasks = [draw.randrange(len(kinds)) for _ in range(rows)]
    names = [f"t-{task}" for task in tasks]
    logits, scored = engine.logits(texts, names), engine.score(texts, names)
    tokenizer = transformers.AutoTokenizer.from_pretrained(repository / "source")
    found = Distance()
    for task, kind in enumerate(kinds):
        outputs = kind.outputs or kind.levels
        oracle = open_with_peft(str(repository / "source"), repository / "adapters" / f"t-{task}", outputs)
        given = Task.read(repository / "adapters" / f"t-{task}")
        for row in (row for row, own in enumerate(tasks) if own == task):
            text = given.render(texts[row])
            parts = [[part] for part in ((text,) if isinstance(text, str) else text.texts)]
            tokens = tokenizer(*parts, truncation=True, max_length=engine.backbone.spec.max_tokens)
            with torch.inference_mode():
                expected = oracle(
                    input_ids=torch.tensor(tokens["input_ids"]),
                    attention_mask=torch.tensor(tokens["attention_mask"]),
                ).logits[0]
            difference = float(np.abs(logits[row, :outputs] - expected.numpy()).max())
            found.max_abs_difference = max(found.max_abs_difference, difference)
            if outputs == 1:
                level = min(range(kind.levels), key=lambda place: abs(place - float(expected)))
            else:
                level = int(expected.argmax())
            found.levels += scored[row].level != level
    return found
