"""Tritonserver's argument vector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scoremux_server.endpoints import Endpoints

KEY_HEADER = "scoremux-key"
RESTRICTED = "shared-memory,model-repository,trace,logging"
"""What only the watcher may call: all of them change the server, and clients need none of them."""


def command_line(
    program: Path,
    models: Path,
    load: Sequence[str],
    backends: Path,
    endpoints: Endpoints,
    *,
    shm_prefix: str,
    key: str,
    drain_s: int,
    gpu_metrics: bool = False,
) -> list[str]:
    """Return the arguments of a Triton that serves `load` and lets only holders of `key` change it."""
    return [
        str(program),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        # Explicit mode, since a dead stub comes back only by loading its model again.
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in load),
        f"--grpc-address={endpoints.address}",
        f"--grpc-port={endpoints.grpc}",
        f"--http-address={endpoints.address}",
        f"--http-port={endpoints.http}",
        f"--metrics-address={endpoints.address}",
        f"--metrics-port={endpoints.metrics}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={key}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={key}",
        f"--allow-gpu-metrics={str(gpu_metrics).lower()}",
        f"--exit-timeout-secs={drain_s}",
    ]
