"""The running front door: HAProxy started, kept running, and kept as its files say."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from scoremux_server.endpoints import bracketed
from scoremux_server.errors import SetupError
from scoremux_server.front_door import rendering
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.follower import Follower
from scoremux_server.front_door.haproxy import Haproxy
from scoremux_server.front_door.master import Master
from scoremux_server.front_door.names import Names
from scoremux_server.front_door.supervisor import Condition, Supervisor
from scoremux_server.process import ChildProcess
from scoremux_server.run import RUN, Run

_TICK_S = 0.2
_LOOK_UP_S = 3.0


class FrontDoor:
    """A context manager around one HAProxy; what is beyond `__enter__` happens in a thread of its own.

    file: its configuration; own: the Triton that is started beside it, before those of the file; log: HAProxy's output;
    report: called with a sentence for each thing that happens; names: looks up backends that are given by name.
    Changed tokens take effect within a second, in requests on old connections too. A changed configuration or
    certificate is loaded without losing a connection; one that is wrong or missing is reported, and the one before
    stays. A backend whose name is not known (yet) keeps nothing closed; its address is followed.
    """

    def __init__(
        self,
        file: Path,
        log: Path,
        own: Backend | None = None,
        report: Callable[[str], None] = lambda _: None,
        names: Names | None = None,
    ) -> None:
        self._config = FrontDoorConfig.read(file)
        self._program = Haproxy()
        self._file = file
        self._log = log
        self._own = own
        self._report = report
        self._names = names or Names()
        self._run = Run()
        self._master = Master(self._program, self._run.folder, log)
        self._follower: Follower | None = None
        self._supervisor = Supervisor(self._master, self._prepare, report)
        self._stop, self._up = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._keep, name="scoremux-front-door")

    @property
    def config(self) -> FrontDoorConfig:
        """What door.toml says, or said before it was wrong."""
        return self._follower.snapshot.config if self._follower else self._config

    @property
    def url(self) -> str:
        """Where it listens, as ``host:port``."""
        return f"{bracketed(self.config.address)}:{self.config.port}"

    @property
    def process(self) -> ChildProcess:
        """HAProxy's master of now. Raises SetupError before the start."""
        return self._master.process

    @property
    def worker_socket(self) -> Path:
        """Where the worker of now takes commands."""
        return self._master.worker

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The Tritons behind it."""
        return (*((self._own,) if self._own else ()), *self.config.backends)

    @property
    def restarts(self) -> int:
        """How often HAProxy was started again."""
        return self._supervisor.restarts

    @property
    def reloads(self) -> int:
        """How often changed files were loaded."""
        return self._follower.reloads if self._follower else 0

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        addresses = self._names.ask(set(rendering.names(self.backends).values()), _LOOK_UP_S)
        return rendering.render(self.config, self.backends, Path(RUN), addresses)

    def __enter__(self) -> FrontDoor:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        if not self.backends:
            raise SetupError(f"{self._file}: there is no Triton behind this door; name one in [[backends]]")
        self._run.begin()
        self._master = Master(self._program, self._run.folder, self._log)  # the run may have taken another name
        self._supervisor = Supervisor(self._master, self._prepare, self._report)
        try:
            self._follower = Follower(self._file, self._own, self._program, self._master, self._names, self._report)
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

    def _prepare(self) -> None:
        """Write what a start reads, whatever became of it meanwhile."""
        if self._follower:
            self._run.make_folder()
            self._follower.snapshot.write(self._run.folder)

    def _keep(self) -> None:
        """Start, watch and heal until told to stop. HAProxy ends with this thread, however that ends."""
        try:
            self._prepare()
            self._master.start()
            self._up.set()
            self._watch()
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()
            try:
                self._master.end(self.config.drain_s)
            finally:
                self._run.end()

    def _watch(self) -> None:
        said = ""
        while not self._stop.wait(_TICK_S):
            try:
                self._look_after()
            except Exception as error:  # whatever it is, it must not close the door
                sentence = f"the front door goes on after {type(error).__name__}: {error}"
                if sentence != said:
                    self._report(sentence)
                said = sentence

    def _look_after(self) -> None:
        condition = self._supervisor.look_after()
        if (
            self._follower
            and condition is not Condition.SILENT
            and self._follower.follow(running=condition is Condition.UP)
        ):
            self._supervisor.hurry()
