"""Ours: the engine in this process, or behind Triton and gRPC."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.child import Floats, call_aside
from benchmarks.data import Labelled
from benchmarks.peers.base import LEVELS, Peer
from benchmarks.serving import serving

BYTES_A_WEIGHT = {"float32": 4, "bfloat16": 2, "int8": 1}


def repository(scratch: str) -> Path:
    """Return a repository with MiniLM and the 27 tasks, exported in a process of its own unless it is there."""
    folder = Path(scratch) / "scoremux"
    if not (folder / "store" / "manifest.json").exists():
        call_aside("benchmarks.speed:publish", folder, None, False)
    return folder


def weights_bytes(repository: Path, precision: str) -> int:
    """Return the files' float32 weights at the precision they are held in."""
    packages = (repository / "store" / "packages").glob("*/adapter_model.safetensors")
    files = [repository / "backbone" / "1" / "backbone.onnx", *packages]
    return sum(path.stat().st_size for path in files) * BYTES_A_WEIGHT[precision] // 4


class ScoremuxEngine:
    """One backbone, 27 adapters, mixed batches, in this process."""

    def __init__(self, scratch: str, runner: str = "openvino", precision: str = "float32") -> None:
        from scoremux_engine import Engine
        from scoremux_engine.runners.choose import RunnerChoice

        self._repository, self._precision = repository(scratch), precision
        self._engine = Engine.open(self._repository, runner=RunnerChoice(runner, precision=precision))
        self._engine.bank.load_live()
        self.pid = os.getpid()

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        found = self._engine.logits([row.text for row in rows], [row.task for row in rows])
        return np.asarray(found[:, :LEVELS])

    def weights_bytes(self) -> int:
        return weights_bytes(self._repository, self._precision)

    def close(self) -> None: ...


class ScoremuxTriton:
    """The same behind Triton; what comes back are probabilities, whose logarithms are logits but for a constant."""

    def __init__(self, scratch: str, precision: str = "float32") -> None:
        from scoremux_client import ScoringClient

        self._repository, self._precision = repository(scratch), precision
        self._held = ExitStack()
        settings = ("--set", "runner=openvino", "--set", f"precision={precision}")
        log = Path(scratch) / f"serve-{precision}.log"
        served = self._held.enter_context(serving(self._repository, log, *settings))
        self.pid = served.named("tritonserver")[0].pid
        # Identical rows are sent, since the others compute them too.
        self._client = self._held.enter_context(ScoringClient(served.grpc_url, deduplicate=False))

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        from scoremux_client import Response

        scored = self._client.score([Response(row.task, row.text) for row in rows])
        return np.log(np.array([outcome.probabilities for outcome in scored], dtype=np.float32))

    def weights_bytes(self) -> int:
        return weights_bytes(self._repository, self._precision)

    def close(self) -> None:
        self._held.close()


IN_PROCESS = tuple(
    Peer(f"scoremux {precision}", "scoremux:ScoremuxEngine", {"precision": precision}, reference=True, rounds=0)
    for precision in BYTES_A_WEIGHT
)
IN_TRITON = tuple(
    Peer(f"scoremux in Triton, {precision}", "scoremux:ScoremuxTriton", {"precision": precision}, rounds=0)
    for precision in ("float32", "bfloat16")
)
