"""The running front door: HAProxy started, watched, reloaded when its files change, and started again when it dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from scoremux_server.endpoints import LOOPBACK, bracketed, reserve
from scoremux_server.errors import ControlError, ServerError, SetupError
from scoremux_server.front_door import rendering
from scoremux_server.front_door.complaints import sentences, translated
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.haproxy import Haproxy, ask, move, replace_map
from scoremux_server.front_door.master import Master
from scoremux_server.front_door.names import Names
from scoremux_server.process import ChildProcess
from scoremux_server.rendered import RUN
from scoremux_server.run import Run

_TICK_S = 0.2
_PING_EVERY_S = 1.0
_RELOAD_S = 30.0
_LOOK_UP_S = 3.0
_TRY_AGAIN_S = 5.0
_BACKOFF_S, _BACKOFF_MOST_S = 0.5, 30.0
_AGAIN = object()
"""What no file ever looks like."""


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
        self.config = FrontDoorConfig.read(file)
        self._haproxy = Haproxy()
        self._file = file
        self._log = log
        self._own = own
        self._report = report
        self._names = names or Names()
        self._addresses: dict[str, str] = {}
        self._lines = ""
        self._run = Run()
        self._master = Master(self._haproxy, self._run.folder, log)
        self._loaded: object = None
        self._tokens: object = None
        self._wrong, self._tried = "", 0.0
        self._pinged = 0.0
        self._unread = ""
        self._stop, self._up = threading.Event(), threading.Event()
        self._error: ServerError | None = None
        self._thread = threading.Thread(target=self._keep, name="scoremux-front-door")
        self.restarts = self.reloads = 0

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

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return rendering.render(self.config, self.backends, Path(RUN), self._look_up(_LOOK_UP_S))

    def __enter__(self) -> FrontDoor:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        if not self.backends:
            raise SetupError(f"{self._file}: there is no Triton behind this door; name one in [[backends]]")
        self._run.begin()
        self._master = Master(self._haproxy, self._run.folder, self._log)  # the run may have taken another name
        try:
            self._reserve()
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
        before = self.config, self._lines, self._addresses, self._loaded, self._tokens
        try:
            self.config = FrontDoorConfig.read(self._file)
            self._reserve(own=(before[0].port, before[0].metrics_port))
            self._write()
            answer = ask(self._master.socket, "reload", _RELOAD_S)
            if "Success=1" not in answer:
                said = sentences(answer) or [answer]
                raise ControlError(f"HAProxy did not reload: {self._translated(said, self._run.folder)}")
        except (ServerError, OSError):
            # What was seen too: the next look at the tokens finds what was revoked meanwhile.
            self.config, self._lines, self._addresses, self._loaded, self._tokens = before
            self._render(self._run.folder)  # what a restart will find
            raise
        self.reloads += 1

    def _reserve(self, own: tuple[int, ...] = ()) -> None:
        # The kernel would share them with another process that allows it, and HAProxy does.
        ports = [(self.config.address.replace("*", "0.0.0.0"), self.config.port, "front door's")]
        ports += [(LOOPBACK, port, "front door's metrics") for port in (self.config.metrics_port,) if port]
        for address, port, name in ports:
            if port not in own:
                reserve(address, port, name)

    def _write(self) -> None:
        self._loaded, self._tokens = self._files(), _look(self.config.tokens)
        self._lines = rendering.token_lines(self.config)
        self._addresses = self._look_up(_LOOK_UP_S)
        aside = self._run.folder / "next"
        aside.mkdir(exist_ok=True)
        # Checked aside: a running HAProxy that restarts for another reason must not find what it would refuse.
        if said := self._haproxy.complaints(self._render(aside)):
            raise SetupError(f"HAProxy refuses the front door's configuration: {self._translated(said, aside)}")
        self._render(self._run.folder)

    def _render(self, folder: Path) -> Path:
        return rendering.write(self.config, self.backends, folder, self._lines, self._addresses)

    def _translated(self, said: list[str], folder: Path) -> str:
        return translated(said, self._file, self.config, folder)

    def _look_up(self, wait_s: float = 0.0) -> dict[str, str]:
        return self._names.ask(set(rendering.names(self.backends).values()), wait_s)

    def _files(self) -> object:
        return tuple(map(_look, (self._file, *self.config.files)))

    def _keep(self) -> None:
        """Start, watch and heal until told to stop. HAProxy ends with this thread, however that ends."""
        try:
            self._master.start()
            self._up.set()
            self._watch()
        except ServerError as error:
            self._error = error
        finally:
            self._up.set()
            self._master.end(self.config.drain_s)
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
        if self.process.exit_status is not None:
            self._restart(f"HAProxy ended with status {self.process.exit_status}")
        elif time.monotonic() - self._pinged > _PING_EVERY_S:
            self._pinged = time.monotonic()
            if not self._master.answers(3.0):
                self._restart("HAProxy does not answer")
            self.process.bound_log(self.config.log_bytes)
        self._follow_files()
        self._follow_names()

    def _follow_files(self) -> None:
        files, tokens = self._files(), _look(self.config.tokens)
        # Again and again too: what was wrong may have been a file that is written after the others, or named anew.
        again = bool(self._wrong) and time.monotonic() - self._tried > _TRY_AGAIN_S
        if files != self._loaded or again:
            known = self._wrong if files == self._loaded else ""
            self._loaded, self._tried, self._wrong = files, time.monotonic(), ""
            try:
                self.reload()
                self._report("the front door's configuration was loaded again")
            except (ServerError, OSError) as error:
                self._wrong = "" if isinstance(error, ControlError) else str(error)
                if str(error) != known:  # what is wrong is said once
                    self._stays(error)
        elif tokens != self._tokens:
            self._tokens = tokens
            self._load_tokens()

    def _load_tokens(self) -> None:
        try:
            self._lines = rendering.token_lines(self.config)
            path = self._run.folder / rendering.TOKENS_MAP
            path.write_text(self._lines, encoding="utf-8")
            replace_map(self._master.socket, path, self._lines)
            self._unread = ""
        except (ServerError, OSError) as error:
            self._tokens = _AGAIN  # a token may be revoked
            kept = "; the tokens of before stay valid until then" if isinstance(error, SetupError) else ""
            if str(error) != self._unread:
                self._stays(SetupError(f"{error}{kept}"))
            self._unread = str(error)

    def _stays(self, error: Exception) -> None:
        self._report(f"the front door stays as it was: {error}")

    def _follow_names(self) -> None:
        addresses = self._look_up()
        for sentence in self._names.news():
            self._report(sentence)
        moved = {name: address for name, address in addresses.items() if self._addresses.get(name) != address}
        if not moved:
            return
        self._addresses = addresses
        try:
            self._render(self._run.folder)  # what a restart will find
            for server, name in rendering.names(self.backends).items():
                if name in moved:
                    move(self._master.worker, server, moved[name])
        except (ServerError, OSError) as error:
            self._report(f"the front door is loaded again: {error}")
            self._loaded = None

    def _restart(self, cause: str) -> None:
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            self._report(f"{cause}; starting it again" + (f" after {pause_s:g} s" if pause_s else ""))
            self.restarts += 1
            pause_s = min(max(2 * pause_s, _BACKOFF_S), _BACKOFF_MOST_S)
            self.process.kill()
            try:
                self._master.start()
                break
            except ServerError as error:
                cause = str(error)


def _look(path: Path) -> object:
    """Return what changes whenever a file is written or replaced."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino
