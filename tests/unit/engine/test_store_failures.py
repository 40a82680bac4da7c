"""A full disk, a lock that is held, a writer that dies at any file operation: a clear error, nothing lost."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults import DONE, KILLED, REFUSED, count_operations, kill, mounted, raised_in_child, root_only, run_with_fault
from making import make_adapter
from scoremux_engine.errors import StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify
from scoremux_files.atomic import replace_file

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
        assert list(verify(store)) == []
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
            lambda: collect(store),
        ]
        for change_store in changes:
            with pytest.raises(StoreError, match=r"store cannot be changed: .*\.lock"):
                change_store()
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
    return raised_in_child(action, lambda: (os.setgroups([]), os.setgid(NOBODY), os.setuid(NOBODY)))


Action = Callable[[Store], object]


@dataclass(frozen=True)
class Scene:
    """A store with history, what a next writer publishes, and actions by name."""

    store: Path
    backbone: Backbone
    next: Path
    actions: dict[str, Action]

    def copy(self, to: Path) -> Store:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.store, to)
        return Store(to)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: a thousand writers wait for no disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def scene(bare: Backbone, memory: Path) -> Scene:
    """Tasks a and b live, c retired, a second version of b to come."""

    def adapter(name: str, task: str, seed: int) -> Path:
        return make_adapter(memory / name, bare.spec, task, rank=1, levels=2, seed=seed)

    store = Store(memory / "store")
    store.add([adapter("a1", "a", 1), adapter("b1", "b", 2), adapter("c1", "c", 3)], bare)
    store.add([adapter("a2", "a", 4)], bare)
    store.retire(["c"])
    new = [adapter("b2", "b", 8), adapter("e1", "e", 9)]
    actions: dict[str, Action] = {
        "add": lambda s: s.add(new, bare),
        "rollback": lambda s: s.rollback("a"),
        "retire": lambda s: s.retire(["a", "b"]),
        "gc": lambda s: collect(s, keep_days=0),
        "first add": lambda s: Store(s.folder / "new").add(new, bare),
        "add after a crash": lambda s: s.add(new, bare),
        "add in place of a damaged package": lambda s: s.add(new, bare),
    }
    return Scene(store.folder, bare, adapter("z1", "z", 10), actions)


def prepare(scene: Scene, name: str, to: Path) -> Store:
    """Copy the store; where the action is about that, as a crash or a bad disk left it."""
    store = scene.copy(to)
    if name == "add after a crash":
        old = store.manifest()
        data = Manifest(backbone=old.backbone, tasks={"b": old.tasks["b"]}).to_json()
        store.history.record_intent("retire", [Change("a", old.tasks["a"], None)], data)
        replace_file(store.manifest_path, [data])
    if name == "add in place of a damaged package":
        digest = PackageFiles(scene.next.parent / "b2").digest()
        shutil.copytree(store.package_folder(store.manifest().tasks["b"]), store.package_folder(digest))
    return store


def check(scene: Scene, name: str, store: Store, states: list[dict[str, str]], number: int) -> None:
    """Assert the promises; then publish another task, collect garbage and assert them again."""
    where = f"{name}, operation {number}"
    damaged = name == "add in place of a damaged package"
    if store.stamp():
        assert store.manifest().tasks in states, where
        assert damaged or list(verify(store)) == [], where
    before = store.manifest().tasks if store.stamp() else {}
    (change,) = store.add([scene.next], scene.backbone)
    assert store.manifest().tasks == {**before, "z": change.after}, where
    assert replayed(store) == store.manifest().tasks, where
    collect(store, keep_days=0)
    assert list(verify(store)) == [], where
    left = {path.name for folder in (store.folder, store.packages_path) for path in folder.iterdir()}
    assert not {name for name in left if name.startswith(".")} - {".lock"}, where


def replayed(store: Store) -> dict[str, str]:
    """What history says is live. Every line must begin where the one before it of the same task ended."""
    tasks: dict[str, str] = {}
    for number, entry in store.history.lines():
        assert entry is not None, number
        if entry.is_live_change:
            assert entry.before == tasks.pop(entry.task, None), number
            if entry.after is not None:
                tasks[entry.task] = entry.after
    return tasks


def sweep(scene: Scene, name: str, fault: Callable[[], None], every: int) -> list[int]:
    """Put the fault at each `every`-th operation of an action in turn; return how the writer ended each time."""

    def store_of(prepared: Store) -> Store:
        return Store(prepared.folder / "new") if name == "first add" else prepared

    def tasks_of(prepared: Store) -> dict[str, str]:
        return store_of(prepared).manifest().tasks if store_of(prepared).stamp() else {}

    copy = scene.store.parent / "copy"
    store = prepare(scene, name, copy)
    states = [tasks_of(store)]
    operations = count_operations(lambda: scene.actions[name](store))
    states.append(tasks_of(store))
    assert operations > 15
    ends = []
    for number in range(1, operations + 1, every):
        store = prepare(scene, name, copy)
        ends.append(run_with_fault(lambda s=store: scene.actions[name](s), number, fault))
        check(scene, name, store_of(store), states, number)
    return ends


NAMES = [
    "add", "rollback", "retire", "gc", "first add", "add after a crash",
    "add in place of a damaged package",
]  # fmt: skip


@pytest.fixture(params=[31, pytest.param(1, marks=pytest.mark.nightly)], ids=["some", "all"])
def every(request: pytest.FixtureRequest) -> int:
    """At which operations there are faults: one in 31 is tried, or all are."""
    return int(request.param)


@pytest.mark.parametrize("name", NAMES)
def test_a_writer_killed_at_any_operation(scene: Scene, name: str, every: int) -> None:
    assert set(sweep(scene, name, kill, every)) == {KILLED}


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_at_any_operation(scene: Scene, name: str, every: int) -> None:
    ends = sweep(scene, name, fail, every)
    assert set(ends) <= {DONE, REFUSED}  # DONE: what fails is of no consequence
    assert ends.count(REFUSED) > len(ends) // 2
