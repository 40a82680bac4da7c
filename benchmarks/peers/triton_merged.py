"""Inside Triton: the 27 merged models as 27 Triton models, each a Python backend with an ONNX Runtime session.

The bundled Triton has no ONNX Runtime backend of its own.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches, graphs
from benchmarks.peers.peer import LEVELS, Floats
from benchmarks.provenance import ROOT
from benchmarks.saf import SafRow

CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 64
input [ {{ name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] }} ]
output [ {{ name: "LOGITS" data_type: TYPE_FP32 dims: [ 5 ] }} ]
dynamic_batching {{ }}
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
parameters: {{ key: "onnx" value: {{ string_value: "{onnx}" }} }}
"""
MODEL = """\
import sys

sys.path.insert(0, {root!r})
from benchmarks.peers.triton_model import TritonPythonModel  # noqa: E402, F401
"""
IN_FLIGHT = 4
START_S = 300.0


def write_repository(folder: Path, files: dict[str, Path]) -> None:
    """Write one Triton model a task."""
    for task, onnx in files.items():
        version = folder / task / "1"
        version.mkdir(parents=True, exist_ok=True)
        (folder / task / "config.pbtxt").write_text(CONFIG.format(name=task, onnx=onnx), encoding="utf-8")
        (version / "model.py").write_text(MODEL.format(root=str(ROOT)), encoding="utf-8")


class TritonMerged:
    """A Triton with 27 models, and a client that keeps a few requests of one task each in flight."""

    def __init__(self, scratch: str) -> None:
        from tritonclient import grpc

        from scoremux_server.command_line import command_line
        from scoremux_server.endpoints import Endpoints
        from scoremux_server.installation import Installation
        from scoremux_server.process import TritonProcess
        from scoremux_server.run import Run

        files = graphs.merged_files(Path(scratch))
        self._bytes = sum(path.stat().st_size for path in files.values())
        self._run = Run()
        self._run.begin()
        models = self._run.folder / "models"
        write_repository(models, files)
        installation, endpoints = Installation.find(), Endpoints.choose()
        arguments = command_line(
            installation.program,
            models,
            list(files),
            installation.backends(self._run.folder / "backends"),
            endpoints,
            shm_prefix=self._run.shm_prefix,
            key="none",
            drain_s=5,
        )
        self._log = Path(scratch) / "triton_merged.triton.log"
        self._process = TritonProcess(arguments, installation.environment(os.environ), self._log)
        self.pid = self._process.pid
        self._client: Any = grpc.InferenceServerClient(endpoints.grpc_url)
        self._tokens = batches.TokenIds()
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        from tritonclient.utils import InferenceServerException

        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.exit_status is not None:
                raise RuntimeError(f"Triton ended: {self._process.log_tail()}")
            try:
                if self._client.is_server_ready():
                    return
            except InferenceServerException:
                pass  # not listening yet
            time.sleep(0.2)
        raise RuntimeError(f"Triton was not ready after {START_S:g} s")

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        from tritonclient.grpc import InferInput

        # Sorted here as for all peers: a request's rows are of one task and of like length.
        parts = batches.by_task_and_length(rows, self._tokens.of(rows))
        done: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
        out = np.full((len(rows), LEVELS), np.nan, dtype=np.float32)

        def send(number: int) -> None:
            task, part = parts[number]
            texts = InferInput("TEXT", [len(part), 1], "BYTES")
            texts.set_data_from_numpy(np.array([[rows[i].text.encode()] for i in part], dtype=object))
            self._client.async_infer(task, [texts], lambda result, error: done.put((number, result, error)))

        for number in range(min(IN_FLIGHT, len(parts))):
            send(number)
        for turn in range(len(parts)):
            number, result, error = done.get()
            if error:
                raise error
            if turn + IN_FLIGHT < len(parts):
                send(turn + IN_FLIGHT)
            out[parts[number][1]] = result.as_numpy("LOGITS")
        return out

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        self._client.close()
        self._process.stop(10)
        self._run.end()
