"""28 adapters by different trainers, four of them wrong: one command names all four."""

from pathlib import Path
from typing import Any

import numpy as np

from making import make_adapter
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.packages.package_files import CONFIG_JSON
from serving import run_here

DEFECTS = {
    "merged": "has no LoRA tensors; a merged model is not an adapter",
    "ia3": "peft_type is 'IA3'",
    "causal": "task_type is 'CAUSAL_LM'",
    "pissa": "init_lora_weights is 'pissa', which changes the base weights",
}


def test_export_names_all_adapters_that_are_refused_or_the_one_alone(spec: BackboneSpec, tmp_path: Path) -> None:
    root = tmp_path / "adapters"

    def write(name: str, **parts: Any) -> Path:
        return make_adapter(root / name, spec, name, **parts)

    def refused(*adapters: Path) -> str:
        ended = run_here("export", "backbone", "--out", tmp_path / "repository", "--for", *adapters)
        assert ended.returncode == 2 and not (tmp_path / "repository").exists()
        return ended.stderr

    for number in range(28 - len(DEFECTS)):
        write(f"good-{number}", rank=2 + number % 6, levels=2 + number % 4, config={"use_rslora": number % 2 == 0})
    write("merged", tensors={"base_model.model.classifier.weight": np.ones((5, 8), np.float32)})
    write("ia3", config={"peft_type": "IA3"})
    write("causal", config={"task_type": "CAUSAL_LM"})
    write("pissa", config={"init_lora_weights": "pissa"})
    head, *lines = refused(root).splitlines()
    assert head == "scoremux: 4 of 28 adapters are refused:"
    for folder, cause in DEFECTS.items():
        (line,) = (line for line in lines if f"/{folder}" in line)
        assert cause in line, line
    said = refused(root / "good-0", root / "ia3")
    assert said.startswith(f"scoremux: {root}/ia3/{CONFIG_JSON}: peft_type is 'IA3'") and said.count("\n") == 1
