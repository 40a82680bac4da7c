"""Ours: the engine in this process, or behind Triton and gRPC."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.aside import aside
from benchmarks.peers.peer import LEVELS, Floats
from benchmarks.saf import SafRow

ONE_ADAPTER = 400_000
"""Bytes of memory that hold one of the 27 adapters in float32, and no second one."""


def repository(scratch: Path) -> Path:
    """Return a repository with MiniLM and the 27 tasks, exported unless it is there."""
    folder = scratch / "scoremux"
    if not (folder / "store" / "manifest.json").exists():
        aside("benchmarks.saf:prepare", folder)
    return folder


class ScoremuxEngine:
    """One backbone, 27 adapters, mixed batches, in this process. one_at_a_time: room for a single adapter in memory."""

    def __init__(
        self, scratch: str, runner: str = "openvino", precision: str = "float32", one_at_a_time: bool = False
    ) -> None:
        from scoremux_engine import Engine
        from scoremux_engine.bank.bank import BUDGET_BYTES
        from scoremux_engine.runners.choose import RunnerChoice

        self.repository = repository(Path(scratch))
        choice = RunnerChoice(runner, precision=precision)
        self.engine = Engine.open(
            self.repository, runner=choice, bank_bytes=ONE_ADAPTER if one_at_a_time else BUDGET_BYTES
        )
        if not one_at_a_time:
            self.engine.bank.load_live()
        self.pid = os.getpid()
        self._bytes_a_weight = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        found = self.engine.logits([row.text for row in rows], [row.task for row in rows])
        return np.asarray(found[:, :LEVELS])

    def weights_bytes(self) -> int:
        """The files' float32 weights at the precision they are held in."""
        packages = (self.repository / "store" / "packages").glob("*/adapter_model.safetensors")
        files = [self.repository / "backbone" / "1" / "backbone.onnx", *packages]
        return sum(path.stat().st_size for path in files) * self._bytes_a_weight // 4

    def close(self) -> None: ...


class ScoremuxTriton:
    """The same behind Triton; what comes back are probabilities, whose logarithms are logits but for a constant."""

    def __init__(self, scratch: str, runner: str = "openvino", precision: str = "float32") -> None:
        from scoremux_client import ScoringClient
        from scoremux_engine.runners.choose import RunnerChoice
        from scoremux_server.endpoints import Endpoints
        from scoremux_server.profile import Profile
        from scoremux_server.server import Server

        self.repository = repository(Path(scratch))
        profile = Profile.of(RunnerChoice(runner, precision=precision))
        self.server = Server(self.repository, Endpoints.choose(), profile=profile, log=Path("/dev/null"))
        self.server.__enter__()
        self.pid = self.server.process.pid
        self.client = ScoringClient(self.server.endpoints.grpc_url, deduplicate=False)
        self._bytes_a_weight = {"float32": 4, "bfloat16": 2, "int8": 1}[precision]

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        from scoremux_client import Response

        scored = self.client.score([Response(row.task, row.text) for row in rows])
        return np.log(np.array([outcome.probabilities for outcome in scored], dtype=np.float32))

    weights_bytes = ScoremuxEngine.weights_bytes

    def close(self) -> None:
        self.client.close()
        self.server.stop()
