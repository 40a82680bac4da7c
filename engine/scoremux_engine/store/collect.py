"""What `gc` removes: packages that nothing names any more, and what crashed writers left behind."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from scoremux_engine.errors import StoreError
from scoremux_engine.store.durable import ASIDE, remove_folder
from scoremux_engine.store.store import Store

KEEP_DAYS = 30.0


@dataclass(frozen=True)
class Garbage:
    """What can go: packages by digest with their bytes, and leftovers of crashed writers."""

    packages: dict[str, int]
    leftovers: list[Path]


def collect(store: Store, *, keep_days: float = KEEP_DAYS, dry_run: bool = False) -> Garbage:
    """Remove packages that neither manifest, pins nor recent history name, and what crashed writers left.

    Args:
        store: The store to clean.
        keep_days: A package that was live within these last days stays.
        dry_run: Remove nothing.

    Returns:
        What was removed, or would be.

    Raises:
        StoreError: Manifest, pins or history cannot be read; nothing was removed.
    """
    if dry_run:
        return _garbage(store, keep_days)
    with store.transaction():
        # No other writer is active under the lock, so every leftover is a dead one's.
        garbage = _garbage(store, keep_days)
        for digest in garbage.packages:
            remove_folder(store.package_folder(digest))
        for path in garbage.leftovers:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    return garbage


def _garbage(store: Store, keep_days: float) -> Garbage:
    named = {*store.manifest().tasks.values(), *store.pins.read(), *_recent(store, keep_days)}
    unnamed = [digest for digest in store.digests() if digest not in named]
    leftovers = [
        path
        for folder in (store.folder, store.packages_path)
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.name.startswith(ASIDE)
    ]
    return Garbage({digest: _size_bytes(store.package_folder(digest)) for digest in unnamed}, leftovers)


def _recent(store: Store, keep_days: float) -> set[str]:
    """Return the versions that were live at some time of the last `keep_days`."""
    if not store.history.path.exists():
        raise StoreError(f"{store.history.path} is missing, so which versions are old is not known")
    since = datetime.now(timezone.utc) - timedelta(days=keep_days)
    recent: set[str] = set()
    for number, entry in store.history.lines():
        if entry is None:
            raise StoreError(f"{store.history.path}:{number} is damaged; repair or remove that line")
        if entry.when >= since:
            recent.update(version for version in (entry.change.before, entry.change.after) if version)
    return recent


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.iterdir()) if folder.is_dir() else 0
