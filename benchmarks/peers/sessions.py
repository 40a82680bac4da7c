"""One whole model a task, all of them loaded, in ONNX Runtime or OpenVINO; rows grouped by task."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches, graphs
from benchmarks.peers.peer import Floats
from benchmarks.saf import SafRow
from scoremux_engine.runners.streams import available_cores

Run = Callable[[batches.Ints, batches.Ints], Floats]


def onnxruntime_session(path: Path, threads: int | None = None) -> Any:
    """Return an ONNX Runtime session on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def open_onnxruntime(path: Path, at_once: int = 1) -> Run:
    """at_once: batches that run side by side and share the cores."""
    session = onnxruntime_session(path, available_cores() // at_once)
    return lambda ids, mask: np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])


def open_openvino(path: Path, precision: str, at_once: int = 1) -> Run:
    """precision: f32 or bf16; at_once: batches that run side by side and share the cores."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": available_cores()}
    compiled = openvino.Core().compile_model(str(path), "CPU", {**options, "NUM_STREAMS": at_once})
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


class Sessions:
    """Models by task; each core runs a batch. precision: None for ONNX Runtime's float32, or OpenVINO's f32 or bf16."""

    def __init__(self, paths: Mapping[str, Path], precision: str | None) -> None:
        self._at_once = at_once = available_cores()
        self.pid = os.getpid()
        self._tokens = batches.TokenIds()
        self._bytes = sum(path.stat().st_size for path in paths.values()) // (2 if precision == "bf16" else 1)
        self.open: Callable[[Path], Run] = (
            (lambda path: open_onnxruntime(path, at_once))
            if precision is None
            else (lambda path: open_openvino(path, precision, at_once))
        )
        self.models = {task: self.open(path) for task, path in paths.items()}

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        parts = batches.by_task_and_length(rows, ids)

        def run(number: int) -> Floats:
            task, part = parts[number]
            return self.models[task](*batches.padded([ids[i] for i in part]))

        return batches.scattered(len(rows), [part for _, part in parts], run, self._at_once)

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None: ...


class Merged(Sessions):
    """The 27 adapters, each merged into a whole model of its own."""

    def __init__(self, scratch: str, precision: str | None = None) -> None:
        super().__init__(graphs.merged_files(Path(scratch)), precision)
