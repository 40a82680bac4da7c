"""What a HAProxy runs with: read once, so that a start again and a way back need nothing that may have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_server.errors import SetupError
from scoremux_server.front_door import rendering
from scoremux_server.front_door.complaints import translated
from scoremux_server.front_door.config import Backend, FrontDoorConfig
from scoremux_server.front_door.haproxy import Haproxy

LookUp = Callable[[Sequence[Backend]], Mapping[str, str]]


@dataclass(frozen=True)
class Snapshot:
    """file: door.toml; backends: the Tritons; tokens: the map's lines; pems: content of certificates and keys, by the
    names that HAProxy knows; addresses: of backends' names; files_look, tokens_look: what the files looked like.
    """

    file: Path
    config: FrontDoorConfig
    backends: tuple[Backend, ...]
    tokens: str
    pems: Mapping[str, bytes] = field(repr=False)
    addresses: Mapping[str, str]
    files_look: object
    tokens_look: object

    @classmethod
    def read(cls, file: Path, own: Backend | None, look_up: LookUp) -> Snapshot:
        """Return what the files say now. Raises SetupError naming what is wrong or missing."""
        look = _look(file)  # before it is read: what changes meanwhile looks new then
        config = FrontDoorConfig.read(file)
        looks, tokens_look = (look, *map(_look, _paths(config))), _look(config.tokens)
        backends = (*((own,) if own else ()), *config.backends)
        try:
            pems = rendering.read_pems(config)
        except SetupError as error:
            raise SetupError(f"{file}: {error}") from error
        tokens = rendering.token_lines(config)
        return cls(file, config, backends, tokens, pems, look_up(backends), looks, tokens_look)

    def look_at_files(self) -> object:
        """Return what differs from `files_look` once one of the files that HAProxy reads has changed."""
        return tuple(map(_look, (self.file, *_paths(self.config))))

    def look_at_tokens(self) -> object:
        """Return what differs from `tokens_look` once the tokens have changed."""
        return _look(self.config.tokens)

    def write(self, folder: Path) -> Path:
        """Write haproxy.cfg and what it reads; return its path."""
        rendered = rendering.render(self.config, self.backends, folder, self.addresses)
        return rendering.write(folder, rendered, self.tokens, self.pems)

    def check(self, program: Haproxy, folder: Path) -> None:
        """Let HAProxy check it in a folder of its own. Raises SetupError."""
        folder.mkdir(exist_ok=True)
        if said := program.complaints(self.write(folder)):
            raise SetupError(f"HAProxy refuses the front door's configuration: {self.translated(said, folder)}")

    def translated(self, said: list[str], folder: Path) -> str:
        """Return what HAProxy says of the files in `folder` in the words of door.toml."""
        return translated(said, self.file, self.config, folder)


def _paths(config: FrontDoorConfig) -> list[Path]:
    return [path for _, path in config.pems.values()]


def _look(path: Path) -> object:
    """Return what changes whenever a file is written or replaced."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino
