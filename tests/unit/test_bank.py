"""The bank keeps in step with the store, and keeps what it has when the store is wrong."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from making import make_adapter
from scoremux_client.contract import Status
from scoremux_engine.backbone import Backbone
from scoremux_engine.bank.bank import Bank
from scoremux_engine.bank.version import Version
from scoremux_engine.errors import StoreError
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.store import Store


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


def test_a_store_may_have_no_tasks(bank: Bank) -> None:
    assert (bank.tasks, find(bank, "t-1"), bank.levels_max) == ([], None, 1)


def test_a_store_that_is_not_there_is_no_empty_one(store: Store, bare: Backbone) -> None:
    away = store.folder.rename(store.folder.with_name("away"))
    bank = Bank(store, bare, background=False)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store is no store: No such file or directory: manifest\.json"):
            find(bank, "t-1")
    away.rename(store.folder)
    digest = publish(store, bare, "t-1")
    bank.refresh()
    assert live(bank) == {"t-1": digest}
    store.folder.rename(away)  # what is in memory stays
    bank.refresh()
    assert live(bank) == {"t-1": digest}


def test_a_publish_is_picked_up_by_the_next_refresh(bank: Bank, store: Store, bare: Backbone) -> None:
    digests = {"t-1": publish(store, bare, "t-1", levels=3), "t-2": publish(store, bare, "t-2", levels=7)}
    assert bank.tasks == []
    bank.refresh()
    assert live(bank) == digests
    assert bank.levels_max == 7


def test_an_update_is_picked_up_by_the_next_refresh(bank: Bank, store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    new = publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert live(bank) == {"t-1": new}


def test_a_task_that_did_not_change_is_not_read_again(bank: Bank, store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    before = find(bank, "t-1")
    publish(store, bare, "t-2")
    bank.refresh()
    assert find(bank, "t-1") is before


def test_a_task_that_left_the_manifest_leaves_the_bank(bank: Bank, store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    publish(store, bare, "t-2", levels=9)
    bank.refresh()
    store.manifest_path.write_text(f'{{"backbone": "{bare.spec.digest}", "tasks": {{"t-1": "{live(bank)["t-1"]}"}}}}')
    bank.refresh()
    assert (bank.tasks, bank.levels_max) == (["t-1"], 3)
    assert find(bank, "t-2") is None


def test_a_damaged_new_version_leaves_the_old_one_live(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    old = publish(store, bare, "t-1")
    bank.refresh()
    new = publish(store, bare, "t-1", seed=1)
    damage(store, new)
    other = publish(store, bare, "t-2")
    with caplog.at_level(logging.ERROR):
        bank.refresh()
        assert live(bank) == {"t-1": old, "t-2": other}
    assert f"task t-1: version {new[:12]} is not served" in caplog.text


def test_a_damaged_first_version_hides_only_its_own_task(bank: Bank, store: Store, bare: Backbone) -> None:
    damage(store, publish(store, bare, "t-1"))
    good = publish(store, bare, "t-2")
    bank.refresh()
    assert live(bank) == {"t-2": good}


def test_a_manifest_that_calls_a_package_by_another_name_is_not_believed(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    digest = publish(store, bare, "t-1")
    store.manifest_path.write_text(f'{{"backbone": "{bare.spec.digest}", "tasks": {{"t-2": "{digest}"}}}}')
    with caplog.at_level(logging.ERROR):
        assert find(bank, "t-2") is None
    assert "is not served: it says it is task t-1" in caplog.text


@pytest.mark.parametrize("data", [b"", b"garbage", b'{"backbone": 1}', b"\xff\xfe"])
def test_a_manifest_of_garbage_leaves_the_tasks_loaded(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    digest = publish(store, bare, "t-1")
    bank.refresh()
    store.manifest_path.write_bytes(data)
    with caplog.at_level(logging.ERROR):
        bank.refresh()
        bank.refresh()
    assert live(bank) == {"t-1": digest}
    assert caplog.text.count("keeping the tasks already loaded") == 1


def test_a_manifest_that_was_never_read_and_cannot_be_is_no_empty_store(store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    good = store.manifest_path.read_bytes()
    store.manifest_path.write_bytes(good[:-9])
    bank = Bank(store, bare, background=False)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
            bank.refresh()
    store.manifest_path.write_bytes(good)
    bank.refresh()
    assert bank.tasks == ["t-1"]


def test_a_manifest_that_was_not_replaced_is_not_read_again(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    bank.load_live()
    store.package_folder(store.manifest().tasks["t-1"]).rename(store.folder / "aside")
    with caplog.at_level(logging.ERROR):
        bank.refresh()
    assert caplog.text == ""


def test_a_manifest_written_in_place_is_read_again_whatever_its_times_say(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    path, before = store.manifest_path, store.manifest_path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with caplog.at_level(logging.ERROR):
        bank.refresh()
    assert "is damaged" in caplog.text


def test_a_mended_manifest_is_picked_up_again(bank: Bank, store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    whole = store.manifest_path.read_bytes()
    store.manifest_path.write_bytes(b"garbage")
    bank.refresh()
    store.manifest_path.write_bytes(whole)
    new = publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert live(bank) == {"t-1": new}


def test_a_store_of_another_backbone_is_refused_at_every_refresh(store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    other = Bank(store, Backbone(bare.folder, bare.spec.model_copy(update={"digest": "c" * 64})))
    for _ in range(2):
        with pytest.raises(StoreError, match="belongs to backbone bbbbbbbbbbbb, but cccccccccccc is loaded"):
            other.refresh()
    assert other.tasks == []


def test_a_live_version_can_be_pinned(bank: Bank, store: Store, bare: Backbone) -> None:
    digest = publish(store, bare, "t-1")
    bank.refresh()
    assert find(bank, "t-1", digest) is find(bank, "t-1")


def test_an_old_version_can_be_pinned(bank: Bank, store: Store, bare: Backbone) -> None:
    old = publish(store, bare, "t-1", levels=3)
    new = publish(store, bare, "t-1", levels=5)
    bank.refresh()
    pinned = find(bank, "t-1", old)
    assert pinned is not None
    assert (pinned.digest, pinned.levels) == (old, 3)
    assert live(bank) == {"t-1": new}


def test_a_pinned_version_is_read_once(bank: Bank, store: Store, bare: Backbone) -> None:
    old = publish(store, bare, "t-1")
    publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert find(bank, "t-1", old) is find(bank, "t-1", old)


def test_a_version_of_a_task_that_is_no_longer_live_can_be_pinned(bank: Bank, store: Store, bare: Backbone) -> None:
    old = publish(store, bare, "t-1")
    store.manifest_path.write_text(f'{{"backbone": "{bare.spec.digest}", "tasks": {{}}}}')
    bank.refresh()
    assert find(bank, "t-1") is None
    assert find(bank, "t-1", old) is not None


def test_a_digest_that_no_package_has_is_not_found(bank: Bank, store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    bank.refresh()
    assert find(bank, "t-1", "0" * 64) is None


def test_a_digest_of_another_task_is_not_found(bank: Bank, store: Store, bare: Backbone) -> None:
    digest = publish(store, bare, "t-1")
    publish(store, bare, "t-2")
    bank.refresh()
    for _ in range(2):
        assert find(bank, "t-2", digest) is None
    assert find(bank, "t-1", digest) is not None


@pytest.mark.parametrize("digest", ["x", "../../..", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "/", "", " "])
def test_what_is_no_digest_is_looked_for_nowhere(bank: Bank, store: Store, bare: Backbone, digest: str) -> None:
    publish(store, bare, "t-1")
    publish(store, bare, "t-1", seed=1)
    bank.refresh()
    assert find(bank, "t-1", digest) is None


def test_a_damaged_pinned_version_is_not_found(
    bank: Bank, store: Store, bare: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    old = publish(store, bare, "t-1")
    new = publish(store, bare, "t-1", seed=1)
    damage(store, old)
    bank.refresh()
    with caplog.at_level(logging.ERROR):
        assert find(bank, "t-1", old) is None
    assert "is not served" in caplog.text
    assert live(bank) == {"t-1": new}


def test_the_loader_reads_what_was_published_beside_the_scoring(store: Store, bare: Backbone) -> None:
    publish(store, bare, "t-1")
    bank = Bank(store, bare)
    bank.refresh()
    new = publish(store, bare, "t-2")
    deadline = time.monotonic() + 10
    while bank.stats.resident < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (bank.stats.resident, bank.stats.waits) == (2, 0)
    assert live(bank)["t-2"] == new


def test_the_loader_ends_with_its_bank(store: Store, bare: Backbone) -> None:
    before = set(threading.enumerate())
    publish(store, bare, "t-1")
    bank = Bank(store, bare)
    bank.refresh()
    (loader,) = set(threading.enumerate()) - before
    del bank
    loader.join(10)
    assert not loader.is_alive()
