"""The store as its writers change it: one atomic change at a time, whoever else is writing."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scoremux_client.files import locked, replace_file
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.source import Folder, Source, package_digest
from scoremux_engine.packages.task import Task
from scoremux_engine.store.durable import DAMAGED, remove_folder, write_package
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.reader import StoreReader

__all__ = ["Change", "Store"]


@dataclass(frozen=True)
class _Checked:
    """A package that was checked in full, and where it is read again when it is written."""

    source: Source
    task: str
    digest: str


class Store(StoreReader):
    """A store that can be changed. Every change is on disk, or was never made, when a method returns or raises."""

    def add(self, folders: Sequence[Path], backbone: Backbone, *, dry_run: bool = False) -> list[Change]:
        """Check adapter folders in full, then publish all of them in one atomic change.

        Raises PackageError (nothing is published) or StoreError.
        """
        return self.publish([Folder(folder) for folder in folders], backbone, dry_run=dry_run)

    def publish(
        self, sources: Sequence[Source], backbone: Backbone, *, beside: Sequence[Source] = (), dry_run: bool = False
    ) -> list[Change]:
        """As `add`, from any sources; those of `beside` are kept and pinned without becoming live."""
        checked = [_check(source, backbone) for source in sources]
        kept = [_check(source, backbone) for source in beside]
        _refuse_twins(checked)
        if dry_run:
            return _changes(self._current(backbone), checked)
        with self.changing(create=True):
            old = self._current(backbone)
            changes = _changes(old, checked)
            self._keep_all([*checked, *kept])
            if kept:
                self.pins.write({**self.pins.read(), **{one.digest: one.task for one in kept}})
            self._commit(old, changes)
            return changes

    def rollback(self, task: str, to: str | None = None, *, dry_run: bool = False) -> Change:
        """Make another version of a task live: `to`, or the one before the present by history.

        Raises PackageError where that version is damaged, StoreError where there is none.
        """

        def change() -> Change:
            digest = self.previous(task) if to is None else self.find(f"{task}@{to}")[1]
            folder = self.package_folder(digest)
            if not folder.exists():
                gone = f"version {digest[:12]} of {task} has left {self.folder}; `tasks gc` removes old ones"
                raise StoreError(f"{gone}{self._offer(task)}")
            if package_digest(folder) != digest or Task.read(folder).id != task:
                raise PackageError(f"{folder} is not version {digest[:12]} of {task} any more; see `tasks verify`")
            return Change(task, self.manifest().tasks.get(task), digest)

        if dry_run:
            return change()
        with self.changing():
            made = change()
            self._commit(self.manifest(), [made])
            return made

    def retire(self, tasks: Collection[str], *, dry_run: bool = False) -> list[Change]:
        """Take tasks out of the manifest; their packages stay. Raises StoreError naming one that is not live."""

        def changes() -> list[Change]:
            return [Change(task, self.find(task)[1], None) for task in dict.fromkeys(tasks)]

        if dry_run:
            return changes()
        with self.changing():
            made = changes()
            self._commit(self.manifest(), made)
            return made

    def pin(self, references: Sequence[str]) -> dict[str, str]:
        """Keep versions (`TASK` or `TASK@DIGEST`) from `gc`. Return all pins, digest → task."""
        with self.changing():
            found = [self.find(reference) for reference in references]
            pins = {**self.pins.read(), **{digest: task for task, digest in found}}
            self.pins.write(pins)
            return pins

    def unpin(self, references: Sequence[str]) -> dict[str, str]:
        """Undo `pin`. Return all pins left. Raises StoreError naming a version that is not pinned."""
        with self.changing():
            pins = self.pins.read()
            for reference in references:
                _, digest = self.find(reference)
                if pins.pop(digest, None) is None:
                    raise StoreError(f"{reference} is not pinned in {self.folder}")
            self.pins.write(pins)
            return pins

    @contextmanager
    def changing(self, create: bool = False) -> Iterator[None]:
        """Hold the writers' lock over a store whose history is whole; an OSError becomes a StoreError."""
        if not create:
            self.manifest_bytes()
        try:
            if create:
                self.packages_path.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                self.history.settle(self._manifest_bytes_or_none())
                yield
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise StoreError(f"{self.folder} cannot be changed: {error.strerror}{where}") from error

    def _current(self, backbone: Backbone) -> Manifest:
        """Return the manifest, or an empty one where there is none yet. Raises StoreError at another backbone's."""
        digest = backbone.spec.digest
        old = self.manifest() if self.stamp() else Manifest(backbone=digest)
        if old.backbone != digest:
            raise StoreError(
                f"{self.folder} belongs to backbone {old.backbone[:12]}, not to {digest[:12]}; "
                "use a new store, or export the backbone it was made for"
            )
        return old

    def _commit(self, old: Manifest, changes: Sequence[Change]) -> None:
        """Replace the manifest, with the change's lines of history before or, after a crash, at the next change."""
        made = [change for change in changes if change.before != change.after]
        if not made and self.stamp():
            return
        gone = {change.task for change in made if change.after is None}
        tasks: Mapping[str, str] = {**old.tasks, **{c.task: c.after for c in made if c.after is not None}}
        data = Manifest(backbone=old.backbone, tasks={t: d for t, d in tasks.items() if t not in gone}).to_json()
        self.history.intend(made, data)
        try:
            replace_file(self.manifest_path, [data])
        except OSError:
            with suppress(OSError):
                self.history.settle(self._manifest_bytes_or_none())
            raise
        try:
            self.history.settle(data)
        except OSError as error:
            raise StoreError(
                f"the change is live, but {self.history.path} cannot be written: {error.strerror}; "
                "the next change of this store writes the missing lines"
            ) from error

    def _keep_all(self, packages: Sequence[_Checked]) -> None:
        """Write packages into the store. Where one fails, those written before it go again."""
        written: list[str] = []
        try:
            for package in packages:
                if self._keep(package):
                    written.append(package.digest)
        except BaseException:
            for digest in written:
                with suppress(OSError):
                    remove_folder(self.package_folder(digest))
            raise

    def _keep(self, package: _Checked) -> bool:
        """Write a package unless it is there, in place of one of that digest whose files were damaged."""
        target = self.package_folder(package.digest)
        if target.exists():
            if _digest_or_none(target) == package.digest:
                return False
            target.rename(target.with_name(f"{DAMAGED}{package.digest}-{uuid.uuid4().hex}"))
        # Read again: what is written is what was checked, even if somebody wrote into the source meanwhile.
        with package.source.spans() as spans:
            write_package(target, spans, package.digest)
        return True

    def _manifest_bytes_or_none(self) -> bytes | None:
        return self.manifest_bytes() if self.stamp() else None


def _check(source: Source, backbone: Backbone) -> _Checked:
    package = TaskPackage.read(source, backbone)
    return _Checked(source, package.task.id, package.digest)


def _changes(old: Manifest, checked: Sequence[_Checked]) -> list[Change]:
    return [Change(one.task, old.tasks.get(one.task), one.digest) for one in checked]


def _refuse_twins(checked: Sequence[_Checked]) -> None:
    seen: dict[str, Path] = {}
    for one in checked:
        if one.task in seen:
            raise PackageError(f"{one.source.path} and {seen[one.task]} are both task {one.task}")
        seen[one.task] = one.source.path


def _digest_or_none(folder: Path) -> str | None:
    try:
        return package_digest(folder)
    except PackageError:
        return None
