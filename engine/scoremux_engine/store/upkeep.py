"""Upkeep of a store: `verify` names what was changed or damaged, `collect` removes packages that are not used."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import FILES, OPTIONAL, PackageFiles
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
                task = PackageFiles(store.package_folder(digest)).task.id
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


def verify(store: StoreReader, backbone: Backbone | None = None) -> Iterator[Problem]:
    """Hash every package again, and check manifest, pins and history against them.

    Leftovers of crashed writers are not a problem: the next change or `gc` removes them. With the backbone, live
    packages are checked in full.
    """
    tasks: dict[str, str] = {}
    for folder in store.package_folders():
        if folder.name.startswith(LEFTOVERS):
            continue
        try:
            tasks[folder.name] = _verified_task(folder)
        except PackageError as error:
            if os.path.lexists(folder):  # else `gc` has removed it meanwhile
                yield Problem(f"packages/{folder.name}", str(error))
                tasks[folder.name] = ""
    yield from _named(store, tasks, backbone)
    for number, line in store.history.lines():
        if line is None:
            yield Problem(f"history.jsonl:{number}", "is not a line of history")


def _verified_task(folder: Path) -> str:
    """Return the task of a package. Raises PackageError where its content is not what its name says."""
    if not re.fullmatch(DIGEST_PATTERN, folder.name):
        raise PackageError("is not a package")
    files = PackageFiles(folder)
    digest = files.digest()
    if digest != folder.name:
        raise PackageError(f"was changed: its content's digest is {digest}")
    if foreign := sorted({path.name for path in folder.iterdir()} - {*FILES, *OPTIONAL}):
        raise PackageError(f"holds {foreign[0]}, which does not belong to a package")
    return files.task.id


def _named(store: StoreReader, tasks: dict[str, str], backbone: Backbone | None) -> Iterator[Problem]:
    """Yield the problems of the manifest and the pins, given the task of every package ("" for a damaged one)."""
    try:
        manifest = store.manifest()
        pins = store.pins()
        store.removed_looks()
    except StoreError as error:
        yield Problem(str(store.folder), str(error))
        return
    if backbone is not None and manifest.backbone != backbone.spec.digest:
        yield Problem("manifest.json", f"belongs to backbone {manifest.backbone[:12]}, not {backbone.spec.digest[:12]}")
    for task, digest in [*manifest.tasks.items(), *((task, digest) for digest, task in pins.items())]:
        if digest not in tasks:
            yield Problem(task, f"its version {digest} is missing")
        elif tasks[digest] not in (task, ""):
            yield Problem(task, f"its version {digest} says it is task {tasks[digest]}")
        elif backbone is not None and tasks[digest]:
            try:
                store.read_package(digest, backbone)
            except EngineError as error:
                yield Problem(task, str(error))
