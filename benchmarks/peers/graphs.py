"""ONNX files of whole classifiers: exported once, then written again for every task with its weights in place."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.adapters import Adapter, adapter_folders, read_all
from benchmarks.peers.aside import aside
from benchmarks.peers.peer import Floats

OPSET = 20
WRAPPED = "model."
"""What the exporter puts before the names of a classifier's parameters."""


def export(model: Any, path: Path) -> None:
    """Write `model` as input_ids, attention_mask int64 [B, S] → logits float32 [B, 5], parameters by name.

    The exporter's own optimiser would rename them; ONNX Runtime and OpenVINO fold what it would fold.
    """
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
            return logits

    free = {0: torch.export.Dim("B"), 1: torch.export.Dim("S", max=512)}
    example = {"input_ids": torch.full((4, 16), 5), "attention_mask": torch.ones(4, 16, dtype=torch.int64)}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits().eval(),
            kwargs=example,
            f=str(path),
            dynamo=True,
            optimize=False,
            verbose=False,
            dynamic_shapes=dict.fromkeys(example, free),
            output_names=["logits"],
            opset_version=OPSET,
            external_data=False,
        )


def merged(base: Mapping[str, Floats], adapter: Adapter) -> dict[str, Floats]:
    """Return the weights that differ from the base model's: W + scaling · B @ A at every site, and the head."""
    changed = {f"{site}.weight": base[f"{site}.weight"] + delta for site, delta in adapter.deltas().items()}
    weight, bias = adapter.head()
    return {**changed, "classifier.weight": weight, "classifier.bias": bias}


def write_with(base: Path, weights: Mapping[str, Floats], path: Path) -> None:
    """Write the graph `base` to `path` with other values for the named parameters. Raises KeyError for unknown ones."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(base)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, array in weights.items():
        tensor = initializers[WRAPPED + name]
        if tuple(tensor.dims) != array.shape:
            raise ValueError(f"{name} has shape {array.shape}, the graph wants {tuple(tensor.dims)}")
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process must not take half a file for a whole one.
    unfinished = path.with_suffix(".unfinished")
    onnx.save(model, unfinished)
    unfinished.rename(path)


def open_parameters(base: Path, names: Iterable[str], path: Path) -> None:
    """Write the graph with the named parameters as inputs that have defaults, which a caller may replace."""
    import onnx

    model = onnx.load(base)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in names:
        tensor = initializers[WRAPPED + name]
        shape = list(tensor.dims)
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))
    onnx.save(model, path)


def merged_files(scratch: Path) -> dict[str, Path]:
    """Return one merged ONNX file a task under `scratch`, written unless they are there."""
    paths = {folder.name: scratch / "merged" / f"{folder.name}.onnx" for folder in adapter_folders()}
    if not all(path.exists() for path in paths.values()):
        aside("benchmarks.peers.graphs:write_merged", scratch / "merged")
    return paths


def write_merged(folder: Path) -> None:
    """Write one merged ONNX file a task into `folder`."""
    from benchmarks.peers.base import classifier

    model = classifier(attn_implementation="eager")
    base = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    export(model, folder / "base.onnx")
    for task, adapter in read_all().items():
        write_with(folder / "base.onnx", merged(base, adapter), folder / f"{task}.onnx")
