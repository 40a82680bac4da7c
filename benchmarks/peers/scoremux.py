"""Ours: the engine in this process, or behind Triton and gRPC, as a profile sets it up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.child import Floats, call_aside
from benchmarks.data import Labelled
from benchmarks.peers.base import Peer
from benchmarks.serving import serving

PRECISIONS = ("float32", "bfloat16", "int8")


def publish_once(scratch: str) -> Path:
    """Return a repository with MiniLM and the 27 tasks, exported in a process of its own unless it is there."""
    folder = Path(scratch) / "scoremux"
    if not (folder / "store" / "manifest.json").exists():
        call_aside("benchmarks.stores:publish", folder)
    return folder


class ScoremuxEngine:
    """One backbone, all adapters of a repository, mixed batches, in this process.

    Args:
        scratch: a folder where MiniLM and the 27 tasks are exported if no `repository` is given.
        repository: what to serve.
        profile: a profile of the product, by name or file.
        settings: `key=value` settings that change it.
    """

    def __init__(
        self,
        scratch: str = "",
        repository: str | None = None,
        profile: str = "cpu",
        settings: Sequence[str] = (),
    ) -> None:
        from scoremux_engine import Engine
        from scoremux_server.profile import Profile

        folder = Path(repository) if repository else publish_once(scratch)
        self._engine = Engine.open(folder, runner=Profile.read(profile, settings).choice)
        self.pid = os.getpid()

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        found = self._engine.logits([row.text for row in rows], [row.task for row in rows])
        missing = np.isnan(found)
        if missing.all(axis=1).any():
            raise RuntimeError(f"{missing.all(axis=1).sum()} of {len(rows)} rows were not scored")
        return np.asarray(found[:, ~missing.all(axis=0)])

    def close(self) -> None: ...


class ScoremuxTriton:
    """The same behind Triton; what comes back are probabilities, whose logarithms are logits but for a constant."""

    def __init__(
        self, scratch: str, repository: str | None = None, profile: str = "cpu", settings: Sequence[str] = ()
    ) -> None:
        from scoremux_client import ScoringClient

        folder = Path(repository) if repository else publish_once(scratch)
        self._held = ExitStack()
        words = [word for setting in settings for word in ("--set", setting)]
        log = Path(scratch) / f"serve-{os.getpid()}.log"
        served = self._held.enter_context(serving(folder, log, "--profile", profile, *words))
        self.pid = served.named("tritonserver")[0].pid
        # Identical rows are sent, since the others compute them too.
        self._client = self._held.enter_context(ScoringClient(served.grpc_url, deduplicate=False))

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        from scoremux_client import Response

        scored = self._client.score([Response(row.task, row.text) for row in rows])
        return np.log(np.array([outcome.probabilities for outcome in scored], dtype=np.float32))

    def close(self) -> None:
        self._held.close()


IN_PROCESS = tuple(
    Peer(f"scoremux {name}", "scoremux:ScoremuxEngine", {"settings": [f"precision={name}"]}, reference=True, rounds=0)
    for name in PRECISIONS
)
IN_TRITON = tuple(
    Peer(f"scoremux in Triton, {name}", "scoremux:ScoremuxTriton", {"settings": [f"precision={name}"]}, rounds=0)
    for name in ("float32", "bfloat16")
)
