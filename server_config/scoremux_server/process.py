"""The tritonserver process: its command line, its start and its end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scoremux_server.bundled import environment, triton_folder
from scoremux_server.endpoints import LOOPBACK, Endpoints
from scoremux_server.errors import SetupError

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 4096


def command_line(models: Path, load: Sequence[str], backends: Path, endpoints: Endpoints, shm_prefix: str) -> list[str]:
    """Return tritonserver's argument vector."""
    return [
        str(triton_folder() / "bin" / "tritonserver"),
        f"--model-repository={models}",
        f"--backend-directory={backends}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix}",
        # Explicit mode, since a dead stub comes back only by unload and load.
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in load),
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={endpoints.grpc}",
        f"--http-address={LOOPBACK}",
        f"--http-port={endpoints.http}",
        f"--metrics-address={LOOPBACK}",
        f"--metrics-port={endpoints.metrics}",
        "--allow-gpu-metrics=false",
        "--exit-timeout-secs=10",
    ]


class TritonProcess:
    """A running tritonserver in a process group of its own, its output in `log`."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    arguments,
                    env=environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
                    preexec_fn=_end_with_parent if sys.platform == "linux" else None,
                )
        except OSError as error:
            raise SetupError(f"tritonserver cannot be started: {error}") from error

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end; None if it is still running after `timeout_s`."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, patience_s: float = 20.0) -> None:
        """Ask to stop, let requests in flight finish, then kill whatever of the group is left."""
        try:
            if self._process.poll() is None:
                self._process.terminate()
                self.wait(patience_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def memory_bytes(self) -> int:
        """Return the proportional set size of every process of the server's group: shared pages count once."""
        total_kib = 0
        for rollup in Path("/proc").glob("[0-9]*/smaps_rollup"):
            try:
                if os.getpgid(int(rollup.parent.name)) == self._process.pid:
                    total_kib += sum(int(n.split()[1]) for n in rollup.read_text().splitlines() if n.startswith("Pss:"))
            except OSError:
                continue  # it has just ended, or is somebody else's
        return total_kib * 1024

    def log_tail(self) -> str:
        """Return the last lines of Triton's log."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")


def _end_with_parent() -> None:
    # A watcher that is killed must not leave a server behind that nobody watches.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
