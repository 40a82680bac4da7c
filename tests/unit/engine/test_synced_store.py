"""A store that a sync tool copies file by file, in any order, and into place as it likes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from making import make_adapter
from scoremux_engine.errors import EngineError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store


@pytest.fixture
def source(bare: Backbone, tmp_path: Path) -> Store:
    """Two tasks, of which one has an older version."""
    store = Store(tmp_path / "source")
    for task, seed in (("a", 0), ("b", 1), ("a", 2)):
        store.add([make_adapter(tmp_path / task, bare.spec, task, seed=seed)], bare)
    return store


def served(store: Store, backbone: Backbone) -> dict[str, str]:
    """Return task → digest of what a reader would serve now."""
    tasks = {}
    for task, digest in store.manifest().tasks.items():
        try:
            package = store.read_package(digest, backbone)
        except EngineError:
            continue
        assert (package.task.id, package.digest) == (task, digest)
        tasks[task] = digest
    return tasks


@settings(max_examples=60)
@given(st.data())
def test_in_any_order_and_half_copied_nothing_false_is_served_and_in_the_end_all_is(
    source: Store, bare: Backbone, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = [p.relative_to(source.folder) for p in sorted(source.folder.rglob("*")) if p.is_file()]
    copy = Store(tmp_path_factory.mktemp("copy"))
    for name in data.draw(st.permutations(files)):
        whole = (source.folder / name).read_bytes()
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        for kept in (data.draw(st.integers(0, len(whole))), len(whole)):
            (copy.folder / name).write_bytes(whole[:kept])
            try:
                assert served(copy, bare).items() <= source.manifest().tasks.items()
            except StoreError:
                assert not (copy.folder / "manifest.json").exists() or kept < len(whole) or name.name == "manifest.json"
    assert served(copy, bare) == source.manifest().tasks


def retouch(path: Path, **times: int) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, times.get("mtime_ns", status.st_mtime_ns)))


def test_the_stamp_tells_every_way_in_which_tools_write(source: Store) -> None:
    path = source.manifest_path
    stamps = [source.stamp()]
    data = path.read_bytes()
    old = path.stat().st_mtime_ns

    path.write_bytes(data[::-1])  # in place, same size
    stamps.append(source.stamp())
    path.write_bytes(data)  # in place, and the time set back as rsync and rclone do
    retouch(path, mtime_ns=old)
    stamps.append(source.stamp())
    retouch(path, mtime_ns=old + 1)  # the time alone
    stamps.append(source.stamp())
    path.chmod(0o600)  # ctime alone
    stamps.append(source.stamp())
    aside = path.with_name("aside")  # a rename, with the old time and size
    aside.write_bytes(data)
    retouch(aside, mtime_ns=old + 1)
    aside.replace(path)
    stamps.append(source.stamp())
    assert len(set(stamps)) == len(stamps)


def test_a_manifest_that_is_being_written_in_place_is_not_half_believed(source: Store) -> None:
    whole = json.loads(source.manifest_bytes())
    longer = json.dumps({**whole, "tasks": {**whole["tasks"], "c": "c" * 64}}).encode()
    with source.manifest_path.open("wb", buffering=0) as file:
        for start in range(0, len(longer), 50):
            file.write(longer[start : start + 50])
            if start + 50 < len(longer):
                with pytest.raises(StoreError, match="is damaged"):
                    source.manifest()
    assert source.manifest().tasks["c"] == "c" * 64
