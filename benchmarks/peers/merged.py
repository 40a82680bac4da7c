"""One whole model a task in ONNX Runtime or OpenVINO: the 27 adapters merged."""

from __future__ import annotations

import copy
import logging
import os
import queue
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats, call_aside
from benchmarks.data import Labelled, example_adapters
from benchmarks.peers import batches
from benchmarks.peers.base import LEVELS, Batched, Peer, classifier

Run = Callable[[batches.Ints, batches.Ints], Floats]
WRAPPED = "model."
"""What the exporter puts before the names of a classifier's parameters."""
LIBRARIES = {"ONNX Runtime": None, "OpenVINO float32": "f32", "OpenVINO bfloat16": "bf16"}
"""Name → precision: None for ONNX Runtime's float32, or OpenVINO's own name of it."""
PLAIN = "the plain backbone in OpenVINO, bfloat16"
CORES = len(os.sched_getaffinity(0))
PEERS = (
    *(
        Peer(f"a model for each task, {name}", "merged:Merged", {"precision": precision}, heavy=True, rounds=0)
        for name, precision in LIBRARIES.items()
    ),
    Peer(PLAIN, "merged:OneModel", {"precision": "bf16"}, rounds=0),
)


class Merged(Batched):
    """The 27 adapters, each merged into a model of its own; `at_once` batches share the cores."""

    def __init__(self, scratch: str, precision: str | None = None, at_once: int = CORES) -> None:
        super().__init__()
        self.at_once = at_once
        self._models = self.open(merged_files(Path(scratch)), precision)

    def open(self, paths: Mapping[str, Path], precision: str | None) -> dict[str, Run]:
        """Load models by task."""
        return {task: open_model(path, precision, self.at_once) for task, path in paths.items()}

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        return self._models[tasks[0]](*batches.padded(ids))


class OneAtATime(Merged):
    """The same files, one after the other: each is opened, scores the rows of its task, and is closed."""

    def open(self, paths: Mapping[str, Path], precision: str | None) -> dict[str, Run]:
        """Keep what opens a model."""
        self._open = {task: partial(open_model, path, precision, self.at_once) for task, path in paths.items()}
        return {}

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        out = np.full((len(rows), LEVELS), np.nan, np.float32)
        for task in sorted({row.task for row in rows}):
            numbers = [number for number, row in enumerate(rows) if row.task == task]
            self._models = {task: self._open[task]()}
            out[numbers] = super().logits([rows[number] for number in numbers])
        return out


class OneModel(Merged):
    """One of the merged models, for all rows."""

    def open(self, paths: Mapping[str, Path], precision: str | None) -> dict[str, Run]:
        first = super().open(dict(list(paths.items())[:1]), precision)
        return dict.fromkeys(paths, next(iter(first.values())))

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:  # noqa: ARG002
        return batches.by_length([len(i) for i in ids], self.setting.rows)


def open_model(path: Path, precision: str | None, at_once: int) -> Run:
    """Return what runs an ONNX file; `at_once` batches share the cores."""
    return open_openvino(path, precision, at_once) if precision else open_onnxruntime(path, CORES // at_once)


def open_onnxruntime(path: Path, threads: int) -> Run:
    """Return what runs an ONNX file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def open_openvino(path: Path, precision: str, at_once: int) -> Run:
    """Return what runs an ONNX file in OpenVINO. precision: f32 or bf16."""
    import openvino

    # Two streams that make the same kernel at once can get a wrong one: see `scoremux_engine.runners.precisions`.
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "0"
    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": CORES, "NUM_STREAMS": at_once}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    idle: queue.LifoQueue[Any] = queue.LifoQueue()
    for _ in range(at_once):
        idle.put(compiled.create_infer_request())

    def run(ids: batches.Ints, mask: batches.Ints) -> Floats:
        request = idle.get()
        try:
            return np.array(request.infer([ids, mask], share_inputs=True)[0])
        finally:
            idle.put(request)

    return run


def merged_files(scratch: Path) -> dict[str, Path]:
    """Return one merged ONNX file a task under `scratch`, written in a process of its own unless they are there."""
    paths = {folder.name: scratch / "merged" / f"{folder.name}.onnx" for folder in example_adapters()}
    if not all(path.exists() for path in paths.values()):
        call_aside("benchmarks.peers.merged:write_merged", scratch / "merged")
    return paths


def write_merged(folder: str) -> None:
    """Write one ONNX file a task into `folder`: PEFT's own merged weights in one graph."""
    import peft

    model, graph = classifier(attn_implementation="eager"), Path(folder) / "base.onnx"
    export(model, graph)
    for adapter in example_adapters():
        adapted: Any = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(adapter))
        weights = {name: tensor.numpy() for name, tensor in adapted.merge_and_unload().state_dict().items()}
        write_with(graph, weights, Path(folder) / f"{adapter.name}.onnx")


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
            opset_version=20,
            external_data=False,
        )


def write_with(base: Path, weights: Mapping[str, Floats], path: Path) -> None:
    """Write the graph `base` to `path` with other values for its parameters."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(base)
    for tensor in model.graph.initializer:
        if (array := weights.get(tensor.name.removeprefix(WRAPPED))) is not None:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))
    # Another process must not take half a file for a whole one.
    unfinished = path.with_suffix(".unfinished")
    onnx.save(model, unfinished)
    unfinished.rename(path)
