"""The files of a job."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_client.errors import InputError

SUFFIXES = (".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """One file as it was when the job began. size in bytes, mtime_ns as the file system says."""

    path: str
    size: int
    mtime_ns: int

    @property
    def kind(self) -> str:
        """The file's suffix, in lower case."""
        return Path(self.path).suffix.lower()

    def check(self) -> None:
        """Raise InputError if the file has changed since the job began."""
        if _stat(Path(self.path)) != self:
            raise InputError(f"{self.path} has changed since the job began; restore it, or start anew in another --out")


def expand(given: Sequence[str], *outs: Path) -> list[Source]:
    """Return the files of paths, folders and globs, in the order given, sorted within each.

    Folders are searched in depth for .jsonl, .csv and .parquet, but for names that begin with a dot or underscore. What
    is one of `outs` or under it is never a source. Raises InputError for what does not exist, a glob or folder without
    such files, and a file that is there twice.
    """
    own = {out.resolve() for out in outs}
    sources: list[Source] = []
    seen: dict[Path, str] = {}
    for name in given:
        found = [p for p in _files(name) if own.isdisjoint((p.resolve(), *p.resolve().parents))]
        if not found:
            raise InputError(f"{name}: there are no {', '.join(SUFFIXES)} files")
        for path in found:
            if path.resolve() in seen:
                raise InputError(f"{path} is there twice: {seen[path.resolve()]} and {name} both name it")
            seen[path.resolve()] = name
            sources.append(_stat(path))
    return sources


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if not any(_hidden(part) for part in p.relative_to(path).parts))
        yield from (p for p in inside if p.suffix.lower() in SUFFIXES and p.is_file())
    elif not path.exists() and glob.has_magic(name):
        matches = (Path(match) for match in sorted(glob.glob(name, recursive=True)))  # noqa: PTH207
        yield from (match for match in matches if match.suffix.lower() in SUFFIXES and match.is_file())
    elif path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: rows are read from {', '.join(SUFFIXES)} files")
    else:
        yield path


def _hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _stat(path: Path) -> Source:
    try:
        status = path.stat()
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return Source(str(path), status.st_size, status.st_mtime_ns)
