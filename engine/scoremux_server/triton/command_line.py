"""Tritonserver's argument vector."""

from collections.abc import Sequence
from pathlib import Path

from scoremux_engine.scoring.permission import HEADER as GRANT_HEADER
from scoremux_server.profile import Profile
from scoremux_server.triton.endpoints import Endpoints, bracketed
from scoremux_server.triton.installation import Installation

KEY_HEADER = "scoremux-key"
RESTRICTED = "shared-memory,model-repository,trace,logging"
"""Triton's groups of calls that take the key: they change the server, and no client needs them."""

QUANTILES = "0.5:0.05,0.9:0.01,0.99:0.001"
"""Latency quantiles that Triton's metrics show, each with its error."""


def command_line(
    installation: Installation,
    profile: Profile,
    endpoints: Endpoints,
    *,
    models: Path,
    load: Sequence[str],
    backends: Path,
    shm_prefix: str,
    key: str,
) -> list[str]:
    """Return the arguments of a Triton that serves some models of a repository.

    Args:
        shm_prefix: The names of the Python backend's shared-memory regions start with it.
        key: The value of the header `KEY_HEADER` that calls of `RESTRICTED` need.
    """
    return [
        str(installation.program),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        # Explicit mode, since a stop unloads the scorer: that ends scoring over open HTTP connections, which SIGTERM
        # alone does not.
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in load),
        # The configurations are complete; to ask for more, Triton would start every stub twice.
        "--disable-auto-complete-config",
        # Triton's gRPC and HTTP servers write an IPv6 address in different ways.
        f"--grpc-address={bracketed(endpoints.address)}",
        f"--grpc-port={endpoints.grpc}",
        f"--http-address={_web(endpoints.address)}",
        f"--http-port={endpoints.http}",
        f"--metrics-address={_web(endpoints.metrics_host)}",
        f"--metrics-port={endpoints.metrics}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={key}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={key}",
        # The front door's grant reaches the scorer as a parameter of the request.
        f"--grpc-header-forward-pattern=(?i)^{GRANT_HEADER}$",
        f"--http-header-forward-pattern=(?i)^{GRANT_HEADER}$",
        f"--allow-gpu-metrics={str(not installation.bundled).lower()}",
        "--metrics-config=summary_latencies=true",
        f"--metrics-config=summary_quantiles={QUANTILES}",
        f"--exit-timeout-secs={profile.drain_s}",
    ]


def _web(address: str) -> str:
    return f"ipv6:{address}" if ":" in address else address
