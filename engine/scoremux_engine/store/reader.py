"""The store as its readers see it: the manifest before or after a change, never a mixture."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_decide.decision import Decision, Look
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import DECISION_JSON, PackageFiles
from scoremux_engine.packages.task import Scale
from scoremux_engine.store.history import History
from scoremux_engine.store.manifest import (
    LEVELS_JSONL,
    LOOKS_JSON,
    MANIFEST_JSON,
    MAX_MANIFEST_BYTES,
    PINS_JSON,
    Manifest,
    PinnedVersions,
    RemovedLooks,
    StoreFileT,
    VersionLevels,
    parse_store_file,
)
from scoremux_engine.store.origin import BucketOrigin
from scoremux_files.digests import Stamp, read_file
from scoremux_files.errors import reading


class StoreReader:
    """A store in `folder`: `manifest.json`, `history.jsonl`, `pins.json` and `packages/<digest>/`. Never writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest_path = folder / MANIFEST_JSON
        self.packages_path = folder / "packages"
        self.history = History(folder)
        self.origin = BucketOrigin.of(folder)

    def package_folder(self, digest: str) -> Path:
        return self.packages_path / digest

    def files(self, digest: str) -> PackageFiles:
        """Return the files of a package. Raises PackageError where they are in a bucket and cannot be fetched."""
        if self.origin:
            self.origin.fetch(digest)
        return PackageFiles(self.package_folder(digest))

    def has(self, digest: str) -> bool:
        """Whether there is such a package, here or in the bucket that is followed."""
        return self.package_folder(digest).is_dir() or (self.origin is not None and self.origin.knows(digest))

    @property
    def unreachable(self) -> str:
        """Why the bucket that is followed cannot be reached; empty where it can, or there is none."""
        return self.origin.problem if self.origin else ""

    def begin_fetching(self, digests: Iterable[str]) -> None:
        """Fetch packages that are read soon at once, where they are in a bucket."""
        if origin := self.origin:
            for digest in digests:
                with suppress(PackageError):  # whoever reads it is told
                    origin.begin(digest)

    def stamp(self) -> Stamp | None:
        """Return the manifest's stamp (one stat), None while there is none."""
        if self.origin:
            self.origin.look()
        with reading(self.manifest_path, StoreError):
            try:
                return Stamp.of(self.manifest_path.stat())
            except (FileNotFoundError, NotADirectoryError):
                return None

    def manifest(self) -> Manifest:
        """Read the manifest. Raises StoreError where there is none or it is damaged."""
        return parse_store_file(Manifest, self.manifest_bytes(), self.manifest_path)

    def pins(self) -> dict[str, str]:
        """Return the pinned versions, digest → task. Raises StoreError where the file is damaged."""
        return self._read(PinnedVersions, PINS_JSON).pins

    def removed_looks(self) -> dict[str, tuple[Look, ...]]:
        """Return tests of promises in versions that `gc` removed, by task. Raises StoreError for a damaged file."""
        return self._read(RemovedLooks, LOOKS_JSON).looks

    def scales(self) -> dict[str, Scale]:
        """Return the listed levels by digest of the version; lines that cannot be read are left out."""
        try:
            lines = read_file(self.folder / LEVELS_JSONL, MAX_MANIFEST_BYTES).splitlines()
        except OSError:
            return {}
        scales = dict[str, Scale]()
        for line in lines:
            with suppress(ValueError):
                version = VersionLevels.model_validate_json(line)
                scales[version.digest] = version.scale
        return scales

    def _read(self, model: type[StoreFileT], name: str) -> StoreFileT:
        path = self.folder / name
        with reading(path, StoreError):
            try:
                data = read_file(path, MAX_MANIFEST_BYTES)
            except FileNotFoundError:
                return model()
        return parse_store_file(model, data, path)

    def manifest_bytes(self) -> bytes:
        """Return the manifest's content. Raises StoreError where there is none."""
        with reading(self.manifest_path, StoreError):
            try:
                return read_file(self.manifest_path, MAX_MANIFEST_BYTES)
            except FileNotFoundError as error:
                raise StoreError(f"{self.folder} is not a store: it has no {MANIFEST_JSON}") from error

    def read_package(self, digest: str, backbone: Backbone) -> TaskPackage:
        """Read a package and check that it is what its name says. Raises PackageError."""
        files = self.files(digest)
        package = TaskPackage.check(files, backbone)
        if package.digest != digest:
            raise PackageError(f"{files.path} was changed: its content's digest is {package.digest}")
        return package

    def ids(self, manifest: Manifest, most: int | None = None) -> list[str]:
        """Return the ids that rows may name, of the first tasks: of an item with traits, theirs."""
        ids, first = list[str](), sorted(manifest.tasks.items())[:most]
        self.begin_fetching(digest for _, digest in first)
        for task, digest in first:
            try:
                ids += self.files(digest).task.scales
            except PackageError:
                ids.append(task)
        return ids

    def decision(self, digest: str) -> Decision | None:
        """Return a version's decision, None where it has none or was removed. Raises InputError, StoreError."""
        path = self.package_folder(digest) / DECISION_JSON
        if not path.exists():
            return None
        with reading(path, StoreError):
            data = path.read_bytes()
        return Decision.parse(data, str(path))

    def package_folders(self) -> list[Path]:
        """Return the folders in `packages/`, sorted, those that a writer left behind included."""
        with reading(self.packages_path, StoreError):
            try:
                return sorted(self.packages_path.iterdir())
            except FileNotFoundError:
                return []

    def digests(self) -> list[str]:
        """Return the digests of all packages by the names of their folders, sorted."""
        return [folder.name for folder in self.package_folders() if re.fullmatch(DIGEST_PATTERN, folder.name)]

    def versions(self, task: str, digest: str = "") -> list[str]:
        """Return the digests of a task's packages that begin with `digest`, sorted. Damaged ones belong to no task."""
        return [name for name in self.digests() if name.startswith(digest) and self._task_of(name) == task]

    def find(self, reference: str) -> tuple[str, str]:
        """Return the task and digest of `TASK` (its live version) or `TASK@DIGEST` (may be cut). Raises StoreError."""
        task, at, digest = reference.partition("@")
        if not at:
            live = self.manifest().tasks.get(task)
            if live is None:
                raise StoreError(f"{task} is not live in {self.folder}{self._versions_hint(task)}")
            return task, live
        matches = self.versions(task, digest)
        if len(matches) != 1 or not digest:
            why = "fits more than one version" if matches else "is not a version"
            raise StoreError(f"{digest!r} {why} of {task} in {self.folder}{self._versions_hint(task)}")
        return task, matches[0]

    def item_of(self, name: str) -> str:
        """Return the id of a live task, or of the live item that has this trait."""
        live, item = self.manifest().tasks, name.rpartition(".")[0]
        return item if name not in live and item in live else name

    def previous(self, task: str) -> str:
        """Return the version that was live before the present one, by history. Raises StoreError if there is none."""
        live = self.manifest().tasks.get(task)
        for line in reversed(self.history.entries(task)):
            if line.is_live_change and line.after == live and line.before is not None:
                return line.before
        raise StoreError(f"{task} has no earlier version in the history of {self.folder}{self._versions_hint(task)}")

    def _versions_hint(self, task: str) -> str:
        versions = [digest[:12] for digest in self.versions(task)]
        return f"; versions there: {', '.join(versions)}" if versions else "; it has no version there"

    def _task_of(self, digest: str) -> str | None:
        try:
            return self.files(digest).task.id
        except PackageError:
            return None
