"""A folder that follows a store in a bucket fetches packages by their digest, and serves what it has in an outage."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from making import make_adapter
from scoremux_client.contract import Status
from scoremux_engine.bank.bank import Bank
from scoremux_engine.commands.changes import follow
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.store import origin as origin_module
from scoremux_engine.store.store import Store
from waiting import until

URL = "memory://exams/store"


class Programme:
    """A store that is published into, its copy in a bucket, and a folder that follows the copy."""

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        self.folder, self.backbone = folder, backbone
        self.own, self.bucket = Store(folder / "own"), fsspec.filesystem("memory")
        self.bucket.store.clear()

    def publish(self, *tasks: str, seed: int = 0) -> list[str]:
        """Publish and copy; return the versions. The manifest is copied last."""
        folders = [make_adapter(self.folder / t, self.backbone.spec, t, seed=seed) for t in tasks]
        versions = [str(change.after) for change in self.own.add(folders, self.backbone)]
        for name in ("packages/", "levels.jsonl", "manifest.json"):
            self.bucket.put(f"{self.own.folder}/{name}", f"/exams/store/{name}", recursive=True)
        return versions

    def follow(self, **options: Any) -> Store:
        follow(URL, self.folder / "here", **options)
        return Store(self.folder / "here")

    def read(self, store: Store, digest: str) -> TaskPackage:
        return store.read_package(digest, self.backbone)

    def path(self, digest: str, name: str = "adapter_model.safetensors") -> str:
        return f"/exams/store/packages/{digest}/{name}"


class Faulty:
    """A bucket that counts what it is asked, and does `fault` first."""

    def __init__(self, bucket: Any) -> None:
        self.bucket, self.asked = bucket, 0
        self.fault: Callable[[], object] = int

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **options: Any) -> Any:
            self.asked += 1
            self.fault()
            return getattr(self.bucket, name)(*arguments, **options)

        return ask


def faulty(store: Store) -> Faulty:
    assert store.origin
    bucket = store.origin._bucket = Faulty(store.origin._bucket)
    return bucket


@pytest.fixture
def programme(tmp_path: Path, bare: Backbone) -> Programme:
    return Programme(tmp_path, bare)


def look(store: Store) -> None:
    """Look at the bucket now, and wait for it."""
    origin = store.origin
    assert origin
    origin._looked_at = float("-inf")
    origin.look()
    assert origin._looking
    origin._looking.join(5)


def test_bank_scores_with_a_package_that_is_fetched_once_and_with_what_is_published_later(programme: Programme) -> None:
    first, other = programme.publish("a", "b")
    store = programme.follow()
    bank = Bank(store, programme.backbone, background=False)
    bank.refresh()
    asked = faulty(store)
    assert store.digests() == []
    for _ in range(2):
        with bank.checkout() as versions:
            found = versions.find("a")
            assert not isinstance(found, Status) and found.digest == first
            assert versions.find("a", "0" * 64) is Status.UNKNOWN_TASK  # costs the bucket nothing
    assert (store.digests(), asked.asked) == ([first], 2)  # its size, and its files
    (newer,) = programme.publish("a", seed=7)
    look(store)
    bank.expect([b"a", "b"])
    with bank.checkout() as versions:
        found, pinned = versions.find("a"), versions.find("a", first)
    assert not isinstance(found, Status) and not isinstance(pinned, Status)
    assert (found.digest, pinned.digest) == (newer, first)
    until(lambda: store.digests() == sorted([first, newer, other]))
    assert bank.described().keys() == {"a", "b"}


def test_outage_stops_no_package_that_is_here_and_the_bucket_is_left_alone_until_it_answers(
    programme: Programme, caplog: pytest.LogCaptureFixture
) -> None:
    here, there = programme.publish("a", "b")
    programme.read(programme.follow(), here)
    store = Store(programme.folder / "here")  # a restart in the outage
    asked = faulty(store)
    asked.fault = lambda: (_ for _ in ()).throw(ConnectionError("no route to the bucket"))
    look(store)
    asked_before = asked.asked
    assert programme.read(store, here).digest == here
    for _ in range(3):
        with pytest.raises(PackageError, match=f"{URL}.*no route to the bucket"):
            programme.read(store, there)
    assert asked.asked == asked_before and store.unreachable
    assert len([record for record in caplog.records if "no route" in record.message]) == 1
    asked.fault = lambda: None
    look(store)
    assert programme.read(store, there).digest == there and not store.unreachable


def test_bucket_that_hangs_is_waited_for_once(programme: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, goes_on = programme.publish("a", "b"), threading.Event()
    store = programme.follow()
    look(store)
    faulty(store).fault = lambda: goes_on.wait(20)
    begun = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(origin_module, "_WAIT_S", 0.02)
        patch.setattr(origin_module, "_PATIENCE_S", 0.2)
        for digest in versions * 20:
            with pytest.raises(PackageError, match="no answer"):
                programme.read(store, digest)
    assert time.monotonic() - begun < 3
    goes_on.set()
    look(store)
    assert [programme.read(store, digest).digest for digest in versions] == versions


@pytest.mark.parametrize("damage", ["cut", "missing", "other", "large"])
def test_object_that_is_not_the_version_is_refused_by_name_and_not_kept(programme: Programme, damage: str) -> None:
    (digest,) = programme.publish("a")
    store, path = programme.follow(keep_gib=0.01), programme.path(digest)
    whole = programme.bucket.cat_file(path)
    if damage == "missing":
        programme.bucket.rm_file(path)
    else:
        wrong = {"cut": whole[:-1], "other": whole[:-1] + b"?", "large": bytes(11 << 20)}
        programme.bucket.pipe_file(path, wrong[damage])
    asked = faulty(store)
    for _ in range(3):  # a loader tries each second
        with pytest.raises(PackageError, match=digest[:12]):
            programme.read(store, digest)
    assert asked.asked <= 2
    assert list((store.folder / "packages").iterdir()) == [] and not store.unreachable
    programme.bucket.pipe_file(path, whole)
    programme.bucket.pipe_file("/exams/store/manifest.json", programme.own.manifest_bytes())
    look(store)
    assert programme.read(store, digest).digest == digest


def test_two_processes_that_fetch_one_package_do_not_disturb_each_other(programme: Programme) -> None:
    (digest,) = programme.publish("a")
    store, other = programme.follow(), Store(programme.folder / "here")
    faulty(store).fault = lambda: programme.read(other, digest)
    assert programme.read(store, digest).digest == digest and not store.unreachable


def test_manifest_that_is_cut_is_not_followed_and_stops_no_fetch(programme: Programme) -> None:
    (digest,) = programme.publish("a")
    store = programme.follow()
    before = store.manifest_bytes()
    programme.bucket.pipe_file("/exams/store/manifest.json", before[:-9])
    look(store)
    assert "manifest.json" in store.unreachable and store.manifest_bytes() == before
    assert programme.read(store, digest).digest == digest


def test_least_recently_read_packages_leave_where_there_is_no_room(programme: Programme) -> None:
    digests = programme.publish("a", "b", "c", "d")
    store = programme.follow()
    size = sum(file.stat().st_size for file in programme.own.package_folder(digests[0]).iterdir())
    assert store.origin
    store.origin._keep_bytes = 3 * size + size // 2
    for digest in (*digests[:3], digests[0], digests[3]):
        programme.read(store, digest)
        time.sleep(0.01)
    assert store.digests() == sorted({digests[0], digests[2], digests[3]})


def test_nothing_is_published_into_a_folder_that_follows_and_no_store_of_its_own_follows(programme: Programme) -> None:
    programme.publish("a")
    store = programme.follow()
    with pytest.raises(StoreError, match=URL):
        store.add([programme.folder / "a"], programme.backbone)
    with pytest.raises(StoreError, match="of its own"):
        follow(URL, programme.own.folder)
    shutil.rmtree(store.folder)
    with pytest.raises(StoreError, match="gone/manifest"):
        follow("memory://gone", store.folder)
    with pytest.raises(StoreError, match="bucket"):
        follow("nothing://gone", store.folder)
