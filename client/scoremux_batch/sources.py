"""The source files of a job: named by paths and folders, and checked to stay the same while the job runs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scoremux_files.digests import file_digest
from scoremux_files.errors import InputError, reading
from scoremux_files.rows.file_check import check_file
from scoremux_files.rows.readers import READERS, not_read
from scoremux_files.rows.row_layout import RowLayout

_SUFFIXES = ", ".join(READERS)


@dataclass(frozen=True)
class SourceFile:
    """One file as it was when the job began.

    Attributes:
        ctime_ns: When its content, owner or name last changed; no program can set it.
        sha256: Digest of the content; empty where it is not known.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0
    sha256: str = ""

    def check(self) -> None:
        """Raise InputError if the file has changed since the job began."""
        if not _stat(Path(self.path)).is_same(self):
            raise InputError(f"{self.path} has changed since the job began; restore it, or give another --out")

    def is_same(self, before: "SourceFile") -> bool:
        """Return whether a file is as it was. Its content is read where `ctime_ns` is another, as after a restore."""
        if self.size != before.size:
            return False
        if not before.sha256:
            return self.mtime_ns == before.mtime_ns
        return self.ctime_ns == before.ctime_ns or self.with_digest().sha256 == before.sha256

    def with_digest(self) -> "SourceFile":
        with reading(Path(self.path)):
            return replace(self, sha256=file_digest(Path(self.path)))


def expand(names: Sequence[str], *outs: Path) -> list[SourceFile]:
    """Return the files of paths and folders, in the order of `names`, sorted within each.

    Folders are searched in depth for files of rows; names that begin with a dot or underscore are left out.

    Args:
        outs: The job's outputs, which are left out with everything in them.

    Raises:
        InputError: a name does not exist, a folder has no such files, or a file is given twice.
    """
    excluded = {out.resolve() for out in outs}
    sources: list[SourceFile] = []
    name_of: dict[Path, str] = {}
    for name in names:
        paths = [path for path in _files(name) if excluded.isdisjoint((path.resolve(), *path.resolve().parents))]
        if not paths:
            raise InputError(f"{name}: there are no {_SUFFIXES} files")
        for path in paths:
            if path.resolve() in name_of:
                raise InputError(f"{path} is given twice, by {name_of[path.resolve()]} and by {name}")
            name_of[path.resolve()] = name
            sources.append(_stat(path))
    return sources


def check_sources(sources: Sequence[SourceFile], layout: RowLayout) -> None:
    """Raise InputError if a source cannot be read as a whole, or if all are empty."""
    filled = [check_file(Path(source.path), layout) for source in sources]
    if not any(filled):
        raise InputError(f"there are no rows in {', '.join(source.path for source in sources[:3])}")


def _files(name: str) -> Iterator[Path]:
    path = Path(name)
    if path.is_dir():
        inside = (p for p in sorted(path.rglob("*")) if not re.search(r"(^|/)[._]", p.relative_to(path).as_posix()))
        yield from (p for p in inside if p.suffix.lower() in READERS and p.is_file())
    elif path.suffix.lower() not in READERS:
        raise InputError(f"{path}: {not_read(path)}")
    else:
        yield path


def _stat(path: Path) -> SourceFile:
    with reading(path):
        status = path.stat()
        path.open("rb").close()
    return SourceFile(str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
