"""The running front door: HAProxy started, kept running, and loaded again when its files change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from scoremux_server.errors import SetupError
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.access_tokens import Tokens
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.door_files import Loaded, Watched, grant_key
from scoremux_server.front_door.haproxy import TOKENS_MAP, Haproxy, find_program
from scoremux_server.triton.endpoints import LOOPBACK, bracketed, reserve
from scoremux_server.triton.process import ChildProcess
from scoremux_server.triton.run_files import RUN, Run

_TICK_S = 0.2
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class FrontDoor:
    """A context manager around one HAProxy, which a thread keeps running.

    Changed tokens take effect within a second, in requests on old connections too. A changed configuration or
    certificate is loaded without losing a connection; one that is wrong or missing is reported, and the one before
    stays in use.
    """

    def __init__(
        self,
        file: Path,
        log: Path,
        own: Backend | None = None,
        report: Callable[[str], None] = lambda _: None,
        key: bytes | None = None,
    ) -> None:
        """Raises SetupError or GrantError.

        Args:
            file: door.toml.
            log: Where HAProxy's output goes.
            own: The Triton that is started beside this door; it comes before those of `file`.
            report: Called with a sentence for each thing that happens.
            key: Signs the grants; by default what `grant_key` says.
        """
        self.file = file
        self._own = own
        self._report = report
        self._loaded = Loaded.read(file, own)
        self._key = key or grant_key(self.config)
        self._run = Run()
        self._haproxy = Haproxy(find_program(), self._run.folder, log)
        self._log = log
        self._tokens = ""
        self._cause, self._pause_s, self._due = "", 0.0, 0.0
        self.restarts = self.reloads = 0
        self._stop, self._up = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._keep, name="scoremux-front-door")
        self._files = Watched(lambda: (file, *(path for _, path in self.config.pems.values())), self._reload, report)
        self._token_file = Watched(lambda: [self.config.tokens], self._load_tokens, report)

    @property
    def config(self) -> FrontDoorConfig:
        """What door.toml says, or said before it was wrong."""
        return self._loaded.config

    @property
    def url(self) -> str:
        """Where the door listens, as ``host:port``."""
        return f"{bracketed(self.config.address)}:{self.config.port}"

    @property
    def haproxy(self) -> Haproxy:
        """The HAProxy behind it."""
        return self._haproxy

    @property
    def process(self) -> ChildProcess:
        """HAProxy's master process. Raises SetupError before the start."""
        return self._haproxy.process

    @property
    def backends(self) -> tuple[Backend, ...]:
        """The Tritons behind it."""
        return self._loaded.backends

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return haproxy_config.render(self.config, self.backends, Path(RUN), self._key)

    def __enter__(self) -> FrontDoor:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        if not self.backends:
            raise SetupError(f"{self.file}: there is no Triton behind this door; name one in [[backends]]")
        self._run.begin()
        try:
            self._loaded = Loaded.read(self.file, self._own)  # a change before this line is not seen as one
            self._haproxy = Haproxy(find_program(), self._run.folder, self._log)  # the run may have got another name
            self._tokens = self._read_tokens()
            _reserve(self.config)
            self._check(self._loaded)
            self._thread.start()
        except BaseException:
            self._run.end()
            raise
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

    def _keep(self) -> None:
        """Start, watch and heal until told to stop. HAProxy ends with this thread, however that ends."""
        try:
            self._start()
            self._up.set()
            self._watch()
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()
            try:
                self._haproxy.stop(self.config.drain_s)
            finally:
                self._run.end()

    def _watch(self) -> None:
        said = ""
        while not self._stop.wait(_TICK_S):
            try:
                running = self._heal()
                if self._files.look(running) and not running:
                    self._due = 0.0  # it may start now
                self._token_file.look(running)
            except Exception as error:  # whatever it is, it must not close the door
                sentence = f"the front door goes on after {type(error).__name__}: {error}"
                if sentence != said:
                    self._report(sentence)
                said = sentence

    def _heal(self) -> bool:
        """Start HAProxy again if it ended or hangs, and a pause is over; return whether it runs."""
        self._cause = self._cause or self._haproxy.trouble()
        if not self._cause:
            return True
        if time.monotonic() < self._due:
            return False
        pause = f" after {self._pause_s:g} s" if self._pause_s else ""
        self._report(f"{self._cause}; starting it again{pause}")
        self.restarts += 1
        self.process.kill()
        try:
            self._start()
        except Exception as error:
            self._cause = str(error) or type(error).__name__
            self.process.kill()
            self._pause_s = min(max(2 * self._pause_s, _PAUSE_S), _LONGEST_PAUSE_S)
            self._due = time.monotonic() + self._pause_s
            return False
        self._cause, self._pause_s, self._due = "", 0.0, 0.0
        return True

    def _start(self) -> None:
        self._run.make_folder()  # it may have been removed meanwhile
        self._write(self._loaded, self._run.folder)
        self._haproxy.start()

    def _reload(self, running: bool) -> None:
        before, after = self._loaded, Loaded.read(self.file, self._own)
        _reserve(after.config, (before.config.port, before.config.metrics_port))
        self._check(after)
        try:
            self._write(after, self._run.folder)
            if running:
                self._haproxy.reload()
        except BaseException:
            self._write(before, self._run.folder)
            raise
        self._loaded = after
        self.reloads += 1
        # Workers that finish their requests read no files: a token may have been revoked together with this change.
        self._token_file.forget()
        self._report("the front door's configuration was loaded again")

    def _load_tokens(self, running: bool) -> None:
        self._tokens = self._read_tokens()
        haproxy_config.write_private(self._run.folder / TOKENS_MAP, self._tokens.encode())
        if running:
            self._haproxy.replace_tokens(self._tokens)

    def _read_tokens(self) -> str:
        return "".join(f"{token.map_line(self._key)}\n" for token in Tokens(self.config.tokens).read())

    def _write(self, loaded: Loaded, folder: Path) -> Path:
        rendered = haproxy_config.render(loaded.config, loaded.backends, folder, self._key)
        return haproxy_config.write(folder, rendered, self._tokens, loaded.pems)

    def _check(self, loaded: Loaded) -> None:
        # In a folder of its own: a running HAProxy that starts again must not find what it would refuse.
        folder = self._run.folder / "next"
        folder.mkdir(exist_ok=True)
        self._haproxy.check(self._write(loaded, folder))


def _reserve(config: FrontDoorConfig, own: tuple[int, ...] = ()) -> None:
    # The kernel would share them with another process that allows it, and HAProxy does.
    ports = [(config.address.replace("*", "0.0.0.0"), config.port, "front door's")]
    ports += [(LOOPBACK, port, "front door's metrics") for port in (config.metrics_port,) if port]
    for address, port, name in ports:
        if port not in own:
            reserve(address, port, name)
