"""Upkeep of a store: `verify` names what was changed or damaged, `collect` removes packages that are not used."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.manifest import LOOKS_JSON, RemovedLooks
from scoremux_engine.store.reader import StoreReader
from scoremux_engine.store.store import LEFTOVERS, Store, remove_folder
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError

KEEP_DAYS = 30.0


@dataclass(frozen=True)
class Garbage:
    """Garbage: packages by digest with their bytes, and leftovers of crashed writers."""

    packages: dict[str, int]
    leftovers: list[Path]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: where, as a path or a task id, and what."""

    where: str
    what: str


def collect(store: Store, *, keep_days: float = KEEP_DAYS, dry_run: bool = False) -> Garbage:
    """Remove packages that neither manifest, pins nor recent history name, and what crashed writers left.

    Args:
        keep_days: A package that was live within these last days stays.

    Raises:
        StoreError: Manifest, pins or history cannot be read; nothing was removed.
    """
    if dry_run:
        return _garbage(store, keep_days)
    with store.transaction():
        # No other writer is active under the lock, so every leftover is a dead one's.
        garbage = _garbage(store, keep_days)
        _keep_looks(store, garbage.packages)
        for digest in garbage.packages:
            remove_folder(store.package_folder(digest))
        for path in garbage.leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return garbage


def _keep_looks(store: Store, digests: Iterable[str]) -> None:
    """Write the tests of promises in these versions to `looks.json`."""
    before = store.removed_looks()
    looks = dict(before)
    for digest in digests:
        with suppress(EngineError, InputError):  # a damaged version
            if decision := store.decision(digest):
                task = store.files(digest).task.id
                looks[task] = tuple(dict.fromkeys((*looks.get(task, ()), *decision.looks)))
    if looks != before:
        replace_file(store.folder / LOOKS_JSON, [RemovedLooks(looks=looks).to_json()])


def _garbage(store: Store, keep_days: float) -> Garbage:
    live = set(store.manifest().tasks.values())
    before_hold = {decision.held for decision in map(store.decision, live) if decision}  # for their release
    named = {*live, *before_hold, *store.pins(), *_recent(store, keep_days)}
    sizes = {}
    for digest in store.digests():
        if digest not in named:
            files = store.package_folder(digest).iterdir()
            sizes[digest] = sum(file.lstat().st_size for file in files)
    beside = sorted(store.folder.iterdir()) + store.package_folders()
    return Garbage(sizes, [path for path in beside if path.name.startswith(LEFTOVERS)])


def _recent(store: Store, keep_days: float) -> set[str]:
    """Return the versions that were live at some time of the last `keep_days`."""
    if not store.history.path.exists():
        raise StoreError(f"{store.history.path} is missing, so the age of versions is unknown")
    since = datetime.now(timezone.utc) - timedelta(days=keep_days)
    recent: set[str] = set()
    for number, line in store.history.lines():
        if line is None:
            raise StoreError(f"{store.history.path}:{number} is damaged; repair or remove that line")
        if line.is_live_change and line.when >= since:
            recent.update(version for version in (line.before, line.after) if version)
    return recent


def verify(store: StoreReader) -> Iterator[Problem]:
    """Hash every package again, and compare the manifest with them. Raises StoreError where it cannot be read."""
    tasks: dict[str, str] = {}
    for digest in store.digests():
        files = PackageFiles(store.package_folder(digest))
        try:
            if (now := files.digest()) != digest:
                raise PackageError(f"was changed: its content's digest is {now}")
            tasks[digest] = files.task.id
        except PackageError as error:
            tasks[digest] = ""
            yield Problem(f"packages/{digest}", str(error))
    for task, digest in store.manifest().tasks.items():
        if tasks.get(digest) not in (task, ""):
            yield Problem(task, f"its version {digest} is missing, or of another task")
