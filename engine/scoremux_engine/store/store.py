"""The store as its writers change it: one atomic change at a time, whoever else is writing."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.describing import describe
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.source import Source, package_digest
from scoremux_engine.packages.task import Task
from scoremux_engine.store.durable import DAMAGED, remove_folder, write_package
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.reader import StoreReader
from scoremux_files.atomic import replace_file
from scoremux_files.locks import locked

__all__ = ["Change", "Store"]


@dataclass(frozen=True)
class _Checked:
    """A package that was checked in full; `source` is read again when it is written."""

    source: Source
    task: str
    digest: str


class Store(StoreReader):
    """A store that can be changed. Every change is on disk, or was never made, when a method returns or raises."""

    def add(self, folders: Sequence[Path], backbone: Backbone, *, dry_run: bool = False) -> list[Change]:
        """Check adapter folders in full, then publish all of them in one atomic change.

        Args:
            folders: PEFT adapters; one without a `task.json` gets one (`packages.describing`).
            backbone: What they must fit, and what the store must be for.
            dry_run: Check, and change nothing.

        Returns:
            What changed, or would change, by task.

        Raises:
            PackageError: A folder is wrong; nothing is published.
            StoreError: The store cannot be changed.
        """
        return self.publish([one.source for one in describe(folders, backbone)], backbone, dry_run=dry_run)

    def publish(
        self,
        sources: Sequence[Source],
        backbone: Backbone,
        *,
        pinned: Sequence[Source] = (),
        before: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> list[Change]:
        """As `add`, from any sources. Those of `pinned` are stored and pinned, and do not become live.

        before: digests by task that must be live still, else a StoreError says which is not.
        """
        checked = [_check(source, backbone) for source in sources]
        also = [_check(source, backbone) for source in pinned]
        _refuse_duplicates(checked)
        if dry_run:
            return _changes(self._current(backbone), checked)
        with self.transaction(create=True):
            old = self._current(backbone)
            _refuse_moved(old, before or {})
            changes = _changes(old, checked)
            self._write_all([*checked, *also])
            if also:
                self.pins.write({**self.pins.read(), **{one.digest: one.task for one in also}})
            self._commit(old, changes)
            return changes

    def rollback(self, task: str, to: str | None = None, *, dry_run: bool = False) -> Change:
        """Make another version of a task live.

        Args:
            task: Id of the task.
            to: Digest of the version; by default the one that was live before the present one.
            dry_run: Check, and change nothing.

        Returns:
            What changed, or would change.

        Raises:
            PackageError: That version is damaged.
            StoreError: There is no such version.
        """

        def change() -> Change:
            digest = self.previous(task) if to is None else self.find(f"{task}@{to}")[1]
            folder = self.package_folder(digest)
            if not folder.exists():
                gone = f"version {digest[:12]} of {task} has left {self.folder}; `tasks gc` removes old ones"
                raise StoreError(f"{gone}{self._versions_hint(task)}")
            if package_digest(folder) != digest or Task.read(folder).id != task:
                raise PackageError(f"{folder} is not version {digest[:12]} of {task} any more; see `tasks verify`")
            return Change(task, self.manifest().tasks.get(task), digest)

        if dry_run:
            return change()
        with self.transaction():
            made = change()
            self._commit(self.manifest(), [made])
            return made

    def retire(self, tasks: Collection[str], *, dry_run: bool = False) -> list[Change]:
        """Take tasks out of the manifest; their packages stay. Raises StoreError naming one that is not live."""

        def changes() -> list[Change]:
            return [Change(task, self.find(task)[1], None) for task in dict.fromkeys(tasks)]

        if dry_run:
            return changes()
        with self.transaction():
            made = changes()
            self._commit(self.manifest(), made)
            return made

    def pin(self, references: Sequence[str]) -> dict[str, str]:
        """Keep versions (`TASK` or `TASK@DIGEST`) from `gc`. Return all pins, digest → task."""
        with self.transaction():
            found = [self.find(reference) for reference in references]
            pins = {**self.pins.read(), **{digest: task for task, digest in found}}
            self.pins.write(pins)
            return pins

    def unpin(self, references: Sequence[str]) -> dict[str, str]:
        """Undo `pin`. Return all pins left. Raises StoreError naming a version that is not pinned."""
        with self.transaction():
            pins = self.pins.read()
            for reference in references:
                _, digest = self.find(reference)
                if pins.pop(digest, None) is None:
                    raise StoreError(f"{reference} is not pinned in {self.folder}")
            self.pins.write(pins)
            return pins

    @contextmanager
    def transaction(self, create: bool = False) -> Iterator[None]:
        """Hold the writers' lock, after completing the history of a writer that died. OSErrors become StoreErrors."""
        if not create:
            self.manifest_bytes()
        try:
            if create:
                self.packages_path.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                self.history.recover(self._manifest_bytes_or_none())
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
        """Replace the manifest and append to the history; after a crash in between, the next change completes it."""
        made = [change for change in changes if change.before != change.after]
        if not made and self.stamp():
            return
        gone = {change.task for change in made if change.after is None}
        tasks: Mapping[str, str] = {**old.tasks, **{c.task: c.after for c in made if c.after is not None}}
        data = Manifest(backbone=old.backbone, tasks={t: d for t, d in tasks.items() if t not in gone}).to_json()
        self.history.record_intent(made, data)
        try:
            replace_file(self.manifest_path, [data])
        except OSError:
            with suppress(OSError):
                self.history.recover(self._manifest_bytes_or_none())
            raise
        try:
            self.history.recover(data)
        except OSError as error:
            raise StoreError(
                f"the change is live, but {self.history.path} cannot be written: {error.strerror}; "
                "the next change of this store writes the missing lines"
            ) from error

    def _write_all(self, packages: Sequence[_Checked]) -> None:
        """Write packages into the store. If one fails, those written before it are removed."""
        written: list[str] = []
        try:
            for package in packages:
                if self._write(package):
                    written.append(package.digest)
        except BaseException:
            for digest in written:
                with suppress(OSError):
                    remove_folder(self.package_folder(digest))
            raise

    def _write(self, package: _Checked) -> bool:
        """Write a package unless it is there; it replaces one of that digest whose files were damaged."""
        target = self.package_folder(package.digest)
        if target.exists():
            if _digest_or_none(target) == package.digest:
                return False
            target.rename(target.with_name(f"{DAMAGED}{package.digest}-{uuid.uuid4().hex}"))
        # The digest shows that what is written is what was checked, even if the source was changed meanwhile.
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


def _refuse_duplicates(checked: Sequence[_Checked]) -> None:
    seen: dict[str, Path] = {}
    for one in checked:
        if one.task in seen:
            raise PackageError(f"{one.source.path} and {seen[one.task]} are both task {one.task}")
        seen[one.task] = one.source.path


def _refuse_moved(manifest: Manifest, before: Mapping[str, str]) -> None:
    for task, digest in before.items():
        if manifest.tasks.get(task) != digest:
            raise StoreError(f"task {task} has another live version than {digest[:12]} by now; run the command again")


def _digest_or_none(folder: Path) -> str | None:
    try:
        return package_digest(folder)
    except PackageError:
        return None
