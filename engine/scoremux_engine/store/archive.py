"""A portable archive of task packages: a plain tar of `manifest.json` and `<digest>/<file>`, always the same bytes."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

from pydantic import Field

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import FILES, OPTIONAL, TASK_JSON, Opener, PackageFiles
from scoremux_engine.packages.task import Task, TaskId
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import MANIFEST_JSON, MAX_MANIFEST_BYTES, Digest, Manifest, parse_store_file
from scoremux_engine.store.reader import StoreReader
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file
from scoremux_files.digests import open_file, read_all
from scoremux_files.errors import reading, writing

_MEMBER = re.compile(f"{MANIFEST_JSON}|({DIGEST_PATTERN})/({'|'.join(map(re.escape, (*FILES, *OPTIONAL)))})")


class ArchiveManifest(Manifest):
    """The versions in an archive: those that become live where it is imported, and by digest those to pin there."""

    remedy: ClassVar[str] = "write the archive again with `scoremux tasks export`"
    pinned: dict[Digest, TaskId] = Field({})

    @property
    def versions(self) -> dict[str, str]:
        """Digest → task."""
        return {**self.pinned, **{digest: task for task, digest in self.tasks.items()}}


@dataclass(frozen=True)
class ImportResult:
    """What an import did, or would do.

    Attributes:
        changes: Of what is live.
        pinned: Digest → task of the versions that were pinned.
    """

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
    versions = {reference: store.find(reference) for reference in references}
    live = {task: digest for reference, (task, digest) in versions.items() if "@" not in reference}
    pinned = {digest: task for task, digest in versions.values() if digest not in live.values()}
    manifest = ArchiveManifest(
        backbone=store.manifest().backbone, tasks=dict(sorted(live.items())), pinned=dict(sorted(pinned.items()))
    )
    with writing(out, StoreError):
        replace_file(out, _blocks(store, manifest))
    return manifest.versions


def import_archive(store: Store, path: Path, backbone: Backbone, *, dry_run: bool = False) -> ImportResult:
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
    with _open_archive(path) as archive:
        manifest = _manifest(archive)
        if manifest.backbone != backbone.spec.digest:
            raise StoreError(f"{path} belongs to backbone {manifest.backbone[:12]}, not to {backbone.spec.digest[:12]}")
        packages = _packages(archive, manifest)
        live = [packages[digest] for digest in manifest.tasks.values()]
        pinned = [packages[digest] for digest in manifest.pinned]
        return ImportResult(store.publish(live, backbone, pinned=pinned, dry_run=dry_run), manifest.pinned)


def _blocks(store: StoreReader, manifest: ArchiveManifest) -> Iterator[bytes]:
    data = manifest.to_json()
    yield from _member(MANIFEST_JSON, len(data), [data])
    for digest in sorted(manifest.versions):
        files = PackageFiles.of(store.package_folder(digest))
        if files.digest() != digest:
            raise PackageError(f"{files.path} was changed; see `tasks verify`")
        for name in sorted(files.openers):
            yield from _member(f"{digest}/{name}", (files.path / name).stat().st_size, files.blocks(name))
    yield bytes(2 * tarfile.BLOCKSIZE)


def _member(name: str, size: int, blocks: Iterable[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    yield info.tobuf(tarfile.USTAR_FORMAT)
    yield from blocks
    yield bytes(-size % tarfile.BLOCKSIZE)


class _PlainMember(tarfile.TarInfo):
    """The header of a plain file. Links, devices, folders and extensions of the format are refused by name."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _PlainMember:
        info = super().frombuf(buf, encoding, errors)
        if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.size < 0:
            raise PackageError(f"{info.name!a} is not a plain file")
        if not _MEMBER.fullmatch(info.name):
            raise PackageError(f"{info.name!a} does not belong into an archive of tasks")
        return info


@contextmanager
def _open_archive(path: Path) -> Iterator[PackageFiles]:
    """Open an archive: its members by name. Raises PackageError where it holds anything but plain, known files."""
    with reading(path, PackageError):
        file = open_file(path)
    with file:
        try:
            tar = tarfile.open(fileobj=file, mode="r:", tarinfo=_PlainMember)  # noqa: SIM115
            members = tar.getmembers()
        except tarfile.TarError as error:
            raise PackageError(f"{path} is not a tar archive, or was cut short: {error}") from error
        except PackageError as error:
            raise PackageError(f"{path}: {error}") from error
        openers: dict[str, Opener] = {}
        for member in members:
            if member.name in openers:
                raise PackageError(f"{path} has {member.name} twice")
            openers[member.name] = cast(Opener, partial(tar.extractfile, member))
        yield PackageFiles(path, openers)


def _manifest(archive: PackageFiles) -> ArchiveManifest:
    if MANIFEST_JSON not in archive.openers:
        raise PackageError(f"{archive.path} is not an archive of tasks: it has no {MANIFEST_JSON}")
    with archive.open(MANIFEST_JSON) as file:
        data = read_all(file, MAX_MANIFEST_BYTES)
    return parse_store_file(ArchiveManifest, data, archive.path / MANIFEST_JSON)


def _packages(archive: PackageFiles, manifest: ArchiveManifest) -> dict[str, PackageFiles]:
    """Return the packages by digest. Raises PackageError where they are not those that the manifest names."""
    openers: dict[str, dict[str, Opener]] = {digest: {} for digest in manifest.versions}
    for member, opener in archive.openers.items():
        digest, _, name = member.partition("/")
        if name and digest not in openers:
            raise PackageError(f"{archive.path}/{digest} is not named in its {MANIFEST_JSON}")
        if name:
            openers[digest][name] = opener
    packages = {digest: PackageFiles(archive.path / digest, files) for digest, files in openers.items()}
    for digest, files in packages.items():
        task = manifest.versions[digest]
        if missing := [name for name in FILES if name not in files.openers]:
            raise PackageError(f"{archive.path} lacks {missing[0]} of version {digest[:12]} of {task}")
        if files.digest() != digest:
            raise PackageError(f"{files.path} was changed: its content has another digest")
        if (described := Task.parse(files.read(TASK_JSON), files.path / TASK_JSON).id) != task:
            raise PackageError(f"{files.path} is task {described}, not {task}")
    return packages
