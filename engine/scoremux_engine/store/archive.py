"""A portable archive of task packages: a plain tar of `manifest.json` and `<digest>/<file>`, always the same bytes."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.source import FILES, OPTIONAL, TASK_JSON, Folder, Spans, spans_digest
from scoremux_engine.packages.span import Span, open_span
from scoremux_engine.packages.task import MAX_JSON_BYTES, Task
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import MAX_MANIFEST_BYTES, Manifest
from scoremux_engine.store.reader import StoreReader
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file

MANIFEST = "manifest.json"
_BLOCK = tarfile.BLOCKSIZE
_MEMBER = re.compile(f"({DIGEST_PATTERN})/({'|'.join(map(re.escape, (*FILES, *OPTIONAL)))})")


@dataclass(frozen=True)
class ArchivedPackage:
    """One package inside an open archive."""

    path: Path
    members: Spans

    @property
    def task(self) -> str:
        """The id that its task.json says."""
        described = self.members[TASK_JSON]
        return Task.parse(described.read_whole(MAX_JSON_BYTES), described.path).id

    @contextmanager
    def spans(self) -> Iterator[Spans]:
        yield self.members


@dataclass(frozen=True)
class Archive:
    """An open archive: its packages by digest, and the versions that are to be live."""

    path: Path
    manifest: Manifest
    packages: dict[str, ArchivedPackage]

    @property
    def not_live(self) -> list[str]:
        """Digests of the packages that do not become live."""
        live = set(self.manifest.tasks.values())
        return [digest for digest in self.packages if digest not in live]


@dataclass(frozen=True)
class Imported:
    """What an import did, or would do: changes of what is live, and digest → task of the versions that were pinned."""

    changes: list[Change]
    pinned: dict[str, str]


def export_archive(store: StoreReader, references: Sequence[str], out: Path) -> dict[str, str]:
    """Write versions of tasks to a file.

    Args:
        store: Where they are.
        references: `TASK`, to be live where it is imported, or `TASK@DIGEST`, to be pinned there.
        out: The file; it is replaced.

    Returns:
        Digest → task of the versions written.

    Raises:
        PackageError: A version is damaged.
        StoreError: There is no such version, or the file cannot be written.
    """
    found = [(*store.find(reference), "@" in reference) for reference in references]
    live = {task: digest for task, digest, pinned in found if not pinned}
    versions = {digest: task for task, digest, _ in found}
    manifest = Manifest(backbone=store.manifest().backbone, tasks=live).to_json()
    try:
        replace_file(out, _blocks(store, manifest, sorted(versions)))
    except OSError as error:
        raise StoreError(f"{out} cannot be written: {error.strerror}") from error
    return versions


def import_archive(store: Store, path: Path, backbone: Backbone, *, dry_run: bool = False) -> Imported:
    """Check an archive in full and publish it in one atomic change.

    Args:
        store: Where its versions go.
        path: The archive.
        backbone: What they must fit.
        dry_run: Check, and change nothing.

    Returns:
        What changed, or would change.

    Raises:
        PackageError: The archive or a package is wrong; nothing is published.
        StoreError: The store cannot be changed, or the archive is for another backbone.
    """
    with open_archive(path) as archive:
        if archive.manifest.backbone != backbone.spec.digest:
            raise StoreError(
                f"{path} belongs to backbone {archive.manifest.backbone[:12]}, not to {backbone.spec.digest[:12]}"
            )
        pinned = [archive.packages[digest] for digest in archive.not_live]
        live = [archive.packages[digest] for digest in archive.manifest.tasks.values()]
        changes = store.publish(live, backbone, pinned=pinned, dry_run=dry_run)
        return Imported(changes, {digest: archive.packages[digest].task for digest in archive.not_live})


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive and check its members; no data of a package is read yet.

    Raises:
        PackageError: It holds anything but plain files of the expected names, or sizes that the file does not have.
    """
    with ExitStack() as stack:
        try:
            span = stack.enter_context(open_span(path))
        except FileNotFoundError as error:
            raise PackageError(f"{path} cannot be read: {error.strerror}") from error
        yield _parse(span)


def _blocks(store: StoreReader, manifest: bytes, digests: Sequence[str]) -> Iterator[bytes]:
    yield _header(MANIFEST, len(manifest))
    yield manifest + bytes(-len(manifest) % _BLOCK)
    for digest in digests:
        with Folder(store.package_folder(digest)).spans() as spans:
            if spans_digest(spans) != digest:
                raise PackageError(f"{store.package_folder(digest)} was changed; see `tasks verify`")
            for name, span in sorted(spans.items()):
                yield _header(f"{digest}/{name}", span.size)
                yield from span.blocks()
                yield bytes(-span.size % _BLOCK)
    yield bytes(2 * _BLOCK)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _parse(file: Span) -> Archive:
    members = _members(file)
    described = members.pop(MANIFEST, None)
    if described is None:
        raise PackageError(f"{file.path} is no archive of tasks: it has no {MANIFEST}")
    manifest = Manifest.parse(described.read_whole(MAX_MANIFEST_BYTES), described.path)
    packages: dict[str, ArchivedPackage] = {}
    for digest in dict.fromkeys(name.partition("/")[0] for name in members):
        spans = {name: members[f"{digest}/{name}"] for name in (*FILES, *OPTIONAL) if f"{digest}/{name}" in members}
        if not set(FILES) <= set(spans):
            raise PackageError(f"{file.path}/{digest} is not whole: it has only {', '.join(sorted(spans))}")
        packages[digest] = ArchivedPackage(file.path / digest, spans)
    for task, digest in manifest.tasks.items():
        if digest not in packages:
            raise PackageError(f"{file.path} has no version {digest[:12]} of {task}")
    for digest, package in packages.items():
        if spans_digest(package.members) != digest:
            raise PackageError(f"{package.path} was changed: its content has another digest")
    for task, digest in manifest.tasks.items():
        if packages[digest].task != task:
            raise PackageError(f"{packages[digest].path} is task {packages[digest].task}, not {task}")
    return Archive(file.path, manifest, packages)


def _members(file: Span) -> dict[str, Span]:
    """Return the tar's members by name.

    tarfile itself follows extensions (long names, sparse files, links) before a caller can refuse them; here each
    header is read as a plain one and everything special is refused by name.
    """
    members: dict[str, Span] = {}
    offset = 0
    while True:
        if offset + _BLOCK > file.size:
            raise PackageError(f"{file.path} was cut short, or is no tar")
        header = file.read(offset, _BLOCK)
        if not any(header):
            return members
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise PackageError(f"{file.path} is no tar: at byte {offset} is no header") from error
        offset += _BLOCK
        _refuse_member(file, info, members, offset)
        members[info.name] = Span(file.path / info.name, file.fd, file.start + offset, info.size)
        offset += info.size + -info.size % _BLOCK


def _refuse_member(file: Span, info: tarfile.TarInfo, members: dict[str, Span], offset: int) -> None:
    name = ascii(info.name)
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise PackageError(f"{file.path}: {name} is no plain file")
    if info.name != MANIFEST and not _MEMBER.fullmatch(info.name):
        raise PackageError(f"{file.path}: {name} is no part of an archive of tasks")
    if info.name in members:
        raise PackageError(f"{file.path}: {name} is there twice")
    if not 0 <= info.size <= file.size - offset:
        raise PackageError(f"{file.path}: {name} claims {info.size} bytes, more than the file has")
