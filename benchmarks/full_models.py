"""27 fully fine-tuned models, one a task: what the paper compares a shared backbone with.

They are not in the repository (90 MB each): `make` trains those that a folder lacks, with the script and the recipe of
examples/saf, on the training split alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.peers import graphs
from benchmarks.peers.adapters import adapter_folders
from benchmarks.provenance import ROOT

TRAIN = ROOT / "examples" / "saf" / "train.py"
WEIGHTS = "model.safetensors"


def tasks() -> list[str]:
    """Return the ids of the 27 tasks."""
    return [folder.name for folder in adapter_folders()]


def make(folder: Path, data: Path) -> dict[str, Path]:
    """Return the 27 model folders by task, trained where they are missing: about a minute each on one core."""
    paths = {task: folder / task for task in tasks()}
    missing = [task for task, path in paths.items() if not (path / WEIGHTS).exists()]
    if missing:
        command = [sys.executable, str(TRAIN), "full", "--data", str(data), "--out", str(folder), "--tasks", *missing]
        subprocess.run(command, check=True)
    return paths


def onnx_files(models: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Return one ONNX file a task in `folder`, written where missing: one graph, 27 sets of weights."""
    from safetensors.numpy import load_file

    from benchmarks.peers.base import classifier

    files = {task: folder / f"{task}.onnx" for task in models}
    missing = [task for task, path in files.items() if not path.exists()]
    if missing:
        graphs.export(classifier(attn_implementation="eager"), folder / "base.onnx")
    for task in missing:
        graphs.write_with(folder / "base.onnx", load_file(models[task] / WEIGHTS), files[task])
    return files
