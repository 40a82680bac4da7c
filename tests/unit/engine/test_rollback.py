"""Going back, retiring, and finding versions by what people type."""

from __future__ import annotations

from pathlib import Path

import pytest

from making import make_adapter
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.collect import collect
from scoremux_engine.store.store import Change, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def versions(store: Store, bare: Backbone, tmp_path: Path) -> list[str]:
    """Three versions of task t, the last one live, and a task beside it."""
    store.add([make_adapter(tmp_path / "other", bare.spec, "other")], bare)
    return [publish(store, bare, seed) for seed in range(3)]


def publish(store: Store, bare: Backbone, seed: int) -> str:
    after = store.add([make_adapter(store.folder.parent / "t", bare.spec, "t", seed=seed)], bare)[0].after
    assert after is not None
    return after


def test_a_rollback_takes_the_version_before_the_last_change_and_a_second_undoes_it(
    store: Store, versions: list[str]
) -> None:
    assert store.rollback("t") == Change("t", versions[2], versions[1])
    assert store.manifest().tasks["t"] == versions[1]
    assert store.rollback("t") == Change("t", versions[1], versions[2])
    assert [e.change.after for e in store.history.entries("t")] == [*versions, versions[1], versions[2]]


def test_a_rollback_to_any_version_leaves_other_tasks_alone(store: Store, versions: list[str]) -> None:
    other = store.manifest().tasks["other"]
    store.rollback("t", versions[0][:10])
    assert store.manifest().tasks == {"other": other, "t": versions[0]}


def test_a_rollback_brings_a_retired_task_back(store: Store, versions: list[str]) -> None:
    store.retire(["t"])
    assert store.rollback("t") == Change("t", None, versions[2])


def test_a_rollback_needs_an_earlier_version(store: Store, versions: list[str]) -> None:
    before = store.manifest_bytes()
    with pytest.raises(StoreError, match=r"other has no earlier version in the history of .*; versions there: "):
        store.rollback("other")
    with pytest.raises(StoreError, match=r"nope has no earlier version .*; it has no version there"):
        store.rollback("nope")
    with pytest.raises(StoreError, match=f"'{'0' * 64}' is no version of t in .*{versions[0][:12]}"):
        store.rollback("t", "0" * 64)
    with pytest.raises(StoreError, match="is no version of other in"):
        store.rollback("other", versions[0])
    assert store.manifest_bytes() == before


def test_a_rollback_to_a_damaged_version_is_refused(store: Store, versions: list[str]) -> None:
    path = store.package_folder(versions[1]) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PackageError, match=rf"{versions[1]} is not version {versions[1][:12]} of t any more"):
        store.rollback("t")
    assert store.manifest().tasks["t"] == versions[2]


def test_a_rollback_to_a_version_that_was_collected_says_so(store: Store, versions: list[str]) -> None:
    collect(store, keep_days=0)
    gone, left = versions[1][:12], versions[2][:12]
    with pytest.raises(StoreError, match=rf"{gone} of t has left .* `tasks gc` .*; versions there: {left}$"):
        store.rollback("t")
    assert store.manifest().tasks["t"] == versions[2]


def test_retired_tasks_leave_the_manifest_at_once_and_their_packages_stay(
    store: Store, versions: list[str], bare: Backbone
) -> None:
    changes = store.retire(["t", "other", "t"])
    assert [(c.task, c.kind) for c in changes] == [("t", "retired"), ("other", "retired")]
    assert store.manifest().tasks == {}
    assert store.read_package(versions[2], bare).task.id == "t"
    assert [e.change.after for e in store.history.entries()][-2:] == [None, None]


def test_one_task_that_is_not_live_retires_none(store: Store, versions: list[str]) -> None:
    with pytest.raises(StoreError, match="nope is not live in"):
        store.retire(["t", "nope"])
    assert store.manifest().tasks["t"] == versions[2]


@pytest.mark.usefixtures("versions")
def test_a_dry_run_says_the_same_and_changes_nothing(store: Store, bare: Backbone) -> None:
    files = {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()}
    folder = make_adapter(store.folder.parent / "t", bare.spec, "t", seed=9)
    dry = [*store.add([folder], bare, dry_run=True), store.rollback("t", dry_run=True)]
    dry += store.retire(["other"], dry_run=True)
    assert {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()} == files
    assert dry[1:] == [store.rollback("t"), *store.retire(["other"])]
    store.rollback("t")
    assert dry[:1] == store.add([folder], bare)


def test_a_dry_run_makes_no_store(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "t", bare.spec, "t")
    (change,) = Store(tmp_path / "new").add([folder], bare, dry_run=True)
    assert change.kind == "new"
    assert not (tmp_path / "new").exists()


def test_what_needs_a_store_does_not_make_one(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    for change in (lambda: store.rollback("t"), lambda: store.retire(["t"]), lambda: store.pin(["t"])):
        with pytest.raises(StoreError, match="is no store"):
            change()
    assert not store.folder.exists()


def test_versions_are_found_by_as_much_of_the_digest_as_is_unique(store: Store, versions: list[str]) -> None:
    assert store.find("t") == ("t", versions[2])
    assert store.find(f"t@{versions[0][:12]}") == ("t", versions[0])
    assert store.versions("t") == sorted(versions)
    for reference in ("t@", "nope", "t@xyz", "other@" + versions[0], "t@../../packages"):
        with pytest.raises(StoreError):
            store.find(reference)


def test_a_short_digest_that_fits_two_versions_is_refused(store: Store, bare: Backbone) -> None:
    made = [publish(store, bare, seed) for seed in range(17)]  # of seventeen, two begin with the same letter
    letter = next(a[0] for a in made if sum(b[0] == a[0] for b in made) > 1)
    with pytest.raises(StoreError, match=f"'{letter}' fits more than one version of t"):
        store.find(f"t@{letter}")


def test_half_a_line_at_the_end_of_history_is_no_line_yet(store: Store, versions: list[str], bare: Backbone) -> None:
    path = store.history.path
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    for kept in range(len(last) + 1):
        path.write_bytes(whole[: len(whole) - kept - 1])
        assert len(store.history.entries()) == 3
    path.write_bytes(whole + b'{"when": "20')
    newest = publish(store, bare, 7)
    assert store.history.entries()[-1].change == Change("t", versions[2], newest)
    assert len(store.history.entries()) == 5


@pytest.mark.parametrize(
    "line",
    [b"{}", b"[]", b"{", b"\xff", b'{"when": 1, "who": "", "task": "t", "from": null, "to": null}', b"x" * 99_999],
)
def test_a_damaged_line_of_history_hides_no_other(store: Store, versions: list[str], line: bytes) -> None:
    store.history.path.write_bytes(line + b"\n" + store.history.path.read_bytes())
    assert [e.change.after for e in store.history.entries("t")] == versions


def test_an_intent_that_nobody_can_read_stops_no_writer(store: Store, versions: list[str]) -> None:
    (store.folder / ".intent.json").write_bytes(b"garbage")
    store.rollback("t")
    assert store.manifest().tasks["t"] == versions[1]
    assert not (store.folder / ".intent.json").exists()
