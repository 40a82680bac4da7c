"""The engine against PEFT, the oracle: adapters made and saved by PEFT, texts through the whole way."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from making import WORDS
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import TENSORS
from scoremux_engine.store.store import Store

TOLERANCE = {"float32": 1e-4}
VARIANTS = {
    "plain": {"r": 8, "lora_alpha": 16},
    "other-rank": {"r": 3, "lora_alpha": 3},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {"r": 4, "rank_pattern": {r"layer\.0\..*query": 2}, "alpha_pattern": {"value": 32}},
    "one-layer": {"r": 4, "layers_to_transform": [1], "layers_pattern": "layer"},
    "query-only": {"r": 8, "target_modules": ["query"]},
    "excluding": {"r": 4, "exclude_modules": r".*layer\.0.*value"},
    "dora": {"r": 4, "use_dora": True},
    "dora-rslora": {"r": 3, "use_dora": True, "use_rslora": True, "target_modules": ["value"]},
    "lora-bias": {"r": 4, "lora_bias": True},
    "lora-only-bias": {"r": 4, "bias": "lora_only"},
    "mica": {"r": 4, "init_lora_weights": "mica"},
    "pissa": {"r": 4, "init_lora_weights": "pissa"},
    "olora": {"r": 3, "lora_alpha": 5, "init_lora_weights": "olora"},
}
CONVERTED = ("pissa", "olora")
"""They change the base weights, and are saved as plain LoRA."""


def save_initial(model: peft.PeftModel, folder: Path) -> None:
    """Save an adapter before training, as PEFT's page on PiSSA does."""
    config = model.peft_config["default"]
    start, config.init_lora_weights = config.init_lora_weights, True
    model.save_pretrained(str(folder))
    config.init_lora_weights = start


def save_converted(model: peft.PeftModel, folder: Path, initial: Path) -> None:
    """Save a trained adapter as plain LoRA, with the head, which PEFT leaves out."""
    tensors = peft.get_peft_model_state_dict(model)
    model.save_pretrained(str(folder), path_initial_model_for_weight_conversion=str(initial))
    head = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    save_file({**load_file(folder / TENSORS), **head}, folder / TENSORS)


@pytest.fixture(scope="module")
def oracles(
    exported_family: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Engine, dict[str, peft.PeftModel]]:
    """An engine with one task a variant, and PEFT's own model for each."""
    root, exported = tmp_path_factory.mktemp("peft"), exported_family("bert")
    models: dict[str, peft.PeftModel] = {}
    for number, (task, options) in enumerate(VARIANTS.items()):
        torch.manual_seed(number)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            exported / "source", num_labels=2 + number
        )
        config = peft.LoraConfig(task_type=peft.TaskType.SEQ_CLS, **{"target_modules": ["query", "value"], **options})
        models[task] = peft.get_peft_model(base, config).eval()
        save_initial(models[task], root / "initial" / task)
        with torch.no_grad():
            for name, parameter in models[task].named_parameters():
                if parameter.requires_grad and "magnitude" not in name:
                    parameter.normal_(0, 0.3)
                elif parameter.requires_grad:
                    parameter.mul_(torch.rand_like(parameter) + 0.5)
        if task in CONVERTED:
            save_converted(models[task], root / task, root / "initial" / task)
        else:
            models[task].save_pretrained(str(root / task))
        (root / task / "task.json").write_text(json.dumps({"id": task, "levels": list(range(2 + number))}))
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(exported / "backbone", repository / "backbone")
    backbone = Backbone.open(repository / "backbone" / "1")
    Store(repository / "store").add([root / task for task in VARIANTS], backbone)
    return Engine.open(repository), models


def test_mixed_variants_get_pefts_logits(
    oracles: tuple[Engine, dict[str, peft.PeftModel]], exported_family: Callable[[str], Path]
) -> None:
    engine, models = oracles
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported_family("bert") / "source")
    draw = random.Random(3)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 70))) for _ in range(60)]
    tasks = [list(VARIANTS)[i % len(VARIANTS)] for i in range(len(texts))]
    logits = engine.logits(texts, tasks)
    for text, task, row in zip(texts, tasks, logits, strict=True):
        with torch.inference_mode():
            tokens = tokenizer(text, truncation=True, max_length=66, return_tensors="pt")
            expected = models[task](**tokens).logits[0].numpy()
        assert np.abs(row[: len(expected)] - expected).max() <= TOLERANCE["float32"]
        assert np.isnan(row[len(expected) :]).all()


def test_the_variants_differ_in_the_first_place(oracles: tuple[Engine, dict[str, peft.PeftModel]]) -> None:
    engine, _ = oracles
    logits = engine.logits(["the router hands out addresses"] * len(VARIANTS), list(VARIANTS))[:, :2]
    gaps = np.abs(logits[:, None] - logits[None]).max(axis=2) + np.eye(len(VARIANTS))
    assert gaps.min() > 100 * TOLERANCE["float32"]
