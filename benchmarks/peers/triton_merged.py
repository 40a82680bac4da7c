"""Inside Triton: the 27 merged models as 27 Triton models, each a Python backend with an ONNX Runtime session.

The bundled Triton has no ONNX Runtime backend of its own. This module is the client, the server's start and, imported
by each model, the model itself.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled
from benchmarks.peers import batches, merged
from benchmarks.peers.base import LEVELS, Batched, Peer
from benchmarks.rows import ROOT
from benchmarks.serving import answers, free_ports

PEERS = (Peer("Triton, 27 merged models", "triton_merged:TritonMerged", heavy=True, rounds=0),)
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
from benchmarks.peers.triton_merged import TritonPythonModel  # noqa: E402, F401
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


class TritonMerged(Batched):
    """A Triton with 27 models, and a client that keeps a few requests of one task each in flight."""

    def __init__(self, scratch: str) -> None:
        from tritonclient import grpc

        super().__init__(rows=(64,))
        files = merged.merged_files(Path(scratch))
        folder = Path(scratch) / "triton_merged"
        write_repository(folder / "models", files)
        port, http = free_ports(2)
        self._process = start(folder, port, http)
        self.pid = self._process.pid
        self._client: Any = grpc.InferenceServerClient(f"127.0.0.1:{port}")
        try:
            deadline = time.monotonic() + START_S
            while not answers(f"http://127.0.0.1:{http}/v2/health/ready"):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Triton is not ready; see {folder / 'log'}")
                time.sleep(0.2)
        except BaseException:
            self.close()
            raise

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        from tritonclient.grpc import InferInput

        # Sorted here as for all peers: a request's rows are of one task and of like length.
        parts = self.parts(rows, self.tokens.of(rows))
        done: queue.Queue[tuple[list[int], Any, Any]] = queue.Queue()
        out = np.full((len(rows), LEVELS), np.nan, dtype=np.float32)

        def send(part: list[int]) -> None:
            texts = InferInput("TEXT", [len(part), 1], "BYTES")
            texts.set_data_from_numpy(np.array([[rows[i].text.encode()] for i in part], dtype=object))
            self._client.async_infer(rows[part[0]].task, [texts], lambda result, error: done.put((part, result, error)))

        for part in parts[:IN_FLIGHT]:
            send(part)
        for number in range(len(parts)):
            part, result, error = done.get()
            if error:
                raise error
            if number + IN_FLIGHT < len(parts):
                send(parts[number + IN_FLIGHT])
            out[part] = result.as_numpy("LOGITS")
        return out

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(60)


def start(folder: Path, grpc_port: int, http_port: int) -> subprocess.Popen[bytes]:
    """Start the bundled tritonserver on the models of a folder."""
    from scoremux_server.triton.installation import Installation

    triton = Installation.find()
    arguments = [
        str(triton.program),
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={triton.backends(folder / 'backends')}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("grpc", "http")),
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        "--allow-metrics=false",
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(arguments, env=triton.environment(os.environ), stdout=log, stderr=log)


class TritonPythonModel:
    """A model in Triton: texts in, a merged model's logits out. One thread each: other models run on other cores."""

    def initialize(self, args: dict[str, str]) -> None:
        import triton_python_backend_utils

        self._utils: Any = triton_python_backend_utils
        config = json.loads(args["model_config"])
        self._run = merged.open_onnxruntime(Path(config["parameters"]["onnx"]["string_value"]), threads=1)
        self._tokens = batches.TokenIds()

    def execute(self, requests: list[Any]) -> list[Any]:
        utils = self._utils
        texts = [utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[:, 0] for request in requests]
        rows = [Labelled("", "", text.decode(), -1) for request in texts for text in request]
        logits = self._run(*batches.padded(self._tokens.of(rows)))
        ends = np.cumsum([len(request) for request in texts])[:-1]
        return [
            utils.InferenceResponse([utils.Tensor("LOGITS", np.ascontiguousarray(part))])
            for part in np.split(logits, ends)
        ]
