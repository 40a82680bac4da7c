"""A running Triton: models written, tritonserver started, a canary scored; and all of it removed afterwards."""

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

import httpx

from scoremux_client import Transport
from scoremux_engine.backend.metrics import WAITING_ROWS
from scoremux_engine.backend.models import ARITHMETIC, BACKBONE, SCORER, STOPS_BY
from scoremux_engine.model.backbone import ONNX, SPEC, BackboneSpec, read_spec
from scoremux_engine.scoring.permission import HEADER, MOST_WEIGHT, WATCHER, Grant
from scoremux_files.atomic import replace_file
from scoremux_files.errors import writing
from scoremux_files.installed import commit
from scoremux_server.errors import InterruptedStartError, SetupError, StartError
from scoremux_server.profile import Profile
from scoremux_server.triton.canary import Answer, Canary, CanaryVerdict
from scoremux_server.triton.command_line import KEY_HEADER, command_line
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import Installation
from scoremux_server.triton.processes import TritonProcess, listens
from scoremux_server.triton.repository import assemble
from scoremux_server.triton.run_files import (
    RunFiles,
    check_memory,
    check_shared_memory,
    memory_free_bytes,
    shared_memory_free_bytes,
)

_DEFAULT = Profile()
_ASKED_S = 2.0
"""What Triton needs at most to refuse new rows, or to say how many it has; one that hangs is not waited for."""
_CANARY_GRANT_S = 10 * 365 * 24 * 3600
_UNHEALTHY = "is not healthy"
"""Triton's word for a stub that does not answer."""
_LOST_STUB = (_UNHEALTHY, "obtain the health mutex", "lock_exception")
"""What Triton's log says after it gave up a stub. The Python backend expects a sign of life every second while a model
loads; without one it frees the queues that the stub goes on using, so that either of them aborts, or both wait forever.
"""

_OURS = re.compile(r"Internal: \w+Error: (.+)")
_ERROR = re.compile(r"^(?:error: |E\d.*?\] |  what\(\):  )(.+)$", re.MULTILINE)
"""How Triton's log has a sentence of ours, and any other error."""

_UNSHELLED = re.compile(r"""[\s"'`$&;|<>()*?!#~\\\[\]{}]""")
"""Characters with a meaning for a shell: Triton starts its stubs with one, and quotes nothing."""


class TritonServer:
    """One Triton. The caller starts and stops it; a `Watcher` restarts it."""

    def __init__(
        self,
        repository: Path,
        endpoints: Endpoints,
        *,
        store: Path | None = None,
        log: Path | None = None,
        profile: Profile = _DEFAULT,
        grant_key: bytes | None = None,
    ) -> None:
        """Raises SetupError where this Triton cannot serve at these addresses or with this backend.

        Args:
            log: File that Triton's output is appended to (default: ``repository/logs/triton.log``).
            grant_key: Requests then need a grant that is signed with it (`scoremux_engine.scoring.permission`).
        """
        self.endpoints = endpoints
        self.profile = profile
        self.log = log or repository / "logs" / "triton.log"
        self.installation = Installation.find(profile.triton)
        self.installation.check_address(endpoints.address)
        self.installation.check_address(endpoints.metrics_host, "metrics_address")
        self.installation.check_backend(profile.backend)
        # A client with a token can hide a model's name from HAProxy, but must know it to reach that model.
        self.backbone_model = f"{BACKBONE}_{secrets.token_hex(16)}" if grant_key else BACKBONE
        self.run = RunFiles()
        self.repository = repository
        self.store = store or repository / "store"
        self._key = secrets.token_hex(32)
        self.grant_key = grant_key
        connect = partial(_connect, headers=canary_headers(grant_key))
        self.canary = Canary(endpoints.grpc_url, self.store, connect, exact=profile.equal_bits)
        self._process: TritonProcess | None = None

    @property
    def process(self) -> TritonProcess:
        """The current tritonserver. Raises SetupError before the start."""
        if self._process is None:
            raise SetupError("this server was not started")
        return self._process

    def launch(self) -> None:
        """Prepare the folder and start Triton, without waiting until it is ready."""
        if self._process:
            raise SetupError("this server was started already; make another one")
        if special := _UNSHELLED.search(str(self.run.path)):
            place = str(self.run.path.parent)
            raise SetupError(f"TMPDIR is {place!r}: Triton cannot take a folder with {special[0]!r} in its path")
        check_shared_memory(shared_memory_free_bytes())
        check_memory(memory_free_bytes(), self.repository / BACKBONE / "1" / ONNX)
        self._start_process()

    def command(self, folder: Path, key: str) -> list[str]:
        """Write models and backends into a folder, over an earlier call's; return tritonserver's argument vector."""
        models, backends = folder / "models", folder / "backends"
        with writing(folder, SetupError):
            for left in (models, backends):
                shutil.rmtree(left, ignore_errors=True)
            models.mkdir()
            settings = {**self.profile.scorer_parameters, "run_folder": str(folder)}
            if self.grant_key:
                settings["grant_key_file"] = str(folder / "grant.key")
                replace_file(folder / "grant.key", [self.grant_key], mode=0o600)
            load = assemble(
                models,
                self.repository,
                self.store,
                self.profile.choice,
                None if self.profile.backend == "none" else self.profile.backend,
                settings=settings,
                backbone_model=self.backbone_model,
            )
            return command_line(
                self.installation,
                self.profile,
                self.endpoints,
                models=models,
                load=load,
                backends=self.installation.backends(backends),
                shm_prefix=self.run.shm_prefix,
                key=key,
            )

    def wait_until_ready(
        self, stop: threading.Event | None = None, look: Callable[[str], None] = lambda _: None
    ) -> Answer | None:
        """Wait for a good canary. Return its answer, or None if `stop` was set.

        `look` is called many times a second with why the last canary was not good; its errors end the waiting.

        Raises:
            StartError: The process ended, or the answer is wrong; the message has the last error of Triton's log. An
                answer counts only if the server on these ports was started here.
            InterruptedStartError: Triton ended by a signal, or gave up its stub, or time ran out.
        """
        process, cause = self.process, "no answer yet"
        timeout_s = self.profile.start_timeout_s
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if stop and stop.is_set():
                return None
            look(cause)
            self.run.close_regions()  # a stub makes its region while it starts
            if process.exit_status is not None:
                raise self._start_error(process.exit_status)
            self.canary.send()
            answer = self.canary.answer(0.05)
            if answer is None:
                continue
            if answer.good and self._listens():
                return answer
            self._refuse_broken(answer)
            # Until Triton has opened its HTTP port, or if another program has it.
            cause = answer.cause or "the server on these ports is not the one that was started"
            time.sleep(0.02)
        raise InterruptedStartError(f"Triton was not ready after {timeout_s:g} s ({cause}); {self.log_says}")

    def _refuse_broken(self, answer: Answer) -> None:
        if (unhealthy := _UNHEALTHY in answer.cause) or answer.verdict is CanaryVerdict.WRONG:
            kind = InterruptedStartError if unhealthy else StartError
            raise kind(f"{answer.cause}; {self.log_says}")

    def _start_error(self, status: int) -> StartError:
        """Return the error of a Triton that ended while it started."""
        tail, cause = self.process.log_tail(), f"Triton stopped with status {status}"
        if any(words in tail for words in _LOST_STUB):
            cause += ": a stub died, or got no processor for a second"
            return InterruptedStartError(f"{cause}; {self.log_says}")
        if ours := _OURS.findall(tail):
            return StartError(f"{ours[-1]}\n(log: {self.log})")
        kind = InterruptedStartError if status < 0 else StartError
        return kind(f"{cause}; {self.log_says}")

    @property
    def log_says(self) -> str:
        """The last error in Triton's log, and where the log is."""
        errors = _ERROR.findall(self.process.log_tail())
        return f"{errors[-1]}\n(log: {self.log})" if errors else f"see {self.log}"

    def restart(self) -> None:
        """End Triton at once, and start it on the same ports, without waiting until it is ready.

        Its files are written again: programs that tidy temporary folders remove old ones. Raises SetupError.
        """
        self.process.kill()
        self.canary.forget()
        self.run.remove_regions()
        self._start_process()

    def versions(self) -> dict[str, str]:
        made = {"scoremux": version("scoremux"), "commit": commit()}
        return {**made, "triton": self.installation.name, "runner": self.profile.runner}

    @property
    def arithmetic(self) -> str:
        """The name of the arithmetic that the scorer computes in; empty before it is loaded."""
        file = self.run.path / ARITHMETIC
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def kill(self) -> None:
        """End the processes at once, with rows in flight or without."""
        if self._process:
            self._process.kill()

    def stop(self) -> None:
        """Let rows in flight finish, refuse new ones, then remove everything."""
        self.canary.forget()
        try:
            if self._process and self._listens():  # before, it has no rows
                with contextlib.suppress(OSError):
                    (self.run.path / STOPS_BY).write_text(str(time.time() + self.profile.drain_s), encoding="utf-8")
                self._process.stop(self.profile.drain_s + 5, self._refuse_rows, self._rows_wait)
        finally:
            self.kill()
            self.run.remove()

    def _start_process(self) -> None:
        self.run.make()
        arguments = self.command(self.run.path, self._key)
        exported = self.repository / BACKBONE / "1" / SPEC
        self.canary.backbone = read_spec(BackboneSpec, exported, "scoremux export backbone").digest
        if cause := self.canary.look_at_store():
            raise SetupError(cause)
        self._process = TritonProcess(arguments, self.installation.environment(os.environ), self.log)

    def _listens(self) -> bool:
        """Whether Triton's ports are those of the process that was started here, and not another program's."""
        return listens(self.process.pid, (self.endpoints.grpc, self.endpoints.http))

    def _refuse_rows(self) -> bool:
        """Unload the scorer, which finishes the rows it has; return whether Triton does so.

        At SIGTERM alone Triton would go on serving open HTTP connections until its timeout.
        """
        unload, key = f"/v2/repository/models/{SCORER}/unload", {KEY_HEADER: self._key}
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(self.endpoints.http_url + unload, headers=key, timeout=_ASKED_S, trust_env=False)
            return answer.status_code == HTTPStatus.OK
        return False

    def _rows_wait(self) -> bool:
        """Whether rows wait for their answers, as the scorer's metric says; True where it cannot be read."""
        with contextlib.suppress(httpx.HTTPError):
            text = httpx.get(self.endpoints.metrics_url, timeout=_ASKED_S, trust_env=False).text
            return any(map(float, re.findall(rf"^{WAITING_ROWS.name}{{.*}} (\S+)$", text, re.MULTILINE)))
        return True


def canary_headers(grant_key: bytes | None) -> dict[str, str]:
    """Return the grant of the canary, whose share of the work comes before those of tokens; without a key its name."""
    ends = int(time.time()) + _CANARY_GRANT_S
    return {HEADER: Grant(WATCHER, ends, ("*",), MOST_WEIGHT).signed(grant_key) if grant_key else WATCHER}


def _connect(url: str, headers: dict[str, str]) -> Transport:
    from scoremux_client import GrpcTransport  # imported while Triton starts

    return GrpcTransport(url, headers=headers)
