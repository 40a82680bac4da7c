"""The front door: HAProxy as a child process, with its files, which are loaded again when they change."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from scoremux_engine.scoring.permission import read_key
from scoremux_files.atomic import replace_file
from scoremux_files.digests import Stamp
from scoremux_files.errors import writing
from scoremux_server.errors import ControlError, SetupError, StartError
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.access_tokens import GRANT_S, TokenFile
from scoremux_server.front_door.behind import look_behind
from scoremux_server.front_door.config import ANY, FrontDoorConfig
from scoremux_server.front_door.haproxy import TOKENS_MAP, Haproxy, find_program
from scoremux_server.triton.endpoints import bracketed, reserve
from scoremux_server.triton.run_files import RUN

_TICK_S, _STARTS_S = 0.5, 0.05
_SOON_S = 14 * 86400.0
_RETRY_S = 30.0
_TOKENS_S = 60.0
"""How long HAProxy may not take the tokens before the door ends: a revoked one works, and grants end, meanwhile."""


@dataclass(frozen=True)
class DoorSettings:
    """What the files of a front door said when they were read.

    Attributes:
        pems: Content of the certificates and keys, by the names of their copies.
        stamps: Of door.toml and of the files in `pems`, each from before the file was read.
    """

    config: FrontDoorConfig
    pems: dict[str, bytes] = field(repr=False)
    stamps: dict[Path, Stamp | None]

    @classmethod
    def read(cls, file: Path) -> DoorSettings:
        """Return what the files say now. Raises SetupError naming what is wrong or missing."""
        stamps = {file: _stamp(file)}
        config = FrontDoorConfig.read(file)
        stamps |= {path: _stamp(path) for _, path in config.pems.values()}
        return cls(config, config.read_pems(file), stamps)

    @property
    def changed(self) -> bool:
        """Whether a file is another one since."""
        return any(_stamp(path) != stamp for path, stamp in self.stamps.items())


class FrontDoor:
    """One HAProxy and the files that it runs with. It ends when HAProxy does: a supervisor starts it again.

    Changed tokens take effect within a second, in requests on open connections too. A changed configuration or
    certificate is loaded without losing a request; where one is wrong or missing, the one before stays in use.
    """

    haproxy: Haproxy
    """The one that `run` has started."""

    def __init__(
        self, file: Path, report: Callable[[str], None] = lambda _: None, log: Path = Path("/dev/stdout")
    ) -> None:
        """Read the files. `report` is called with a sentence for each event. Raises SetupError or GrantError."""
        self._file, self._report, self._log = file, report, log
        self._program = find_program()
        self._settings = DoorSettings.read(file)
        self._key = read_key(self.config.grant_key)
        self._read_tokens()
        self._granted_at = 0.0
        self._reload_wanted = False
        self._refused, self._refusal, self._retry_at = dict[Path, Stamp | None](), "", 0.0
        self._tokens_wait_since: float | None = None
        self._failures: set[str] = set()

    @property
    def config(self) -> FrontDoorConfig:
        """What door.toml says, or said before it was wrong."""
        return self._settings.config

    @property
    def url(self) -> str:
        return f"{bracketed(self.config.address)}:{self.config.port}"

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return haproxy_config.render(self.config, Path(RUN), self._key)

    def reload(self) -> None:
        """Have the configuration and the certificates loaded again soon, though none may have changed."""
        self._reload_wanted = True

    def look_behind(self) -> None:
        """Ask the Tritons behind the door what they are, and report what they are not. Raises SetupError."""
        look_behind(self.config, self._key, self._report)

    def run(self, stop: threading.Event, opened: Callable[[], None] = lambda: None) -> None:
        """Run HAProxy until `stop` is set; requests in flight then finish. It ends with the thread that calls this.

        `opened` is called once, when clients can connect.

        Raises:
            SetupError: The port is taken, or a file cannot be written.
            StartError: HAProxy ended by itself, or did not take the tokens for a minute.
        """
        _reserve(self.config)
        with writing(Path("a temporary folder"), SetupError):
            temporary = tempfile.TemporaryDirectory(prefix="scoremux-door-")
        with temporary as folder:
            self.haproxy = Haproxy(Path(folder))
            with writing(Path(folder), SetupError):
                self._write(self._settings)
            self._granted_at = time.time()
            self._report_expiry()
            if len(self.config.backends) > 1 and self.config.arithmetic != ANY:
                self._report(f"only Tritons that compute in {self.config.arithmetic} get rows (`arithmetic`)")
            self.haproxy.start(self._program, self._log)
            try:
                self._wait_until_open(stop, opened)
                while not stop.wait(_TICK_S):
                    if (status := self.haproxy.process.exit_status) is not None:
                        raise StartError(f"HAProxy ended with status {status}; its own messages say why")
                    self.look()
                    if self._tokens_wait_since and time.monotonic() - self._tokens_wait_since > _TOKENS_S:
                        raise StartError(f"HAProxy did not take the tokens for {_TOKENS_S:.0f} s: start it again")
                self.haproxy.stop(self.config.drain_s)
            finally:
                self.haproxy.process.kill()

    def _wait_until_open(self, stop: threading.Event, opened: Callable[[], None]) -> None:
        """Call `opened` as soon as HAProxy has its port; one that ended instead is left to the caller."""
        while self.haproxy.process.exit_status is None and not stop.wait(_STARTS_S):
            with suppress(ControlError):
                if self.haproxy.workers():
                    opened()
                    return

    def look(self) -> None:
        """Load what has changed. What fails is reported once, and tried again."""
        failures = set()
        for load in (self._load_files, self._load_tokens):
            try:
                load()
            except Exception as error:  # nothing unforeseen may close the door
                failures.add(str(error) or type(error).__name__)
        for failure in failures - self._failures:
            self._report(f"the front door keeps its files of before: {failure}")
        self._failures = failures

    def _load_files(self) -> None:
        if not (self._reload_wanted or self._settings.changed or self._refusal):
            return
        settings = DoorSettings.read(self._file)
        refused = self._refusal and settings.stamps == self._refused and time.monotonic() < self._retry_at
        if refused and not self._reload_wanted:
            raise ControlError(self._refusal)  # HAProxy would log its complaint again with each look
        _reserve(settings.config, self.config.port)
        self._reload_wanted = False
        try:
            self._write(settings)
            self.haproxy.reload()
        except Exception as error:
            self._refused, self._refusal = settings.stamps, str(error) or type(error).__name__
            self._retry_at = time.monotonic() + _RETRY_S
            raise
        self._settings, self._refusal = settings, ""
        self._report("the front door's configuration was loaded again")
        self._report_expiry()

    def _load_tokens(self) -> None:
        try:
            if self._tokens_from != (self.config.tokens, _stamp(self.config.tokens)):
                self._read_tokens()
                self._granted_at = 0.0
        finally:  # the tokens that were read last need new grants too while their file is away
            if time.time() - self._granted_at > GRANT_S / 2:
                self._tokens_wait_since = self._tokens_wait_since or time.monotonic()
                lines = self._map_lines()
                self.haproxy.replace_tokens(lines)
                self._granted_at, self._tokens_wait_since = time.time(), None
                replace_file(self.haproxy.folder / TOKENS_MAP, [lines.encode()], mode=0o600)

    def _read_tokens(self) -> None:
        file = self.config.tokens
        stamp = _stamp(file)
        self._tokens, self._tokens_from = TokenFile(file).read(), (file, stamp)

    def _map_lines(self) -> str:
        """Return the tokens' map with grants that begin now."""
        now = time.time()
        return "".join(f"{token.map_line(self._key, now)}\n" for token in self._tokens)

    def _write(self, settings: DoorSettings) -> None:
        folder = self.haproxy.folder
        rendered = haproxy_config.render(settings.config, folder, self._key)
        haproxy_config.write(folder, rendered, self._map_lines(), settings.pems)

    def _report_expiry(self) -> None:
        expiry_s, certificate = self.config.expiry_s(), self.config.certificate
        if expiry_s - time.time() < _SOON_S:
            day = datetime.fromtimestamp(expiry_s, timezone.utc).date()
            self._report(f"{certificate} expires on {day}, and clients refuse it then; a new file is loaded at once")


def _stamp(file: Path) -> Stamp | None:
    """Return the stamp of a file, None where it is missing."""
    try:
        return Stamp.of(file.stat())
    except OSError:
        return None


def _reserve(config: FrontDoorConfig, used: int = 0) -> None:
    """Raise SetupError where the port is taken, but for one that this door uses already."""
    # The kernel would share it with another process that allows it, and HAProxy does.
    if config.port != used:
        reserve(config.address.replace("*", "0.0.0.0"), config.port, "front door's")
