"""The store on disk: readers see the manifest before or after a change, never a mixture."""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from pydantic import ValidationError

from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.packages.package import FILES, TaskPackage, package_digest
from scoremux_engine.store.durable import append_line, copy_folder, locked, replace_file
from scoremux_engine.store.manifest import Manifest


@dataclass(frozen=True)
class Change:
    """One task's version before and after. `before` is None for a task that was not live."""

    task: str
    before: str | None
    after: str

    @property
    def kind(self) -> str:
        if self.before is None:
            return "new"
        return "unchanged" if self.before == self.after else "updated"


class Store:
    """A store in `folder`: `manifest.json`, `history.jsonl` and `packages/<digest>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def package_folder(self, digest: str) -> Path:
        return self.folder / "packages" / digest

    def stamp(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the manifest is replaced (one stat), None while there is none."""
        try:
            stat = self.manifest_path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.manifest_path} cannot be looked at: {error.strerror}") from error
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def manifest(self) -> Manifest:
        """Read the manifest. Raises StoreError where there is none or it is damaged."""
        try:
            return Manifest.model_validate_json(self.manifest_path.read_bytes())
        except OSError as error:
            raise StoreError(f"{self.folder} is no store: {error.strerror}: {self.manifest_path.name}") from error
        except ValidationError as error:
            raise StoreError(f"{self.manifest_path} is damaged: {error.error_count()} problems") from error

    def read_package(self, digest: str, backbone: Backbone) -> TaskPackage:
        """Read a package and check that it is what its name says. Raises PackageError."""
        folder = self.package_folder(digest)
        package = TaskPackage.read(folder, backbone)
        if package.digest != digest:
            raise PackageError(f"{folder} was changed: its content's digest is {package.digest}")
        return package

    def add(self, folders: Sequence[Path], backbone: Backbone) -> list[Change]:
        """Check adapter folders in full, then publish all of them in one atomic change.

        Raises PackageError (nothing is published) or StoreError.
        """
        packages = _checked(folders, backbone)
        try:
            (self.folder / "packages").mkdir(parents=True, exist_ok=True)
            with locked(self.folder / ".lock"):
                return self._publish(folders, packages, backbone)
        except OSError as error:
            raise StoreError(f"{self.folder} cannot be changed: {error.strerror}: {error.filename}") from error

    def _publish(self, folders: Sequence[Path], packages: list[TaskPackage], backbone: Backbone) -> list[Change]:
        old = self.manifest() if self.manifest_path.exists() else Manifest(backbone=backbone.spec.digest)
        if old.backbone != backbone.spec.digest:
            raise StoreError(
                f"{self.folder} belongs to backbone {old.backbone[:12]}, not to {backbone.spec.digest[:12]}; "
                "use a new store, or export the backbone it was made for"
            )
        changes = [Change(p.task.id, old.tasks.get(p.task.id), p.digest) for p in packages]
        for folder, package in zip(folders, packages, strict=True):
            self._keep(folder, package.digest)
        tasks = {**old.tasks, **{change.task: change.after for change in changes}}
        replace_file(self.manifest_path, Manifest(backbone=old.backbone, tasks=tasks).to_json())
        for change in changes:
            if change.before != change.after:
                self._record(change)
        return changes

    def _keep(self, source: Path, digest: str) -> None:
        """Copy a package into the store, in place of one of that digest whose files were damaged."""
        target = self.package_folder(digest)
        if target.exists():
            if _digest_or_none(target) == digest:
                return
            target.rename(target.with_name(f".damaged-{digest}-{uuid.uuid4().hex}"))

        def check(copied: Path) -> None:
            # What was copied is what was checked, even if somebody wrote into the source meanwhile.
            if package_digest(copied) != digest:
                raise PackageError(f"{source} changed while it was being added")

        copy_folder(source, FILES, target, check)

    def _record(self, change: Change) -> None:
        when = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = {"when": when, "who": _user(), "task": change.task, "from": change.before, "to": change.after}
        append_line(self.folder / "history.jsonl", json.dumps(row))


def _checked(folders: Sequence[Path], backbone: Backbone) -> list[TaskPackage]:
    packages = [TaskPackage.read(folder, backbone) for folder in folders]
    seen: dict[str, Path] = {}
    for folder, package in zip(folders, packages, strict=True):
        if package.task.id in seen:
            raise PackageError(f"{folder} and {seen[package.task.id]} are both task {package.task.id}")
        seen[package.task.id] = folder
    return packages


def _digest_or_none(folder: Path) -> str | None:
    try:
        return package_digest(folder)
    except PackageError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
