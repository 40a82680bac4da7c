"""True readiness: a row that went in over gRPC and came out scored."""

from __future__ import annotations

import time

from scoremux_client import NO_RETRIES, Response, ScoringClient, Status, TransportError
from scoremux_engine.store.manifest import Manifest
from scoremux_server.errors import StartError
from scoremux_server.process import TritonProcess

_CANARY_TEXT = "This is a canary."
_CANARIES = 64


def wait_until_ready(process: TritonProcess, grpc_url: str, manifest: Manifest, timeout_s: float) -> None:
    """Return once the canary is answered as it must be.

    Raises StartError, with the tail of Triton's log, if the process ends, the answer is wrong, or time runs out.
    """
    deadline = time.monotonic() + timeout_s
    # One damaged package must not keep the other tasks down: any scored task proves the server.
    canaries = [Response(task, _CANARY_TEXT) for task in sorted(manifest.tasks)[:_CANARIES] or ["no-task-yet"]]
    expected = Status.OK if manifest.tasks else Status.UNKNOWN_TASK
    cause = "no answer yet"
    while time.monotonic() < deadline:
        if process.exit_status is not None:
            raise StartError(f"Triton stopped with status {process.exit_status}:\n{process.log_tail()}")
        try:
            with ScoringClient(grpc_url, timeout_s=10, retries=NO_RETRIES) as client:
                statuses = {scored.status for scored in client.score(canaries)}
        except TransportError as error:
            cause = str(error)
            time.sleep(0.1)
            continue
        if expected not in statuses:
            raise StartError(f"no canary was scored ({', '.join(statuses)}):\n{process.log_tail()}")
        return
    raise StartError(f"Triton was not ready after {timeout_s:.0f} s ({cause}):\n{process.log_tail()}")
