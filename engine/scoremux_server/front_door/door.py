"""The front door: HAProxy as a child process, with its files, which are loaded again when they change."""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scoremux_engine.scoring.permission import read_key
from scoremux_files.digests import Stamp
from scoremux_files.errors import writing
from scoremux_server.errors import SetupError, StartError
from scoremux_server.front_door import haproxy_config
from scoremux_server.front_door.access_tokens import GRANT_S, AccessTokenFile
from scoremux_server.front_door.config import ANY, DOOR_HEADER, I_KNOW, Backend, FrontDoorConfig, door_mark
from scoremux_server.front_door.haproxy import Haproxy, find_program
from scoremux_server.triton.endpoints import bracketed, reserve
from scoremux_server.triton.installation import SAFE
from scoremux_server.triton.run_files import RUN

_TICK_S = 0.5
_ASKED_S = 2.0
_RETRY_S = 10.0


@dataclass(frozen=True)
class DoorSettings:
    """The content of a front door's files when they were read.

    Attributes:
        pems: Content of the certificates and keys, by the names of their copies.
        stamps: Of door.toml and of the files in `pems`, each from before the file was read.
    """

    config: FrontDoorConfig
    pems: dict[str, bytes] = field(repr=False)
    stamps: dict[Path, Stamp | None]

    @classmethod
    def read(cls, file: Path) -> "DoorSettings":
        """Return the content of the files now. Raises SetupError naming what is wrong or missing."""
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

    A changed file is loaded without losing a request; where one is wrong or missing, those before stay in use.
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
        self._read_access_tokens()
        self._granted_at = self._apply_at = 0.0
        self._reload_wanted = False
        self._refused, self._refusal = dict[Path, Stamp | None](), ""
        self._failures: set[str] = set()

    @property
    def config(self) -> FrontDoorConfig:
        """The content of door.toml, or that of before it was wrong."""
        return self._settings.config

    @property
    def url(self) -> str:
        return f"{bracketed(self.config.address)}:{self.config.port}"

    def rendered(self) -> str:
        """Return haproxy.cfg as a start would write it."""
        return haproxy_config.render(self.config, Path(RUN), self._key)

    def reload(self) -> None:
        """Have all files loaded again soon, though none may have changed."""
        self._reload_wanted = True

    def look_behind(self) -> None:
        """Report each Triton behind the door that does not answer yet, or that gets no requests as it is.

        Those with TLS are left to HAProxy. Raises SetupError where the door would refuse every request.
        """
        refusals = []
        for backend in self.config.backends:
            if backend.ca:
                continue
            try:
                answer = httpx.head(f"http://{backend.ready}/readyz", timeout=_ASKED_S, trust_env=False)
            except httpx.HTTPError:
                unanswered = f"nothing answers at {backend.ready}"
                self._report(f"{unanswered}: requests get 503 until `scoremux serve` is ready there")
                continue
            mark = answer.headers.get(DOOR_HEADER, "")
            if refusal := _refusal(self.config, backend, self._key, mark):
                refusals.append(refusal)
        if refusals and len(refusals) == len(self.config.backends):
            raise SetupError("; ".join(refusals))
        for refusal in refusals:
            self._report(refusal)

    def run(self, stop: threading.Event, opened: Callable[[], None] = lambda: None) -> None:
        """Run HAProxy until `stop` is set; requests in flight then finish. It ends with the thread that calls this.

        `opened` is called once, when HAProxy has started.

        Raises:
            SetupError: The port is taken, or a file cannot be written.
            StartError: HAProxy ended by itself.
        """
        _reserve(self.config)
        with writing(Path("a temporary folder"), SetupError):
            temporary = tempfile.TemporaryDirectory(prefix="scoremux-door-")
        with temporary as name:
            folder = Path(name)
            self._note_grants(time.time())
            with writing(folder, SetupError):
                self._write(folder, self._settings)
            if len(self.config.backends) > 1 and self.config.arithmetic != ANY:
                self._report(f"only Tritons that compute in {self.config.arithmetic} get rows (`arithmetic`)")
            self.haproxy = Haproxy(self._program, folder, self._log)
            try:
                if not stop.wait(_TICK_S) and self.haproxy.exit_status is None:
                    opened()
                while not stop.wait(_TICK_S):
                    if (status := self.haproxy.exit_status) is not None:
                        raise StartError(f"HAProxy ended with status {status}; its own messages say why")
                    self.look()
                    if time.time() - self._granted_at > GRANT_S:
                        raise StartError("HAProxy has loaded no new grants for two hours: start it again")
                self.haproxy.stop(self.config.drain_s)
            finally:
                self.haproxy.kill()

    def look(self) -> None:
        """Load changed files, and new grants in time. A failure is reported once, and tried again."""
        failures = set()
        for load in (self._load_files, self._load_access_tokens):
            try:
                load()
            except Exception as error:  # nothing unforeseen may close the door
                failures.add(str(error) or type(error).__name__)
        for failure in failures - self._failures:
            self._report(f"the front door keeps its files of before: {failure}")
        self._failures = failures

    def _load_files(self) -> None:
        if not (self._reload_wanted or self._settings.changed):
            return
        settings = DoorSettings.read(self._file)
        refused = settings.stamps == self._refused and time.time() < self._apply_at
        if refused and not self._reload_wanted:
            raise SetupError(self._refusal)  # HAProxy would log its complaint again with each look
        _reserve(settings.config, self.config.port)
        self._reload_wanted = False
        try:
            self._apply(settings)
        except Exception as error:
            self._refused, self._refusal = settings.stamps, str(error)
            self._write(self.haproxy.folder, self._settings)  # for the next reload
            raise
        self._settings = settings
        self._report("the front door's configuration was loaded again")

    def _load_access_tokens(self) -> None:
        try:
            if self._access_tokens_from != (self.config.tokens, _stamp(self.config.tokens)):
                self._read_access_tokens()
                self._apply_at = 0.0
        finally:  # the tokens that were read last need new grants too while their file is away
            if time.time() >= self._apply_at:
                self._apply(self._settings)

    def _read_access_tokens(self) -> None:
        file = self.config.tokens
        stamp = _stamp(file)
        self._access_tokens, self._access_tokens_from = AccessTokenFile(file).read(), (file, stamp)

    def _apply(self, settings: DoorSettings) -> None:
        """Have HAProxy load settings and tokens."""
        now = time.time()
        self._apply_at = now + _RETRY_S
        self._write(self.haproxy.folder, settings)
        self.haproxy.reload()
        self._note_grants(now)

    def _note_grants(self, granted_at: float) -> None:
        self._granted_at, self._apply_at = granted_at, granted_at + GRANT_S / 2

    def _write(self, folder: Path, settings: DoorSettings) -> None:
        """Write the files that HAProxy loads, with grants that begin now."""
        now = time.time()
        rendered = haproxy_config.render(settings.config, folder, self._key)
        tokens = "".join(f"{token.map_line(self._key, now)}\n" for token in self._access_tokens)
        haproxy_config.write(folder, rendered, tokens, settings.pems)


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


def _refusal(config: FrontDoorConfig, backend: Backend, key: bytes, mark: str) -> str:
    """Return why a Triton gets no requests, with the remedy; empty if it gets some."""
    restart = f"restart it with `scoremux serve --set grant_key_file={config.grant_key}`"
    if not mark:
        return f"the server at {backend.ready} checks no grants: {restart}"
    safe = door_mark(key, safe=True)
    if not mark.startswith(safe):
        return f"the server at {backend.ready} has another grant key: {restart}"
    if mark != safe and config.is_open and not config.i_know:
        return (
            f"address is {config.address}, and the Triton at {backend.ready} has known security holes: take "
            f'127.0.0.1, or Triton {SAFE} or newer, or in a closed network i_know = "{I_KNOW}"'
        )
    return ""
