"""The front door: HAProxy with its files, which are loaded again when they change."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from scoremux_engine.scoring.permission import KEY_BYTES, read_key
from scoremux_files.atomic import replace_file
from scoremux_server.errors import SetupError
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.access_tokens import GRANT_S, Token, TokenFile
from scoremux_server.front_door.config import ANY, Backend, FrontDoorConfig
from scoremux_server.front_door.followed_files import FollowedFiles
from scoremux_server.front_door.haproxy import TOKENS_MAP, Haproxy, find_program
from scoremux_server.triton.endpoints import bracketed, reserve
from scoremux_server.triton.run_files import RUN, RunFiles

_SOON_S = 14 * 86400.0


def grant_key(config: FrontDoorConfig) -> bytes:
    """Return the key of the door's grants: the file's, or a new one. Raises GrantError."""
    return read_key(config.grant_key) if config.grant_key else secrets.token_hex(KEY_BYTES).encode()


@dataclass(frozen=True)
class DoorSettings:
    """What HAProxy runs with, read once: a restart needs no file that may have changed.

    Attributes:
        config: What door.toml says.
        backends: The Tritons behind the door.
        pems: Certificates and keys by the names of their copies.
    """

    config: FrontDoorConfig
    backends: tuple[Backend, ...]
    pems: dict[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, file: Path, backend: Backend | None) -> DoorSettings:
        """Return what the files say now. Raises SetupError naming what is wrong or missing."""
        config = FrontDoorConfig.read(file)
        return cls(config, (*((backend,) if backend else ()), *config.backends), config.read_pems(file))


class FrontDoor:
    """A context manager around one HAProxy, and what a `Watcher` keeps running. Alone it restarts nothing.

    With each `look`, changed tokens take effect, in requests on old connections too, and a changed configuration or
    certificate is loaded without losing a connection; one that is wrong or missing is reported, and the one before
    stays in use.

    Attributes:
        restarts: Number of restarts.
        reloads: Number of configurations that were loaded again.
        run: Its temporary folder.
        haproxy: The HAProxy behind it.
    """

    name = "HAProxy"

    def __init__(
        self,
        file: Path,
        log: Path,
        backend: Backend | None = None,
        report: Callable[[str], None] = lambda _: None,
        key: bytes | None = None,
        haproxy: type[Haproxy] = Haproxy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises SetupError or GrantError.

        Args:
            file: door.toml.
            log: File that HAProxy's output is appended to.
            backend: The Triton that is started beside this door; it comes before those of `file`.
            report: Called with a sentence for each thing that happens.
            key: Signs the grants; by default what `grant_key` says.
            haproxy: Starts and asks HAProxy.
            clock: Seconds since the epoch.
        """
        self.restarts = self.reloads = 0
        self.run = RunFiles()
        self.haproxy = haproxy(find_program(), self.run.path, log)
        self._file = file
        self._backend = backend
        self._report = report
        self._settings = DoorSettings.read(file, backend)
        self._key = key or grant_key(self.config)
        self._clock = clock
        self._tokens: tuple[Token, ...] = ()
        self._granted_at = 0.0
        self._failure = ""
        files = FollowedFiles(lambda: (file, *(path for _, path in self.config.pems.values())), self._reload, report)
        self._followed = (files, FollowedFiles(lambda: [self.config.tokens], self._load_tokens, report))

    @property
    def config(self) -> FrontDoorConfig:
        """What door.toml says, or said before it was wrong."""
        return self._settings.config

    @property
    def url(self) -> str:
        """The address of the door, as ``host:port``."""
        return f"{bracketed(self.config.address)}:{self.config.port}"

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return haproxy_config.render(self.config, self._settings.backends, Path(RUN), self._key)

    def __enter__(self) -> FrontDoor:
        """Start. Raises SetupError or StartError, and leaves nothing behind then."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, _stop: threading.Event | None = None) -> None:
        """Check the files and start HAProxy. Raises SetupError or StartError."""
        self._settings = DoorSettings.read(self._file, self._backend)
        if not self._settings.backends:
            raise SetupError(f"{self._file}: there is no Triton behind this door; name one in [[backends]]")
        self._tokens = TokenFile(self.config.tokens).read()
        _reserve(self.config)
        self.run.make()
        self._check(self._settings)
        self._report_expiry()
        if len(self._settings.backends) > 1 and self.config.arithmetic != ANY:
            self._report(f"only Tritons that compute in {self.config.arithmetic} get rows (`arithmetic` of door.toml)")
        self._start_haproxy()

    def look(self) -> str:
        """Load what has changed; return why HAProxy must be restarted, or nothing."""
        try:
            if cause := self.haproxy.trouble():
                return cause
            self._follow()
            if self._clock() - self._granted_at > GRANT_S / 2:
                self._send_tokens()  # those that were read last: their file may be away
            self._failure = ""
        except Exception as error:  # nothing unforeseen may close the door
            before, self._failure = self._failure, f"the front door goes on after {type(error).__name__}: {error}"
            if self._failure != before:
                self._report(self._failure)
        return ""

    def wait(self) -> None:
        """Do nothing during a pause before a restart: `restart` loads what has changed."""

    def restart(self, _stop: threading.Event | None = None) -> None:
        """End HAProxy and start it with the files of now, or of before if they are wrong."""
        self.restarts += 1
        self.kill()
        self._follow()
        self._start_haproxy()

    def kill(self) -> None:
        """End HAProxy at once."""
        self.haproxy.kill()

    def stop(self) -> None:
        """Let requests in flight finish, then remove everything."""
        try:
            self.haproxy.stop(self.config.drain_s)
        finally:
            self.run.remove()

    def _follow(self) -> None:
        for files in self._followed:
            files.look()

    def _start_haproxy(self) -> None:
        self.run.make()  # it may have been removed meanwhile
        self._granted_at = self._clock()
        self._write(self._settings, self.run.path)
        self.haproxy.start()

    def _reload(self) -> None:
        before, after = self._settings, DoorSettings.read(self._file, self._backend)
        _reserve(after.config, before.config.port)
        self.run.make()
        self._check(after)
        try:
            self._write(after, self.run.path)
            if self.haproxy.running:
                self.haproxy.reload()
        except BaseException:
            self._write(before, self.run.path)
            raise
        self._settings = after
        self.reloads += 1
        # Workers that finish their requests read no files: a token may have been revoked together with this change.
        self._followed[1].forget()
        self._report("the front door's configuration was loaded again")
        self._report_expiry()

    def _report_expiry(self) -> None:
        expiry_s, certificate = self.config.expiry_s(), self.config.certificate
        if expiry_s - self._clock() < _SOON_S:
            day = datetime.fromtimestamp(expiry_s, timezone.utc).date()
            self._report(f"{certificate} expires on {day}, and clients refuse it then; a new file is loaded at once")

    def _load_tokens(self) -> None:
        self._tokens = TokenFile(self.config.tokens).read()
        if self.haproxy.running:
            self._send_tokens()

    def _send_tokens(self) -> None:
        now, lines = self._clock(), self._map_lines()
        replace_file(self.run.path / TOKENS_MAP, [lines.encode()], mode=0o600)
        self.haproxy.replace_tokens(lines)
        self._granted_at = now

    def _map_lines(self) -> str:
        """Return the tokens' map with grants that begin now."""
        now = self._clock()
        return "".join(f"{token.map_line(self._key, now)}\n" for token in self._tokens)

    def _write(self, settings: DoorSettings, folder: Path) -> Path:
        rendered = haproxy_config.render(settings.config, settings.backends, folder, self._key)
        return haproxy_config.write(folder, rendered, self._map_lines(), settings.pems)

    def _check(self, settings: DoorSettings) -> None:
        # In a folder of its own: a running HAProxy that starts again must not find what it would refuse.
        folder = self.run.path / "next"
        folder.mkdir(exist_ok=True)
        self.haproxy.check(self._write(settings, folder))


def _reserve(config: FrontDoorConfig, used: int = 0) -> None:
    """Raise SetupError where the port is taken, but for one that this door uses already."""
    # The kernel would share it with another process that allows it, and HAProxy does.
    if config.port != used:
        reserve(config.address.replace("*", "0.0.0.0"), config.port, "front door's")
