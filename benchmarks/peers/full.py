"""One fully fine-tuned model a task: all of them in memory, or one at a time, loaded when its task comes up."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.full_models import WEIGHTS, tasks
from benchmarks.peers import batches
from benchmarks.peers.base import classifier
from benchmarks.peers.peer import Floats
from benchmarks.peers.sessions import Run, open_onnxruntime, open_openvino
from benchmarks.saf import SafRow


def open_torch(folder: Path) -> Run:
    """Return transformers' own classifier out of a folder of its own."""
    import torch

    model: Any = classifier(folder)

    def run(ids: batches.Ints, mask: batches.Ints) -> Floats:
        with torch.inference_mode():
            logits = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        return np.asarray(logits.numpy())

    return run


class FullModels:
    """models: the trained folders' parent; onnx: their ONNX files' folder; resident: all at once.

    library: torch, onnxruntime, or openvino, which computes in bfloat16.
    """

    def __init__(self, scratch: str, models: str, onnx: str, library: str, resident: bool) -> None:  # noqa: ARG002
        opens: dict[str, Callable[[str], Run]] = {
            "torch": lambda task: open_torch(Path(models) / task),
            "onnxruntime": lambda task: open_onnxruntime(Path(onnx) / f"{task}.onnx"),
            "openvino": lambda task: open_openvino(Path(onnx) / f"{task}.onnx", "bf16"),
        }
        self._open = opens[library]
        self._resident = resident
        self._loaded: dict[str, Run] = {}
        weight = (Path(models) / tasks()[0] / WEIGHTS).stat().st_size // (2 if library == "openvino" else 1)
        self._bytes = weight * (len(tasks()) if resident else 1)
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()
        for task in tasks() if resident else tasks()[:1]:
            self._model(task)

    def _model(self, task: str) -> Run:
        if task not in self._loaded:
            if not self._resident:
                self._loaded.clear()
            self._loaded[task] = self._open(task)
        return self._loaded[task]

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        parts = batches.by_task_and_length(rows, ids)

        def run(number: int) -> Floats:
            task, part = parts[number]
            return self._model(task)(*batches.padded([ids[i] for i in part]))

        return batches.scattered(len(rows), [part for _, part in parts], run)

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None: ...
