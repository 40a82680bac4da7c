"""28 adapters by different trainers, nine of them wrong, in one first start of `scoremux serve`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from making import make_adapter
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.packages.package_files import CONFIG_JSON, TASK_JSON, TENSORS
from serving import run_here
from waiting import port_options

BASE = "sentence-transformers/all-MiniLM-L6-v2"
DEFECTS = {
    "merged": "has no LoRA tensors; a merged model is not an adapter",
    "ia3": "peft_type is 'IA3'",
    "causal": "task_type is 'CAUSAL_LM'",
    "pissa": "init_lora_weights is 'pissa', which changes the base weights",
    "points": "its head has one output, which says no levels",
    "words": "id2label names the outputs of the head correct, wrong",
    "stranger": "base_model_name_or_path is bert-base-uncased, and others have",
    "cut": "is not a whole safetensors file",
    "narrow": "since task.json has 4 levels",
}


@pytest.fixture
def many(spec: BackboneSpec, tmp_path: Path) -> Path:
    """28 adapter folders, some of them with a defect of DEFECTS, which is their name."""
    root = tmp_path / "adapters"
    for number in range(28 - len(DEFECTS)):
        chosen = spec.model_copy(update={"sites": spec.sites if number % 3 else spec.sites[:2]})
        config = {"use_rslora": number % 2 == 0}
        folder = write(root / f"good-{number}", chosen, rank=2 + number % 6, levels=2 + number % 4, config=config)
        if number % 5 == 0:
            (folder / TASK_JSON).unlink()
    write(root / "merged", spec, tensors={"base_model.model.classifier.weight": np.ones((5, 8), np.float32)})
    write(root / "ia3", spec, config={"peft_type": "IA3"})
    write(root / "causal", spec, config={"task_type": "CAUSAL_LM"})
    write(root / "pissa", spec, config={"init_lora_weights": "pissa"})
    (write(root / "points", spec, levels=1) / TASK_JSON).unlink()
    labels = {"id2label": {"0": "correct", "1": "wrong"}}
    words = write(root / "words", spec, levels=2)
    (words / TASK_JSON).unlink()
    (words / "config.json").write_text(json.dumps(labels))
    write(root / "stranger", spec, config={"base_model_name_or_path": "bert-base-uncased"})
    cut = write(root / "cut", spec) / TENSORS
    cut.write_bytes(cut.read_bytes()[:-200])
    write(root / "narrow", spec, levels=3, task_json={"levels": [0, 1, 2, 3]})
    return root


def write(folder: Path, spec: BackboneSpec, config: dict[str, Any] | None = None, **parts: Any) -> Path:
    return make_adapter(folder, spec, folder.name, config={"base_model_name_or_path": BASE, **(config or {})}, **parts)


def start(root: Path, tmp_path: Path, *options: object) -> str:
    given = ("--repository", tmp_path / "repository", "--adapters", root, *options)
    ended = run_here("serve", *given, *port_options())
    assert ended.returncode == 2 and not (tmp_path / "repository" / "backbone").exists()
    return ended.stderr


def test_one_start_names_all_adapters_that_are_refused_or_the_one_alone(many: Path, tmp_path: Path) -> None:
    head, *lines = start(many, tmp_path).splitlines()
    assert head == "scoremux: 9 of 28 adapters are refused:"
    for folder, cause in DEFECTS.items():
        (line,) = (line for line in lines if f"/{folder}" in line)
        assert cause in line, line
    good = [folder for folder in sorted(many.iterdir()) if folder.name not in DEFECTS]
    said = start(good[0], tmp_path, "--adapters", many / "ia3")
    assert said.startswith(f"scoremux: {many}/ia3/{CONFIG_JSON}: peft_type is 'IA3'") and said.count("\n") == 1


def test_what_one_adapter_has_alone_is_no_defect(spec: BackboneSpec, tmp_path: Path) -> None:
    """Rank, kind and levels may differ; the export then fails at the base model, which is not here."""
    write(tmp_path / "a" / "t-1", spec, rank=4)
    folder = write(tmp_path / "a" / "t-2", spec, rank=8, levels=3)
    assert load_file(folder / TENSORS)
    assert "refused" not in start(tmp_path / "a", tmp_path)
