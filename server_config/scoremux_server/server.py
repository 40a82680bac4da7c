"""A running server: repository assembled, Triton started, canary scored; and all of it gone afterwards."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_server.bundled import make_backend_folder
from scoremux_server.endpoints import Endpoints
from scoremux_server.errors import SetupError
from scoremux_server.process import TritonProcess, command_line
from scoremux_server.readiness import wait_until_ready
from scoremux_server.repository import assemble
from scoremux_server.shared_memory import region_prefix, remove_regions


class Server:
    """A context manager around one Triton on 127.0.0.1.

    repository: model repository with `backbone/`; store: its task packages (default ``repository/store``);
    log: file for Triton's output (default ``repository/logs/triton.log``); runner: what computes, in which precision;
    backend: what serves the backbone as a Triton model of its own (see `assemble`), None to run it inside the scorer.
    """

    def __init__(
        self,
        repository: Path,
        endpoints: Endpoints,
        *,
        store: Path | None = None,
        log: Path | None = None,
        runner: RunnerChoice = REFERENCE,
        backend: str | None = None,
        ready_timeout_s: float = 120.0,
    ) -> None:
        self.endpoints = endpoints
        self.log = log or repository / "logs" / "triton.log"
        self._repository = repository
        self._store = store or repository / "store"
        self._runner = runner
        self._backend = backend
        self._ready_timeout_s = ready_timeout_s
        self.shm_prefix = region_prefix(secrets.token_hex(4))
        self._folder: Path | None = None
        self._process: TritonProcess | None = None

    def __enter__(self) -> Server:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        if self._folder is not None:
            raise SetupError("this server was started already; make another one")
        try:
            self._folder = Path(tempfile.mkdtemp(prefix="scoremux-"))
            models, backends = self._folder / "models", self._folder / "backends"
            models.mkdir()
            load = assemble(models, self._repository, self._store, self._runner, self._backend)
            make_backend_folder(backends)
            arguments = command_line(models, load, backends, self.endpoints, self.shm_prefix)
            self._process = TritonProcess(arguments, self.log)
            manifest = Store(self._store).manifest()
            wait_until_ready(self._process, self.endpoints.grpc_url, manifest, self._ready_timeout_s)
        except BaseException:
            self._clean_up()
            raise
        return self

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until Triton ends by itself; None if it still runs after `timeout_s`."""
        return self._process.wait(timeout_s) if self._process else None

    def memory_bytes(self) -> int:
        """Return what all processes of the server hold in memory (PSS)."""
        return self._process.memory_bytes() if self._process else 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        try:
            if self._process:
                self._process.stop()
        finally:
            remove_regions(self.shm_prefix)
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
