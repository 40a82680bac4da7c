"""A full disk, a store nobody may write to, a lock that is held or cannot be had: a clear error, nothing lost."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from making import make_adapter
from rooms import mounted, root_only
from scoremux_engine.errors import StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify

NOBODY = 65534


@root_only
def test_a_full_disk_changes_nothing_and_the_next_change_works(bare: Backbone, tmp_path: Path) -> None:
    folders = [make_adapter(tmp_path / f"t-{n}", bare.spec, f"t-{n}", rank=256, seed=n) for n in range(8)]
    with mounted(tmp_path / "small", 600_000):
        store = Store(tmp_path / "small" / "store")
        store.add(folders[:1], bare)
        before = store.manifest_bytes(), store.digests(), len(store.history.entries())
        with pytest.raises(StoreError, match=r"store cannot be changed: the disk is full"):
            store.add(folders, bare)
        assert (store.manifest_bytes(), store.digests(), len(store.history.entries())) == before
        assert list(verify(store, bare)) == []
        store.add(folders[1:2], bare)
        assert set(store.manifest().tasks) == {"t-0", "t-1"}
        before = store.manifest_bytes(), len(store.history.entries())
        _fill(store.folder / "filler")
        with pytest.raises(StoreError, match="the disk is full"):
            store.retire(["t-0"])
        assert (store.manifest_bytes(), len(store.history.entries())) == before
        (store.folder / "filler").unlink()
        store.retire(["t-0"])
        assert set(store.manifest().tasks) == {"t-1"}
        assert list(verify(store)) == []


def _fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("ab", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))


@root_only
def test_a_read_only_store_is_read_and_not_changed(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "t", bare.spec, "t")
    with mounted(tmp_path / "disk", 1 << 20) as mount:
        store = Store(tmp_path / "disk" / "store")
        (change,) = store.add([folder], bare)
        mount("-o", "remount,ro")
        assert store.read_package(change.after, bare).task.id == "t"
        assert list(verify(store)) == []
        changes: list[Callable[[], Any]] = [
            lambda: store.add([make_adapter(tmp_path / "u", bare.spec, "u")], bare),
            lambda: store.retire(["t"]),
            lambda: store.pin(["t"]),
            lambda: collect(store),
        ]
        for change_store in changes:
            with pytest.raises(StoreError, match=r"store cannot be changed: the file system is read-only: .*\.lock"):
                change_store()
        assert store.retire(["t"], dry_run=True)[0].kind == "retired"
        assert store.manifest().tasks == {"t": change.after}


@root_only
def test_somebody_without_permission_is_told_so(bare: Backbone) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        store = Store(folder / "store")
        store.add([make_adapter(folder / "t", bare.spec, "t")], bare)
        other = make_adapter(folder / "u", bare.spec, "u")
        (other / "adapter_model.safetensors").chmod(0o644)
        before = store.manifest_bytes()
        said = _as_nobody(lambda: store.add([other], bare))
        assert said == f"StoreError: {store.folder} cannot be changed: Permission denied: {store.folder / '.lock'}"
        assert store.manifest_bytes() == before
        said = _as_nobody(lambda: Store(folder / "new").add([other], bare))
        assert said == f"StoreError: {folder / 'new'} cannot be changed: Permission denied: {folder / 'new'}"
        (store.folder / "manifest.json").chmod(0)
        said = _as_nobody(store.manifest)
        assert said == f"StoreError: {store.manifest_path} cannot be read: Permission denied"


def _as_nobody(action: Callable[[], object]) -> str:
    """Return the error that `action` raises in a child without privileges."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        message = "nothing was raised"
        try:
            action()
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(writer, message.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    return message
