"""What a running front door follows: its files, its tokens, and the addresses of backends that are given by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from scoremux_server.endpoints import LOOPBACK, reserve
from scoremux_server.errors import ControlError, ServerError, SetupError
from scoremux_server.front_door import rendering
from scoremux_server.front_door.complaints import sentences
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.haproxy import Haproxy
from scoremux_server.front_door.master import Master
from scoremux_server.front_door.names import Names
from scoremux_server.front_door.runtime_api import ask, move, replace_map
from scoremux_server.front_door.snapshot import Snapshot

_RELOAD_S = 30.0
_LOOK_UP_S = 3.0
_TRY_AGAIN_S = 5.0
_TOKENS_AGAIN_S = 1.0
_AGAIN = object()
"""What no file ever looks like."""


class Follower:
    """Reads the files once, and again when they change. What is wrong is reported, and what was before stays.

    snapshot: what HAProxy runs with, or will at its next start. reloads: how often another one took its place.
    """

    def __init__(
        self,
        file: Path,
        own: Backend | None,
        program: Haproxy,
        master: Master,
        names: Names,
        report: Callable[[str], None],
    ) -> None:
        """Raises SetupError or OSError."""
        self._file = file
        self._own = own
        self._program = program
        self._master = master
        self._names = names
        self._report = report
        self._wrong, self._tried = "", 0.0
        self._unread, self._tokens_tried = "", 0.0
        self._not_taken: object = None
        self.reloads = 0
        self.snapshot = Snapshot.read(file, own, self._look_up)
        self._seen, self._tokens_seen = self.snapshot.files_look, self.snapshot.tokens_look
        _reserve(self.snapshot.config)
        self.snapshot.check(program, self._aside)

    def follow(self, running: bool) -> bool:
        """Load what changed, into HAProxy too if it is `running`; return whether a start finds other files now."""
        loaded = self._follow_files(running)
        self._follow_names(running)
        return loaded

    @property
    def _aside(self) -> Path:
        # A running HAProxy that starts again for another reason must not find what it would refuse.
        return self._master.folder / "next"

    def _look_up(self, backends: Sequence[Backend], wait_s: float = _LOOK_UP_S) -> Mapping[str, str]:
        return self._names.ask(set(rendering.names(backends).values()), wait_s)

    def _follow_files(self, running: bool) -> bool:
        files, tokens = self.snapshot.look_at_files(), self.snapshot.look_at_tokens()
        # Again and again too: what was wrong may have been a file that is written after the others, or named anew.
        again = bool(self._wrong) and time.monotonic() - self._tried > _TRY_AGAIN_S
        if files == self._seen and not again:
            waited = not self._unread or time.monotonic() - self._tokens_tried > _TOKENS_AGAIN_S
            if tokens != self._tokens_seen and waited:
                self._load_tokens(tokens, running)
            return False
        known = self._wrong if files == self._seen else ""
        self._seen, self._tried, self._wrong = files, time.monotonic(), ""
        try:
            self._reload(running)
        except Exception as error:
            self._wrong = str(error) or type(error).__name__
            if self._wrong != known:  # what is wrong is said once
                self._stays(self._wrong)
            return False
        self._report("the front door's configuration was loaded again")
        return True

    def _reload(self, running: bool) -> None:
        after = Snapshot.read(self._file, self._own, self._look_up)
        before = self.snapshot
        _reserve(after.config, (before.config.port, before.config.metrics_port))
        after.check(self._program, self._aside)
        try:
            after.write(self._master.folder)
            if running:
                self._load(after)
        except BaseException:
            before.write(self._master.folder)
            raise
        self.snapshot, self._seen = after, after.files_look
        # A token may have been revoked with it: workers that finish what they have do not read it from files.
        self._tokens_seen = _AGAIN
        self.reloads += 1

    def _load(self, snapshot: Snapshot) -> None:
        answer = ask(self._master.socket, "reload", _RELOAD_S)
        if "Success=1" not in answer:
            said = snapshot.translated(sentences(answer) or [answer], self._master.folder)
            raise ControlError(f"HAProxy did not reload: {said}")

    def _load_tokens(self, look: object, running: bool) -> None:
        self._tokens_seen, self._tokens_tried = look, time.monotonic()
        try:
            lines = rendering.token_lines(self.snapshot.config)
            self.snapshot = replace(self.snapshot, tokens=lines)
            path = self._master.folder / rendering.TOKENS_MAP
            path.write_text(lines, encoding="utf-8")
            if running:
                replace_map(self._master.socket, path, lines)
            self._unread = ""
        except (ServerError, OSError) as error:
            self._tokens_seen = _AGAIN  # a token may be revoked
            kept = "; the tokens of before stay valid until then" if isinstance(error, SetupError) else ""
            if str(error) != self._unread:
                self._stays(f"{error}{kept}")
            self._unread = str(error)
            if isinstance(error, ControlError) and look != self._not_taken:
                # A worker that starts reads them from the file.
                self._seen, self._not_taken = None, look

    def _follow_names(self, running: bool) -> None:
        before, addresses = self.snapshot.addresses, self._look_up(self.snapshot.backends, wait_s=0.0)
        for sentence in self._names.news():
            self._report(sentence)
        moved = {name: address for name, address in addresses.items() if before.get(name) != address}
        if not moved:
            return
        self.snapshot = replace(self.snapshot, addresses=addresses)
        try:
            self.snapshot.write(self._master.folder)  # what a start will find
            for server, name in rendering.names(self.snapshot.backends).items():
                if running and name in moved:
                    move(self._master.worker, server, moved[name])
        except (ServerError, OSError) as error:
            self._report(f"the front door is loaded again: {error}")
            self._seen = None

    def _stays(self, why: str) -> None:
        self._report(f"the front door stays as it was: {why}")


def _reserve(config: FrontDoorConfig, own: tuple[int, ...] = ()) -> None:
    # The kernel would share them with another process that allows it, and HAProxy does.
    ports = [(config.address.replace("*", "0.0.0.0"), config.port, "front door's")]
    ports += [(LOOPBACK, port, "front door's metrics") for port in (config.metrics_port,) if port]
    for address, port, name in ports:
        if port not in own:
            reserve(address, port, name)
