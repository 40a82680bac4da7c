"""The store as its writers change it: one atomic change at a time, also with other writers."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import TRAINED_JSON, PackageFiles, is_whole
from scoremux_engine.packages.task_descriptions import describe
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import (
    LEVELS_JSONL,
    MAX_MANIFEST_BYTES,
    Manifest,
    VersionLevels,
)
from scoremux_engine.store.reader import StoreReader
from scoremux_files.atomic import NEW, OLD, append, replace_file, sync, write_blocks
from scoremux_files.digests import set_digest
from scoremux_files.errors import for_each, reason
from scoremux_files.locks import locked

LEFTOVERS = (NEW, OLD)


class _CheckedPackage(NamedTuple):
    """A package that was checked in full; its tensors are read again when it is written."""

    files: PackageFiles
    task: str
    digest: str


class Store(StoreReader):
    """A store that can be changed. Every change is on disk, or was never made, when a method returns or raises."""

    def add(self, folders: Sequence[Path], backbone: Backbone, *, dry_run: bool = False) -> list[Change]:
        """Check adapter folders in full, then publish all of them in one atomic change.

        An adapter without a `task.json` gets one (`packages.task_descriptions`).

        Returns:
            The changes, or would-be changes, by task.

        Raises:
            PackageError: A folder is wrong; nothing is published.
            StoreError: The store cannot be changed, or is for another backbone.
        """
        return self.publish([adapter.files for adapter in describe(folders, backbone)], backbone, dry_run=dry_run)

    def publish(
        self,
        packages: Sequence[PackageFiles],
        backbone: Backbone,
        *,
        before: Mapping[str, str] | None = None,
        action: str = "add",
        who: str = "",
        dry_run: bool = False,
    ) -> list[Change]:
        """Publish packages as `add` does; `who` does it, by default the user of the operating system.

        Raises StoreError where a version in `before` is not live any more.
        """

        def check(files: PackageFiles) -> _CheckedPackage:
            files.check_trained()
            package = TaskPackage.check(files, backbone)
            return _CheckedPackage(files, package.task.id, package.digest)

        checked = for_each(packages, check, PackageError, "adapters")
        refuse_duplicates([package.files for package in checked])
        if dry_run:
            manifest = self._current(backbone)
            self._refuse_claimed(manifest, [package.files for package in checked])
            return _changes(manifest, checked)
        with self.transaction(create=True):
            manifest = self._current(backbone)
            _refuse_changed(manifest, before or {})
            self._refuse_claimed(manifest, [package.files for package in checked])
            changes = _changes(manifest, checked)
            self._write_all(checked)
            self._replace_manifest(action, manifest, changes, who)
            return changes

    def rollback(
        self,
        task: str,
        to: str | None = None,
        *,
        before: str | None = None,
        action: str = "rollback",
        who: str = "",
    ) -> Change:
        """Make another version of a task live.

        Args:
            to: Digest of the version; by default the one that was live before the present one.
            before: Digest that must still be live, None for any.

        Raises:
            PackageError: That version is damaged, or one of its traits and another live task would have one id.
            StoreError: That version does not exist.
        """
        with self.transaction():
            digest = self.previous(task) if to is None else self.find(f"{task}@{to}")[1]
            self._refuse_damaged(task, digest)
            manifest = self.manifest()
            _refuse_changed(manifest, {task: before} if before else {})
            self._refuse_claimed(manifest, [self.files(digest)])
            change = Change(task, manifest.tasks.get(task), digest)
            self._replace_manifest(action, manifest, [change], who)
            return change

    def retire(self, tasks: Collection[str]) -> list[Change]:
        """Take tasks out of the manifest; their packages stay. Raises StoreError naming one that is not live."""
        with self.transaction():
            changes = [Change(task, self.find(task)[1], None) for task in dict.fromkeys(tasks)]
            self._replace_manifest("retire", self.manifest(), changes)
            return changes

    def _refuse_claimed(self, manifest: Manifest, packages: Sequence[PackageFiles]) -> None:
        """Raise PackageError where a trait and a task, live or new, have one id."""
        new = {files.task.id: files for files in packages}
        tasks = {**manifest.tasks, **new}
        for task, files in new.items():
            item, _, _ = task.rpartition(".")
            ids = set(files.task.scales) if files.task.traits else set()
            claimed = next((name for name in ids if name in tasks), None)
            if item in tasks and claimed is None:
                live = new.get(item) or self.files(manifest.tasks[item])
                claimed = task if live.task.traits and task in live.task.scales else None
            if claimed:
                item = claimed.rpartition(".")[0]
                raise PackageError(f"{files.path}: {claimed} would be both a task and a trait of {item}; rename one")

    def _refuse_damaged(self, task: str, digest: str) -> None:
        files = PackageFiles(self.package_folder(digest))
        if not files.path.exists():
            removed = f"version {digest[:12]} of {task} was removed from {self.folder} by `tasks gc`"
            raise StoreError(f"{removed}{self._versions_hint(task)}")
        if files.digest() != digest or files.task.id != task:
            raise PackageError(f"{files.path} is damaged: it is not version {digest[:12]} of {task}")

    @contextmanager
    def transaction(self, create: bool = False) -> Iterator[None]:
        """Hold the writers' lock, after completing the history of a writer that died. OSErrors become StoreErrors."""
        if self.origin:
            raise StoreError(f"{self.folder} follows {self.origin.url}; publish into the store that is copied there")
        if not create:
            self.manifest_bytes()
        try:
            if create:
                self.packages_path.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                self.history.recover()
                yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise StoreError(f"{self.folder} cannot be changed: {reason(error)}{where}") from error

    def _current(self, backbone: Backbone) -> Manifest:
        """Return the manifest, an empty one of a new store. Raises StoreError if it is lost or of another backbone."""
        digest = backbone.spec.digest
        if not self.stamp() and self.history.path.exists():
            raise StoreError(f"{self.manifest_path} is missing; restore it from a copy, or publish into a new store")
        manifest = self.manifest() if self.stamp() else Manifest(backbone=digest)
        if manifest.backbone != digest:
            raise StoreError(
                f"{self.folder} belongs to backbone {manifest.backbone[:12]}, not to {digest[:12]}; "
                "use a new store, or export the backbone it was made for"
            )
        return manifest

    def _replace_manifest(self, action: str, manifest: Manifest, changes: Sequence[Change], who: str = "") -> None:
        """Replace the manifest and append to the history; after a crash in between, the next change completes it."""
        changes = [change for change in changes if change.before != change.after]
        if not changes and self.stamp():
            return
        after = {**manifest.tasks, **{change.task: change.after for change in changes}}
        live = {task: digest for task, digest in sorted(after.items()) if digest is not None}
        published = [self.packages_path / change.after for change in changes if change.after]
        trained = any((folder / TRAINED_JSON).exists() for folder in published)
        file_format = 2 if trained else manifest.format
        content = Manifest(format=file_format, backbone=manifest.backbone, tasks=live).to_json()
        self._list_levels([folder.name for folder in published], live.values())
        self.history.record_intent(action, changes, content, who)
        try:
            replace_file(self.manifest_path, [content])
        except OSError:
            with suppress(OSError, StoreError):
                self.history.recover()
            raise
        try:
            self.history.recover()
        except (OSError, StoreError) as error:
            raise StoreError(
                f"the change is live, but {self.history.path} cannot be written: {reason(error)}; "
                "the next change of this store writes the missing lines"
            ) from error

    def _list_levels(self, published: Sequence[str], live: Iterable[str]) -> None:
        """Append the levels of published versions to `levels.jsonl`; a new file gets those of all live versions."""
        path = self.folder / LEVELS_JSONL
        with suppress(FileNotFoundError):
            if path.stat().st_size > MAX_MANIFEST_BYTES // 2:  # most of its versions are not live any more
                path.unlink()
        lines = list[bytes]()
        for digest in published if path.exists() else live:
            with suppress(PackageError):
                scale = self.files(digest).task.scale
                lines.append(VersionLevels(digest=digest, scale=scale).model_dump_json().encode() + b"\n")
        with suppress(OSError):
            append(path, b"".join(lines))

    def _write_all(self, packages: Sequence[_CheckedPackage]) -> None:
        """Write packages into the store. If one fails, those written before it are removed."""
        written: list[Path] = []
        try:
            for package in packages:
                folder = self.packages_path / package.digest
                if is_whole(folder, package.digest):
                    continue
                if folder.exists():  # damaged
                    remove_folder(folder)
                _write_package(folder, package)
                written.append(folder)
        except BaseException:
            for folder in written:
                with suppress(OSError):
                    remove_folder(folder)
            raise


def remove_folder(folder: Path) -> None:
    """Remove a folder: its name disappears at once, its content after that."""
    aside = Path(tempfile.mkdtemp(prefix=OLD, dir=folder.parent))
    folder.rename(aside)  # onto an empty folder
    shutil.rmtree(aside)


def _write_package(folder: Path, package: _CheckedPackage) -> None:
    """Write a package's files into a new folder that appears whole, or not at all.

    Raises PackageError where the files were changed since they were checked.
    """
    aside = Path(tempfile.mkdtemp(prefix=NEW, dir=folder.parent))
    try:
        written = {name: _copy(package.files, name, aside) for name in package.files.names}
        if set_digest(written) != package.digest:
            raise PackageError(f"{package.files.path} changed while it was being added")
        aside.chmod(0o755)
        sync(aside)
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    sync(folder.parent)


def _copy(files: PackageFiles, name: str, folder: Path) -> str:
    """Write one file durably; return its sha256."""
    handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        return write_blocks(handle, files.blocks(name))
    finally:
        os.close(handle)


def _changes(manifest: Manifest, packages: Sequence[_CheckedPackage]) -> list[Change]:
    return [Change(package.task, manifest.tasks.get(package.task), package.digest) for package in packages]


def _refuse_changed(manifest: Manifest, before: Mapping[str, str]) -> None:
    """Raise StoreError naming a task whose live version is not the one that a change rests on."""
    for task, digest in before.items():
        if manifest.tasks.get(task) != digest:
            raise StoreError(f"task {task} was changed meanwhile ({digest[:12]} is not live); run the command again")


def refuse_duplicates(packages: Sequence[PackageFiles]) -> None:
    """Raise PackageError where two packages are of one task."""
    paths: dict[str, Path] = {}
    for files in packages:
        if (task := files.task.id) in paths:
            raise PackageError(f"{files.path} and {paths[task]} are both task {task}")
        paths[task] = files.path
