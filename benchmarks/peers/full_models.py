"""One fully fine-tuned model a task: all of them in memory, or one at a time, loaded when its task comes up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import example_adapters
from benchmarks.peers import batches, merged
from benchmarks.peers.base import Batched, Peer, classifier
from benchmarks.rows import ROOT

WEIGHTS = "model.safetensors"
TASKS = tuple(folder.name for folder in example_adapters())


def peers(models: Path) -> tuple[Peer, ...]:
    """Return 27 models in what users run by default and in faster libraries. models: the trained folders' parent."""
    settings = [("torch", False), ("torch", True), ("ONNX Runtime", True), ("OpenVINO bfloat16", True)]
    return tuple(
        Peer(
            f"27 models, {library}, {'resident' if resident else 'on demand'}",
            "full_models:FullModels",
            {"models": str(models.absolute()), "library": library, "resident": resident},
        )
        for library, resident in settings
    )


def train_missing(folder: Path, data: Path) -> None:
    """Train the models that a folder lacks: about a minute each on one core; write each as ONNX too."""
    missing = [task for task in TASKS if not (folder / task / WEIGHTS).exists()]
    if missing:
        command = [sys.executable, "-m", "benchmarks.full_finetuning", "--data", str(data), "--out", str(folder)]
        subprocess.run([*command, "--tasks", *missing], check=True, cwd=ROOT)
    for task in TASKS:
        if not (folder / f"{task}.onnx").exists():
            write_onnx(folder, task)


def write_onnx(folder: Path, task: str) -> None:
    """Write a trained model as ONNX: one graph, its own weights."""
    from safetensors.numpy import load_file

    base = folder / "base.onnx"
    if not base.exists():
        merged.export(classifier(attn_implementation="eager"), base)
    merged.write_with(base, load_file(folder / task / WEIGHTS), folder / f"{task}.onnx")


class FullModels(Batched):
    """library: `torch`, or a name of `merged.LIBRARIES`; resident: all models at once."""

    def __init__(self, scratch: str, models: str, library: str, resident: bool) -> None:  # noqa: ARG002
        super().__init__()
        self._folder, self._library, self._resident = Path(models), library, resident
        self._loaded: dict[str, merged.Run] = {}
        weight = (self._folder / TASKS[0] / WEIGHTS).stat().st_size // (2 if "bfloat16" in library else 1)
        self.weights = weight * (len(TASKS) if resident else 1)
        for task in TASKS if resident else TASKS[:1]:
            self._model(task)

    def _model(self, task: str) -> merged.Run:
        if task not in self._loaded:
            if not self._resident:
                self._loaded.clear()
            torch = self._library == "torch"
            opened = open_torch(self._folder / task) if torch else self._open_onnx(self._folder / f"{task}.onnx")
            self._loaded[task] = opened
        return self._loaded[task]

    def _open_onnx(self, path: Path) -> merged.Run:
        return merged.open_model(path, merged.LIBRARIES[self._library], at_once=1)

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        return self._model(tasks[0])(*batches.padded(ids))


def open_torch(folder: Path) -> merged.Run:
    """Return transformers' own classifier out of a folder of its own."""
    import torch

    model: Any = classifier(folder)

    def run(ids: batches.Ints, mask: batches.Ints) -> Floats:
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        return np.asarray(logits.numpy())

    return run
