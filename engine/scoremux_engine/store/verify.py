"""What `verify` finds: everything in a store that is not as it was published, by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.source import FILES, OPTIONAL, package_digest
from scoremux_engine.packages.task import Task
from scoremux_engine.store.durable import ASIDE
from scoremux_engine.store.reader import StoreReader


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: where, as a path or a task id, and what."""

    where: str
    what: str


def verify(store: StoreReader, backbone: Backbone | None = None) -> Iterator[Problem]:
    """Hash every package again, and check manifest, pins and history against them.

    What crashed writers left is no problem: the next change or `gc` removes it.

    Args:
        store: The store to check.
        backbone: If given, live packages are checked against it in full too.

    Yields:
        What is wrong.
    """
    tasks: dict[str, str] = {}
    for digest in _entries(store):
        try:
            if not re.fullmatch(DIGEST_PATTERN, digest):
                raise PackageError("is no package")
            tasks[digest] = _hashed_task(store, digest)
        except PackageError as error:
            if os.path.lexists(store.package_folder(digest)):  # else `gc` took it meanwhile
                yield Problem(f"packages/{digest}", str(error))
                tasks.setdefault(digest, "")
    yield from _named(store, tasks, backbone)
    for number, entry in store.history.lines():
        if entry is None:
            yield Problem(f"history.jsonl:{number}", "is not a line of history")


def _entries(store: StoreReader) -> list[str]:
    try:
        return sorted(path.name for path in store.packages_path.iterdir() if not path.name.startswith(ASIDE))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{store.packages_path} cannot be read: {error.strerror}") from error


def _hashed_task(store: StoreReader, digest: str) -> str:
    folder = store.package_folder(digest)
    found = package_digest(folder)
    if found != digest:
        raise PackageError(f"was changed: its content's digest is {found}")
    more = sorted({path.name for path in folder.iterdir()} - {*FILES, *OPTIONAL})
    if more:
        raise PackageError(f"holds {more[0]}, which is no part of a package")
    return Task.read(folder).id


def _named(store: StoreReader, tasks: dict[str, str], backbone: Backbone | None) -> Iterator[Problem]:
    """Yield what is wrong with the manifest and the pins, given the task of every package ("" for a damaged one)."""
    try:
        manifest = store.manifest()
        pins = store.pins.read()
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
