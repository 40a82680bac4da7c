"""The store: one atomic change or none, whoever else is writing, and whichever tool copies it."""

import json
import multiprocessing
import os
import pickle
import random
import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from making import make_adapter
from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import FILES, PackageFiles
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import verify

ADDS_A_PROCESS = 8


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def folders(bare: Backbone, tmp_path: Path) -> list[Path]:
    return [make_adapter(tmp_path / task, bare.spec, task, seed=n) for n, task in enumerate(("b", "a"))]


def history(store: Store) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store.folder / "history.jsonl").read_text().splitlines()]


def content(folder: Path) -> dict[str, bytes | None]:
    """Everything below `folder`, hidden things too, the lock aside; files with their bytes."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in paths}


def test_first_add_makes_the_store_and_lists_tasks_in_order(store: Store, folders: list[Path], bare: Backbone) -> None:
    changes = store.add(folders, bare)
    digests = {folder.name: PackageFiles(folder).digest() for folder in folders}
    assert changes == [Change("b", None, digests["b"]), Change("a", None, digests["a"])]
    assert [change.kind for change in changes] == ["new", "new"]
    manifest = json.loads(store.manifest_path.read_text())
    assert manifest == {"format": 1, "backbone": bare.spec.digest, "tasks": digests}
    assert list(manifest["tasks"]) == ["a", "b"]


def test_package_holds_its_three_files(
    store: Store, folders: list[Path], bare: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders[0] / "README.md").write_text("not part of the version")
    opened, open_file = Counter[str](), os.open
    monkeypatch.setattr(os, "open", lambda file, *a, **k: opened.update([str(file)]) or open_file(file, *a, **k))
    store.add(folders[:1], bare)
    assert [opened[str(folders[0] / name)] for name in FILES] == [1, 1, 4]  # header twice, data, and a copy
    package = store.package_folder(PackageFiles(folders[0]).digest())
    assert content(package) == {name: (folders[0] / name).read_bytes() for name in FILES}


def test_no_header_of_tensors_is_kept_while_others_are_added(folders: list[Path], bare: Backbone) -> None:
    files = PackageFiles(folders[0])
    TaskPackage.check(files, bare)
    texts = sum((folders[0] / name).stat().st_size for name in ("task.json", "adapter_config.json"))
    assert texts < len(pickle.dumps(files)) < texts + 500 < (folders[0] / "adapter_model.safetensors").stat().st_size


def test_card_is_part_of_its_version(store: Store, folders: list[Path], bare: Backbone, tmp_path: Path) -> None:
    without = PackageFiles(folders[0]).digest()
    (folders[0] / "card.md").write_text("# a")
    (change,) = store.add(folders[:1], bare)
    assert change.after == PackageFiles(folders[0]).digest() != without
    assert (store.package_folder(change.after) / "card.md").read_text() == "# a"
    assert list(verify(store)) == []
    other = Store(tmp_path / "other")
    other.add([shutil.copytree(store.package_folder(change.after), tmp_path / "copied")], bare)
    assert (other.package_folder(change.after) / "card.md").read_text() == "# a"
    (store.package_folder(change.after) / "card.md").write_text("# changed")
    assert "digest" in str(next(iter(verify(store))))


def test_update_replaces_the_live_version_once(store: Store, folders: list[Path], bare: Backbone) -> None:
    (old,) = store.add(folders[:1], bare)
    (other,) = store.add(folders[1:], bare)
    make_adapter(folders[0], bare.spec, "b", seed=99)
    (new,) = store.add(folders[:1], bare)
    assert (new.kind, new.before) == ("updated", old.after)
    assert store.manifest().tasks == {"a": other.after, "b": new.after}
    assert store.read_package(old.after, bare).digest == old.after
    rows = [row for row in history(store) if row["task"] == "b"]
    assert [(row["from"], row["to"]) for row in rows] == [(None, old.after), (old.after, new.after)]
    assert all(datetime.fromisoformat(row["when"]).tzinfo is not None and row["who"] for row in rows)
    store.add(folders, bare)
    before = content(store.folder)
    changes = store.add(folders, bare)
    assert [change.kind for change in changes] == ["unchanged", "unchanged"]
    assert content(store.folder) == before


def test_bad_folder_publishes_nothing_and_changes_no_store(store: Store, folders: list[Path], bare: Backbone) -> None:
    whole = (folders[1] / "task.json").read_bytes()
    (folders[1] / "task.json").write_text("{}")
    with pytest.raises(PackageError, match=rf"{folders[1]}/task\.json"):
        store.add(folders, bare)
    assert not store.folder.exists()
    (folders[1] / "task.json").write_bytes(whole)
    store.add(folders[:1], bare)
    before, stamp = content(store.folder), store.stamp()
    (folders[1] / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(PackageError):
        store.add(folders, bare)
    assert (content(store.folder), store.stamp()) == (before, stamp)


def test_two_folders_of_one_task_are_refused(store: Store, folders: list[Path], bare: Backbone, tmp_path: Path) -> None:
    twin = make_adapter(tmp_path / "twin", bare.spec, "b", seed=5)
    with pytest.raises(PackageError, match=rf"{twin} and {folders[0]} are both task b"):
        store.add([*folders, twin], bare)
    assert not store.folder.exists()


def test_store_of_another_backbone_is_refused(store: Store, folders: list[Path], bare: Backbone) -> None:
    store.add(folders[:1], bare)
    before = content(store.folder)
    with pytest.raises(StoreError, match="belongs to backbone bbbbbbbbbbbb, not to cccccccccccc"):
        store.add(folders[1:], Backbone(bare.folder, bare.spec.model_copy(update={"digest": "c" * 64})))
    assert content(store.folder) == before


def test_adding_a_damaged_package_again_repairs_it(store: Store, folders: list[Path], bare: Backbone) -> None:
    (old,) = store.add(folders[:1], bare)
    (store.package_folder(old.after) / "task.json").write_bytes(b"{}")
    make_adapter(folders[0], bare.spec, "b", seed=99)
    (new,) = store.add(folders[:1], bare)
    make_adapter(folders[0], bare.spec, "b", seed=0)
    with pytest.raises(PackageError):
        store.read_package(old.after, bare)
    assert store.add(folders[:1], bare) == [Change("b", new.after, old.after)]
    assert store.read_package(old.after, bare).digest == old.after


@pytest.mark.parametrize(
    ("data", "why"),
    [
        *((data, "is damaged") for data in (b"", b"{", b"\xff", b'{"format": 1, "backbone": "short", "tasks": {}}')),
        (b'{"backbone": "%s", "tasks": {}}' % (b"b" * 64), "has no format, .* reads format 2; publish the adapters"),
        (b'{"format": 3, "live": {}}', "has format 3, .* reads format 2; publish the adapters again"),
    ],
)
def test_damaged_manifest_is_refused(store: Store, folders: list[Path], bare: Backbone, data: bytes, why: str) -> None:
    store.add(folders[:1], bare)
    store.manifest_path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"manifest\.json {why}"):
        store.add(folders[1:], bare)
    assert store.manifest_path.read_bytes() == data


def test_folder_without_a_manifest_is_no_store(store: Store, folders: list[Path], bare: Backbone) -> None:
    with pytest.raises(StoreError, match=r"is not a store: it has no manifest\.json"):
        store.manifest()
    assert store.stamp() is None
    store.add(folders, bare)
    store.manifest_path.unlink()
    with pytest.raises(StoreError, match=r"manifest\.json is missing"):
        store.add(folders[:1], bare)
    assert store.stamp() is None


def test_store_where_none_can_be_written_is_named(folders: list[Path], bare: Backbone, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file is in the way")
    for folder in (tmp_path / "store", Path("/proc/self/store")):
        with pytest.raises(StoreError, match=rf"{folder} cannot be changed: "):
            Store(folder).add(folders, bare)


def _add_one_by_one(barrier: Any, store: Path, bare: Backbone, folders: list[Path]) -> None:
    barrier.wait(60)
    for folder in folders:
        Store(store).add([folder], bare)


def test_concurrent_adds_of_two_processes_all_land(store: Store, bare: Backbone, tmp_path: Path) -> None:
    made = [
        [make_adapter(tmp_path / f"{who}-{n}", bare.spec, f"{who}-{n}", seed=n) for n in range(ADDS_A_PROCESS)]
        for who in ("one", "two")
    ]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    arguments = [(barrier, store.folder, bare, folders) for folders in made]
    processes = [context.Process(target=_add_one_by_one, args=a) for a in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    expected = {folder.name for folders in made for folder in folders}
    assert set(store.manifest().tasks) == expected
    assert sorted(row["task"] for row in history(store)) == sorted(expected)


@pytest.fixture
def source(bare: Backbone, tmp_path: Path) -> Store:
    """Two tasks, of which one has an older version."""
    store = Store(tmp_path / "source")
    for task, seed in (("a", 0), ("b", 1), ("a", 2)):
        store.add([make_adapter(tmp_path / task, bare.spec, task, seed=seed)], bare)
    return store


def served(store: Store, backbone: Backbone) -> dict[str, str]:
    tasks = {}
    for task, digest in store.manifest().tasks.items():
        try:
            package = store.read_package(digest, backbone)
        except EngineError:
            continue
        assert (package.task.id, package.digest) == (task, digest)
        tasks[task] = digest
    return tasks


@pytest.mark.parametrize("seed", range(20))
def test_half_copied_store_serves_nothing_false(source: Store, bare: Backbone, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    files = [p.relative_to(source.folder) for p in sorted(source.folder.rglob("*")) if p.is_file()]
    copy = Store(tmp_path / "copy")
    for name in draw.sample(files, len(files)):
        whole = (source.folder / name).read_bytes()
        (copy.folder / name).parent.mkdir(parents=True, exist_ok=True)
        for kept in (draw.choice((0, draw.randint(0, len(whole)))), len(whole)):
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
