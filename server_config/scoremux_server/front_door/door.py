"""The running front door: HAProxy started, watched, reloaded when its files change, and started again when it dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from scoremux_server.endpoints import reserve
from scoremux_server.errors import ControlError, ServerError, SetupError, StartError
from scoremux_server.front_door import rendering
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.haproxy import Haproxy, ask, replace_map, workers
from scoremux_server.process import ChildProcess
from scoremux_server.rendered import RUN
from scoremux_server.run import Run

_TICK_S = 0.2
_PING_EVERY_S = 1.0
_START_S = 10.0
_RELOAD_S = 30.0
_ASK_AGAIN_S = 0.5
_BACKOFF_S, _BACKOFF_MOST_S = 0.5, 30.0


class FrontDoor:
    """A context manager around one HAProxy; what is beyond `__enter__` happens in a thread of its own.

    file: its configuration; own: the Triton that is started beside it, before those of the file; log: HAProxy's output;
    report: called with a sentence for each thing that happens.
    Changed tokens take effect within a second, in requests on old connections too. A changed configuration or
    certificate is loaded without losing a connection; one that is wrong is reported, and the one before stays.
    """

    def __init__(
        self, file: Path, log: Path, own: Backend | None = None, report: Callable[[str], None] = lambda _: None
    ) -> None:
        self.config = FrontDoorConfig.read(file)
        self._haproxy = Haproxy()
        self._file = file
        self._log = log
        self._own = own
        self._report = report
        self._run = Run()
        self._process: ChildProcess | None = None
        self._loaded: object = None
        self._tokens: object = None
        self._stop, self._up = threading.Event(), threading.Event()
        self._error: ServerError | None = None
        self._thread = threading.Thread(target=self._keep, name="scoremux-front-door")
        self.restarts = self.reloads = 0

    @property
    def url(self) -> str:
        """Where it listens, as ``host:port``."""
        host = self.config.address
        return f"{f'[{host}]' if ':' in host else host}:{self.config.port}"

    @property
    def process(self) -> ChildProcess:
        """HAProxy's master of now. Raises SetupError before the start."""
        if self._process is None:
            raise SetupError("this front door was not started")
        return self._process

    @property
    def worker_socket(self) -> Path:
        """Where the worker of now takes commands."""
        return self._run.folder / "worker.sock"

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The Tritons behind it."""
        return (*((self._own,) if self._own else ()), *self.config.backends)

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return rendering.render(self.config, self.backends, Path(RUN))

    def __enter__(self) -> FrontDoor:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        if not self.backends:
            raise SetupError(f"{self._file}: there is no Triton behind this door; name one in [[backends]]")
        self._run.begin()
        try:
            reserve(self.config.address.replace("*", "0.0.0.0"), self.config.port, "front door's")
            self._write()
        except BaseException:
            self._run.end()
            raise
        self._thread.start()
        self._up.wait()
        if self._error:
            self._thread.join()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let requests in flight finish, then remove everything."""
        self._stop.set()
        self._thread.join()

    def reload(self) -> None:
        """Load the configuration and the certificates again. Raises SetupError or ControlError; the old ones stay."""
        before, self.config = self.config, FrontDoorConfig.read(self._file)
        try:
            self._write()
            answer = ask(self._master, "reload", _RELOAD_S)
            if "Success=1" not in answer:
                raise ControlError(f"HAProxy did not reload: {answer}")
        except ServerError:
            self.config = before
            rendering.write(before, self.backends, self._run.folder)  # what a restart will find
            raise
        self.reloads += 1

    @property
    def _master(self) -> Path:
        return self._run.folder / "master.sock"

    def _write(self) -> None:
        self._loaded, self._tokens = self._files(), _look(self.config.tokens)
        aside = self._run.folder / "next"
        aside.mkdir(exist_ok=True)
        # Checked aside: a running HAProxy that restarts for another reason must not find what it would refuse.
        self._haproxy.check(rendering.write(self.config, self.backends, aside))
        rendering.write(self.config, self.backends, self._run.folder)

    def _files(self) -> object:
        return tuple(map(_look, (self._file, *self.config.files)))

    def _keep(self) -> None:
        """Start, watch and heal until told to stop. HAProxy ends with this thread, however that ends."""
        try:
            self._start()
            self._up.set()
            self._watch()
        except ServerError as error:
            self._error = error
        finally:
            self._up.set()
            if self._process:
                self._end(self._process)
            self._run.end()

    def _start(self) -> None:
        arguments = self._haproxy.arguments(self._run.folder / rendering.CONFIG, self._master)
        self._process = ChildProcess(arguments, os.environ, self._log)
        deadline = time.monotonic() + _START_S
        while not (self._answers(0.5) and self._master_answers()):
            if self._process.exit_status is not None or time.monotonic() > deadline:
                raise StartError(f"HAProxy did not start:\n{self._process.log_tail()}")
            time.sleep(0.02)

    def _watch(self) -> None:
        pinged = time.monotonic()
        while not self._stop.wait(_TICK_S):
            if self.process.exit_status is not None:
                self._restart(f"HAProxy ended with status {self.process.exit_status}")
            elif time.monotonic() - pinged > _PING_EVERY_S:
                if not self._answers(3.0):
                    self._restart("HAProxy does not answer")
                pinged = time.monotonic()
            self._follow_files()

    def _follow_files(self) -> None:
        try:
            if self._files() != self._loaded:
                self._loaded = self._files()  # what is wrong is said once
                self.reload()
                self._report("the front door's configuration was loaded again")
            elif (seen := _look(self.config.tokens)) != self._tokens:
                self._tokens = seen
                lines = rendering.token_lines(self.config)
                path = self._run.folder / rendering.TOKENS_MAP
                path.write_text(lines, encoding="utf-8")
                replace_map(self._master, path, lines)
        except (ServerError, OSError) as error:
            self._report(f"the front door stays as it was: {error}")

    def _restart(self, cause: str) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            self._report(f"{cause}; starting it again" + (f" after {pause_s:g} s" if pause_s else ""))
            self.restarts += 1
            pause_s = min(max(2 * pause_s, _BACKOFF_S), _BACKOFF_MOST_S)
            self.process.kill()
            try:
                self._start()
                break
            except ServerError as error:
                cause = str(error)

    def _answers(self, timeout_s: float) -> bool:
        try:
            return "Uptime" in ask(self.worker_socket, "show info", timeout_s)
        except ControlError:
            return False

    def _master_answers(self) -> bool:
        try:
            return bool(workers(self._master))
        except ControlError:
            return False

    def _end(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + self.config.drain_s
        asked = -_ASK_AGAIN_S
        while process.exit_status is None and time.monotonic() < deadline:
            # Again and again: a master that has just started or reloaded executes itself anew and may miss one.
            if time.monotonic() - asked >= _ASK_AGAIN_S:
                os.kill(process.pid, signal.SIGUSR1)
                asked = time.monotonic()
            time.sleep(0.02)
        process.kill()


def _look(path: Path) -> object:
    """Return what changes whenever a file is written or replaced."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
