"""A running server: repository assembled, Triton started, canary scored; and all of it gone afterwards."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

from scoremux_client import GrpcTransport
from scoremux_engine.scoring.permission import HEADER, Grant
from scoremux_server import processes
from scoremux_server.canary import Answer, Canary, Verdict
from scoremux_server.command_line import command_line
from scoremux_server.control import Control
from scoremux_server.endpoints import Endpoints
from scoremux_server.errors import ControlError, SetupError, StartError
from scoremux_server.front_door.config import DOOR_HEADER, door_mark
from scoremux_server.front_door.rendering import write_private
from scoremux_server.installation import Installation
from scoremux_server.log_file import LogFile
from scoremux_server.process import TritonProcess
from scoremux_server.profile import Profile
from scoremux_server.repository import SCORER, assemble
from scoremux_server.run import Run

_REFERENCE = Profile()
_REFUSED_S = 2.0
"""What a server that works needs at most to refuse new rows; one that hangs is not waited for."""
_CANARY_GRANT_S = 10 * 365 * 24 * 3600
UNHEALTHY = "is not healthy"
"""Triton's word for a stub that does not answer."""

_UNSHELLED = re.compile(r"""[\s"'`$&;|<>()*?!#~\\\[\]{}]""")
"""What a shell reads otherwise than as a letter: Triton starts its stubs with one, and quotes nothing."""


class Server:
    """A context manager around one Triton.

    repository: model repository with `backbone/`; store: its task packages (default ``repository/store``);
    log: file for Triton's output (default ``repository/logs/triton.log``, or one beside it if that is taken);
    profile: everything else; installation: the Triton, if not the profile's on this machine;
    grant_key: requests then need a grant that is signed with it (`scoremux_engine.scoring.permission`).
    Alone it heals nothing: see `Watcher`.
    """

    def __init__(
        self,
        repository: Path,
        endpoints: Endpoints,
        *,
        store: Path | None = None,
        log: Path | None = None,
        profile: Profile = _REFERENCE,
        installation: Installation | None = None,
        grant_key: bytes | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.profile = profile
        self._log = log
        self._log_file: LogFile | None = None
        self._repository = repository
        self._store = store or repository / "store"
        self.installation = installation or Installation.find(profile.triton)
        self.installation.check_address(endpoints.address)
        self.installation.check_address(endpoints.metrics_host, "metrics_address")
        self.installation.check_backend(profile.backend)
        self._run = Run()
        self._grant_key = grant_key
        self.canary = Canary(endpoints.grpc_url, self._store, partial(GrpcTransport, headers=self._own_grant()))
        self._draw_key()
        self.models: list[str] = []
        self._prepared: list[Path] = []
        self._backends = Path()
        self._process: TritonProcess | None = None

    @property
    def log(self) -> Path:
        """Where Triton's output goes; before the start, where it shall."""
        return self._log_file.path if self._log_file else self._log or self._repository / "logs" / "triton.log"

    @property
    def shm_prefix(self) -> str:
        """What the names of this server's shared-memory regions start with."""
        return self._run.shm_prefix

    @property
    def process(self) -> TritonProcess:
        """The tritonserver of now. Raises SetupError before the start."""
        if self._process is None:
            raise SetupError("this server was not started")
        return self._process

    def __enter__(self) -> Server:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        try:
            self.launch()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> None:
        """Prepare the folder and start Triton, without waiting until it is ready."""
        if self.models:
            raise SetupError("this server was started already; make another one")
        if found := _UNSHELLED.search(str(self._run.folder)):
            place = str(self._run.folder.parent)
            raise SetupError(f"TMPDIR is {place!r}: Triton cannot take a folder with {found[0]!r} in its path")
        self._run.begin()
        self.models, self._backends = self.prepare(self._run.folder)
        self._prepared = list(self._run.folder.rglob("*"))
        if cause := self.canary.look_at_store():
            raise SetupError(cause)
        self._start_process()

    def prepare(self, folder: Path) -> tuple[list[str], Path]:
        """Write models and backends into `folder`; return the models to load, and the backends' folder."""
        models = folder / "models"
        models.mkdir()
        backend = None if self.profile.backend == "none" else self.profile.backend
        granting = {}
        if self._grant_key:
            granting = {"grant_key_file": str(folder / "grant.key")}
            write_private(folder / "grant.key", self._grant_key)
        load = assemble(
            models,
            self._repository,
            self._store,
            self.profile.choice,
            backend,
            bank_bytes=self.profile.bank_bytes,
            settings={**self.profile.observing, "metrics_labels": str(folder / "task-labels"), **granting},
        )
        return load, self.installation.backends(folder / "backends")

    @property
    def health_headers(self) -> dict[str, str]:
        """What the watcher's answers say to a front door: that grants are checked, with which key, by which Triton."""
        return {DOOR_HEADER: door_mark(self._grant_key, self.installation.is_safe)} if self._grant_key else {}

    def _own_grant(self) -> dict[str, str]:
        if not self._grant_key:
            return {}
        return {HEADER: Grant("canary", int(time.time()) + _CANARY_GRANT_S, ("*",)).signed(self._grant_key)}

    def arguments(self, folder: Path, load: list[str], backends: Path, *, key: str) -> list[str]:
        """Return tritonserver's argument vector."""
        return command_line(
            self.installation.program,
            folder / "models",
            load,
            backends,
            self.endpoints,
            shm_prefix=self.shm_prefix,
            key=key,
            drain_s=self.profile.drain_s,
            gpu_metrics=self.profile.gpu_metrics,
            trace_url=self.profile.trace_url,
            trace_rate=self.profile.trace_rate,
        )

    def wait_until_ready(
        self, stop: threading.Event | None = None, each_time: Callable[[], None] = lambda: None
    ) -> Answer | None:
        """Return the canary's answer once it is as it must be, or None if `stop` is set; `each_time`: on every look.

        Raises StartError, with the tail of Triton's log, if the process ends, its stub died, the answer is wrong, or
        time runs out. An answer counts only while the server on these ports is the one that was started here.
        """
        process, cause, hidden = self.process, "no answer yet", False
        deadline = time.monotonic() + self.profile.start_timeout_s
        while time.monotonic() < deadline and not (stop and stop.is_set()):
            each_time()
            if process.exit_status is not None:
                raise StartError(f"Triton stopped with status {process.exit_status}:\n{process.log_tail()}")
            if not hidden and process.has_read_its_arguments:
                processes.hide(process.pid, self._key)
                hidden = True
            self.canary.send()
            answer = self.canary.answer(0.05)
            if answer is None:
                continue
            if answer.good and self.control.is_ours(1.0):  # Triton opens the HTTP port after the gRPC port
                if not hidden:
                    processes.hide(process.pid, self._key)
                process.has_loaded()
                return answer
            if answer.verdict is Verdict.WRONG or UNHEALTHY in answer.cause:
                raise StartError(f"{answer.cause}:\n{process.log_tail()}")
            # Until Triton has opened its HTTP port, or where somebody else has it.
            cause = answer.cause or "the server on these ports is not the one that was started"
            time.sleep(0.05)
        if stop and stop.is_set():
            return None
        waited = self.profile.start_timeout_s
        raise StartError(f"Triton was not ready after {waited:g} s ({cause}):\n{process.log_tail()}")

    def restart(self) -> None:
        """End what is left of Triton at once, and start it on the same ports, without waiting until it is ready.

        Raises SetupError or OSError.
        """
        self.process.kill()
        self.canary.forget()
        self._run.remove_regions()
        if not all(path.is_symlink() or path.exists() for path in self._prepared):
            self._prepare_again()
        self._start_process()

    def reload(self, model: str) -> None:
        """Load a model again, with a new stub. Raises ControlError."""
        file = self._run.folder / "models" / model / "1" / "model.py"
        try:
            os.utime(file)  # makes `load` a real one. The old model's stub, dead by now, goes with it.
        except OSError as error:
            raise ControlError(f"{file} cannot be touched: {error.strerror}") from error
        self.control.load(model, self.profile.start_timeout_s)

    def versions(self) -> dict[str, str]:
        """Return the versions of what is running, by name."""
        return {"scoremux": version("scoremux"), "triton": self.installation.name, "runner": self.profile.runner}

    def memory_bytes(self) -> int:
        """Return what all processes of the server hold in memory (PSS)."""
        return processes.memory_bytes(self._process.pid) if self._process else 0

    def kill(self) -> None:
        """End the processes at once, rows in flight or not."""
        if self._process:
            self._process.kill()

    def stop(self) -> None:
        """Let rows in flight finish, refuse new ones, then remove everything."""
        self.canary.forget()
        try:
            if self._process:
                # At SIGTERM alone Triton goes on serving HTTP connections that are open, until its time is up.
                with contextlib.suppress(ControlError):
                    if self._process.exit_status is None:  # its port may be another's by now
                        self.control.unload(SCORER, _REFUSED_S)
                self._process.stop(self.profile.drain_s + 5)
        finally:
            self._run.end()
            if self._log_file:
                self._log_file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare_again(self) -> None:
        """Write what somebody removed: programs that tidy temporary folders take what is old."""
        self._run.make_folder()
        for part in ("models", "backends"):
            shutil.rmtree(self._run.folder / part, ignore_errors=True)
        self.prepare(self._run.folder)

    def _start_process(self) -> None:
        self._log_file = self._log_file or (LogFile(self._log) if self._log else LogFile.beside(self.log))
        variables = self.installation.environment(os.environ)
        # Whoever had the ports in between may have been shown the key before.
        self._draw_key()
        arguments = self.arguments(self._run.folder, self.models, self._backends, key=self._key)
        self._process = TritonProcess(arguments, variables, self._log_file)

    def _draw_key(self) -> None:
        self._key = secrets.token_hex(32)
        self.control = Control(self.endpoints.http_url, self._key)
