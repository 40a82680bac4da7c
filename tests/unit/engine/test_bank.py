"""The bank keeps in step with the store, and keeps what it has when the store is wrong."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from making import make_adapter, make_spec
from scoremux_client.contract import Status
from scoremux_engine import Engine
from scoremux_engine.bank import live as live_module
from scoremux_engine.bank.bank import Bank
from scoremux_engine.bank.live import INLINE_BYTES, LiveVersions
from scoremux_engine.bank.residents import Version
from scoremux_engine.errors import EngineError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages import package_files
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store.manifest import LEVELS_JSONL, Manifest
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file
from waiting import until


@pytest.fixture
def store(tmp_path: Path, bare: Backbone) -> Store:
    """A store without tasks."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_bytes(Manifest(backbone=bare.spec.digest).to_json())
    return Store(tmp_path / "store")


def publish(store: Store, bare: Backbone, task: str, seed: int = 0, levels: int = 3) -> str:
    """Publish a version of `task`; return its digest."""
    folder = make_adapter(store.folder.parent / task, bare.spec, task, seed=seed, levels=levels)
    return store.add([folder], bare)[0].after


def damage(store: Store, digest: str) -> None:
    path = store.package_folder(digest) / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def find(bank: Bank, task: str, digest: str | None = None) -> Version | None:
    found = status(bank, task, digest)
    return found if isinstance(found, Version) else None


def status(bank: Bank, task: str, digest: str | None = None) -> Version | Status:
    with bank.checkout() as versions:
        return versions.find(task, digest)


def live(bank: Bank) -> dict[str, str]:
    return {task: version.digest for task in bank.tasks if (version := find(bank, task))}


@pytest.fixture
def bank(store: Store, bare: Backbone) -> Bank:
    bank = Bank(store, bare, background=False)  # nothing happens but what a test does
    bank.refresh()
    return bank


def test_changes_are_picked_up_by_the_next_refresh_and_no_more(bank: Bank, store: Store, bare: Backbone) -> None:
    assert (bank.tasks, find(bank, "t-1"), bank.levels_max) == ([], None, 1)
    digests = {"t-1": publish(store, bare, "t-1", levels=3), "t-2": publish(store, bare, "t-2", levels=7)}
    assert bank.tasks == []
    bank.refresh()
    assert live(bank) == digests
    assert bank.levels_max == 7
    before = find(bank, "t-2")
    digests["t-1"] = publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert live(bank) == digests
    assert find(bank, "t-2") is before
    store.manifest_path.write_bytes(Manifest(backbone=bare.spec.digest, tasks={"t-1": digests["t-1"]}).to_json())
    bank.refresh()
    assert (bank.tasks, bank.levels_max, find(bank, "t-2")) == (["t-1"], 3, None)


def test_a_store_that_is_not_there_is_no_empty_one(store: Store, bare: Backbone) -> None:
    away = store.folder.rename(store.folder.with_name("away"))
    bank = Bank(store, bare, background=False)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store is not a store: it has no manifest\.json"):
            find(bank, "t-1")
    away.rename(store.folder)
    digest = publish(store, bare, "t-1")
    bank.refresh()
    assert live(bank) == {"t-1": digest}
    store.folder.rename(away)  # what is in memory stays
    bank.refresh()
    assert live(bank) == {"t-1": digest}


def test_a_damaged_first_version_makes_its_own_task_alone_unavailable(bank: Bank, store: Store, bare: Backbone) -> None:
    damage(store, publish(store, bare, "t-1"))
    good = publish(store, bare, "t-2")
    bank.refresh()
    assert live(bank) == {"t-2": good}
    assert status(bank, "t-1") is Status.TASK_UNAVAILABLE
    assert status(bank, "t-3") is Status.UNKNOWN_TASK
    assert status(bank, "t-1", "0" * 64) is Status.UNKNOWN_TASK


def test_misnamed_package_is_not_served(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    digest = publish(store, bare, "t-1")
    store.manifest_path.write_bytes(Manifest(backbone=bare.spec.digest, tasks={"t-2": digest}).to_json())
    assert find(bank, "t-2") is None
    assert "is not served: it says it is task t-1" in caplog.text


@pytest.mark.parametrize("data", [b"", b"garbage", b'{"backbone": 1}', b"\xff\xfe"])
def test_garbage_manifest_keeps_tasks(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    digest = publish(store, bare, "t-1")
    bank.refresh()
    whole = store.manifest_path.read_bytes()
    store.manifest_path.write_bytes(data)
    bank.refresh()
    bank.refresh()
    assert live(bank) == {"t-1": digest}
    assert caplog.text.count("keeping the tasks already loaded") == 1
    store.manifest_path.write_bytes(whole)
    new = publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert live(bank) == {"t-1": new}


@pytest.mark.parametrize("damaged", [1, 20])
def test_damaged_versions_fall_back_to_the_last_good(bank: Bank, store: Store, bare: Backbone, damaged: int) -> None:
    whole = publish(store, bare, "t-1")
    assert find(bank, "t-1")
    for seed in range(damaged):
        damage(store, publish(store, bare, "t-1", seed=1 + seed))
        bank.refresh()
    assert live(bank) == {"t-1": whole}
    if damaged == 1:
        (store.package_folder(whole) / "task.json").unlink()
        assert live(Bank(store, bare, background=False)) == {}


def full_bank(folder: Path, tasks: Sequence[str], **keys: bool) -> tuple[Bank, Store, Backbone, dict[str, str]]:
    """Return a bank with room for these tasks and no more, its store and backbone, and the tasks' live versions."""
    wide, store = Backbone(folder / "no-backbone", make_spec(128)), Store(folder / "store")
    digests = {task: publish(store, wide, task) for task in tasks}
    slots = Bank(store, wide, background=False)
    slots.refresh()
    assert live(slots) == digests
    return Bank(store, wide, budget_bytes=slots.stats.used_bytes, **keys), store, wide, digests


def test_a_new_version_evicts_the_one_it_supersedes_and_no_live_one(tmp_path: Path) -> None:
    bank, store, wide, digests = full_bank(tmp_path, ("t-1", "t-2", "t-3"), background=False)
    bank.refresh()
    assert live(bank) == digests
    assert find(bank, "t-3") and bank.stats.loads == 3  # the least recently used is t-1
    new = publish(store, wide, "t-3", seed=1)
    bank.refresh()
    bank.load_live()
    assert bank.stats.evictions == 1
    assert live(bank) == {**digests, "t-3": new}
    assert (bank.stats.loads, bank.stats.waits) == (4, 3)


def test_a_new_version_waits_for_the_batch_that_still_uses_the_one_it_supersedes(tmp_path: Path) -> None:
    bank, store, wide, digests = full_bank(tmp_path, ("t-1", "t-2"))
    with bank.checkout() as versions:
        for task in ("t-2", "t-1"):
            versions.find(task)
        bank.load_live()  # the loader may have read a version at the same time
        loads, waits = bank.stats.loads, bank.stats.waits
        new = publish(store, wide, "t-1", seed=1)
        until(lambda: bank.stats.loads == loads + 1)
        time.sleep(0.1)
        assert (bank.stats.loads, bank.stats.evictions) == (loads + 1, 0)
    until(lambda: bank.stats.evictions == 1)
    assert live(bank) == {**digests, "t-1": new}
    assert (bank.stats.loads, bank.stats.waits) == (loads + 1, waits)


def test_levels_of_many_new_versions_come_from_the_stores_list(
    store: Store, bare: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, bare, "t-1", levels=3)
    (store.folder / LEVELS_JSONL).unlink()  # a store of an earlier version
    for number in range(2, 7):
        publish(store, bare, f"t-{number}", levels=number)
    with (store.folder / LEVELS_JSONL).open("r+b") as file:  # the last one was not written in full
        file.truncate(len(file.read()) - 9)
    opened, real = list[str](), package_files.open_part
    monkeypatch.setattr(package_files, "open_part", lambda path: opened.append(path.parent.name) or real(path))
    for many, read in ((100, [f"t-{number}" for number in range(1, 7)]), (5, ["t-6"])):
        monkeypatch.setattr(live_module, "_MANY_NEW", many)
        versions = LiveVersions(store, bare.spec.digest)
        assert versions.update() and versions.describe()
        assert opened == [versions.tasks[task] for task in read]
        opened.clear()
        levels = [3, 2, 3, 4, 5, 6]
        assert {task: len(scale or ()) for task, (_, scale) in versions.described().items()} == {
            f"t-{number}": count for number, count in enumerate(levels, 1)
        }
    publish(store, bare, "t-7", levels=7)
    assert sorted(len(scale) for scale in store.scales().values()) == [2, 3, 3, 4, 5]


@pytest.mark.parametrize("background", [False, True])
def test_manifest_of_another_backbone(
    store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture, background: bool
) -> None:
    digest = publish(store, bare, "t-1")
    bank = Bank(store, bare, background=background)
    bank.refresh()
    whole = store.manifest_bytes()
    store.manifest_path.write_bytes(whole.replace(b"b" * 64, b"c" * 64))
    for _ in range(20):
        assert live(bank) == {"t-1": digest}
        time.sleep(0.01)
    sentence = f"{store.folder} belongs to backbone cccccccccccc, but bbbbbbbbbbbb is loaded"
    assert caplog.text.count(sentence) == 1
    store.manifest_path.write_bytes(whole)
    assert live(bank) == {"t-1": digest}


class GatedStore(Store):
    """A store whose manifest can be read only while `gate` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gate = threading.Event()
        self.gate.set()

    def manifest(self) -> Manifest:
        self.gate.wait()
        return super().manifest()


def publish_many(store: Store, bare: Backbone, count: int) -> None:
    """Make a manifest of so many more tasks that no batch reads it; they have no packages."""
    manifest = store.manifest()
    tasks = {**manifest.tasks, **{f"more-{n}": f"{n:064x}" for n in range(count)}}
    replace_file(store.manifest_path, [Manifest(backbone=bare.spec.digest, tasks=tasks).to_json()])
    assert store.manifest_path.stat().st_size > INLINE_BYTES


def test_no_batch_waits_for_a_large_manifest_unless_a_row_names_a_new_task(store: Store, bare: Backbone) -> None:
    digest = publish(store, bare, "t-1")
    gated = GatedStore(store.folder)
    bank = Bank(gated, bare)
    bank.refresh()
    gated.gate.clear()
    publish_many(store, bare, 1000)
    new, update = publish(store, bare, "t-2"), publish(store, bare, "t-1", seed=1)
    assert live(bank) == {"t-1": digest}
    found: list[Version | None] = []
    waiting = threading.Thread(target=lambda: found.append(find(bank, "t-2")))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    gated.gate.set()
    waiting.join(60)
    assert found[0] is not None and found[0].digest == new
    version = find(bank, "t-1")
    assert version is not None and version.digest == update


def test_a_start_does_not_wait_for_a_large_store(store: Store, bare: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, bare, "t-1", levels=7)
    publish_many(store, bare, 1000)
    describe, told = LiveVersions.describe, threading.Event()
    monkeypatch.setattr(LiveVersions, "describe", lambda live: told.wait(60) and describe(live))
    bank = Bank(store, bare)
    bank.refresh()
    assert len(bank.tasks) == 1001 and bank.levels_max == 1
    told.set()
    until(lambda: bank.levels_max == 7)
    assert find(bank, "t-1") is not None


class SlowStore(Store):
    """A store whose packages take `takes_s` to read."""

    takes_s = 0.1

    def read_package(self, digest: str, backbone: Backbone) -> TaskPackage:
        time.sleep(self.takes_s)
        return super().read_package(digest, backbone)


def test_a_new_version_does_not_wait_until_a_large_store_is_loaded(store: Store, bare: Backbone) -> None:
    slow = SlowStore(store.folder)
    publish(store, bare, "t-1")
    publish_many(store, bare, 1000)  # 100 seconds
    bank = Bank(slow, bare)
    bank.refresh()
    new = publish(store, bare, "t-1", seed=1)
    until(lambda: (version := find(bank, "t-1")) and version.digest == new)
    assert bank.stats.loads < 500
    slow.takes_s = 0.0


class BrokenStore(Store):
    """A store whose packages cannot be read for a reason that nobody foresaw."""

    broken = ""

    def read_package(self, digest: str, backbone: Backbone) -> TaskPackage:
        if digest == self.broken:
            raise MemoryError("a text that no log may show")
        return super().read_package(digest, backbone)


@pytest.mark.parametrize("pinned", [False, True])
def test_unforeseen_error_is_a_status(
    store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture, pinned: bool
) -> None:
    broken = BrokenStore(store.folder)
    broken.broken = publish(store, bare, "t-1")
    publish(store, bare, "t-2")
    bank = Bank(broken, bare, background=False)
    with bank.checkout() as versions:
        found = [versions.find("t-1", broken.broken if pinned else None), versions.find("t-2")]
    assert found[0] is Status.TASK_UNAVAILABLE
    assert isinstance(found[1], Version)
    assert "is not served: MemoryError" in caplog.text and "no log" not in caplog.text


@pytest.mark.parametrize("reads", [True, False])
def test_unreservable_budget_is_a_status(
    store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture, reads: bool
) -> None:
    publish(store, bare, "t-1")
    bank = Bank(store, bare, budget_bytes=1 << 60, background=False)
    bank.refresh()
    assert status(bank, "t-1") is Status.TASK_UNAVAILABLE if reads else bank.load_live() is None
    assert "lower bank_bytes" in caplog.text


def test_every_version_of_a_task_can_be_pinned_and_is_read_once(bank: Bank, store: Store, bare: Backbone) -> None:
    old = publish(store, bare, "t-1", levels=3)
    new = publish(store, bare, "t-1", levels=5)
    bank.refresh()
    pinned = find(bank, "t-1", old)
    assert pinned is not None
    assert (pinned.digest, pinned.outputs) == (old, 3)
    assert find(bank, "t-1", old) is pinned
    assert find(bank, "t-1", new) is find(bank, "t-1")
    assert live(bank) == {"t-1": new}
    store.manifest_path.write_bytes(Manifest(backbone=bare.spec.digest).to_json())
    bank.refresh()
    assert find(bank, "t-1") is None
    assert find(bank, "t-1", old) is not None


MALFORMED = ("x", "../../..", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "/", "", " ")


@pytest.mark.parametrize("digest", ["0" * 64, "of another task", *MALFORMED])
def test_a_digest_of_no_package_of_the_task_is_not_found(bank: Bank, store: Store, bare: Backbone, digest: str) -> None:
    publish(store, bare, "t-1")
    other = publish(store, bare, "t-2")
    bank.refresh()
    for _ in range(2):
        assert find(bank, "t-1", other if "another" in digest else digest) is None
    assert find(bank, "t-2", other) is not None


def test_the_loader_ends_with_its_bank(store: Store, bare: Backbone) -> None:
    before = set(threading.enumerate())
    publish(store, bare, "t-1")
    bank = Bank(store, bare)
    bank.refresh()
    (loader,) = set(threading.enumerate()) - before
    del bank
    loader.join(60)
    assert not loader.is_alive()


def test_a_budget_beyond_the_machines_memory_is_refused(own_repository: Path) -> None:
    with pytest.raises(EngineError, match=r"bank_bytes is 1,125,899,906,842,624, but this machine has [\d,]+ bytes"):
        Engine.open(own_repository, bank_bytes=1 << 50)
