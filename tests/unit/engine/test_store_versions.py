"""Versions in a store: going back, retiring, finding, collecting and verifying them."""

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from making import make_adapter
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.history import Change
from scoremux_engine.store.manifest import PinnedVersions
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify

TENSORS = "adapter_model.safetensors"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def versions(store: Store, bare: Backbone, tmp_path: Path) -> list[str]:
    """Three versions of task t, the last one live, and a task beside it."""
    store.add([make_adapter(tmp_path / "other", bare.spec, "other")], bare)
    return [publish(store, bare, seed) for seed in range(3)]


def publish(store: Store, bare: Backbone, seed: int, task: str = "t") -> str:
    (change,) = store.add([make_adapter(store.folder.parent / task, bare.spec, task, seed=seed)], bare)
    assert change.after is not None
    return change.after


def age(store: Store, days: list[float]) -> None:
    rows = [json.loads(line) for line in store.history.path.read_text().splitlines()]
    for row, past in zip(rows, days, strict=True):
        row["when"] = (datetime.now(timezone.utc) - timedelta(days=past)).isoformat()
    store.history.path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_rollback_takes_the_version_before(store: Store, versions: list[str]) -> None:
    assert store.rollback("t") == Change("t", versions[2], versions[1])
    assert store.manifest().tasks["t"] == versions[1]
    assert store.rollback("t") == Change("t", versions[1], versions[2])
    assert [line.after for line in store.history.entries("t")] == [*versions, versions[1], versions[2]]
    assert store.rollback("t") == Change("t", versions[2], versions[1])
    store.retire(["t"])
    assert store.rollback("t") == Change("t", None, versions[1])


def test_rollback_without_an_earlier_whole_version_is_refused(store: Store, versions: list[str]) -> None:
    before = store.manifest_bytes()
    with pytest.raises(StoreError, match=r"other has no earlier version in the history of .*; versions there: "):
        store.rollback("other")
    with pytest.raises(StoreError, match=r"nope has no earlier version .*; it has no version there"):
        store.rollback("nope")
    with pytest.raises(StoreError, match=f"'{'0' * 64}' is not a version of t in .*{versions[0][:12]}"):
        store.rollback("t", "0" * 64)
    with pytest.raises(StoreError, match="is not a version of other in"):
        store.rollback("other", versions[0])
    assert store.manifest_bytes() == before
    path = store.package_folder(versions[1]) / TENSORS
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(PackageError, match=rf"{versions[1]} is damaged: it is not version {versions[1][:12]} of t"):
        store.rollback("t")
    collect(store, keep_days=0)
    removed, left = versions[1][:12], versions[2][:12]
    with pytest.raises(StoreError, match=rf"{removed} of t was removed from .* by `tasks gc`; versions there: {left}$"):
        store.rollback("t")
    assert store.manifest().tasks["t"] == versions[2]


def test_retired_tasks_leave_the_manifest_alone(store: Store, versions: list[str], bare: Backbone) -> None:
    with pytest.raises(StoreError, match="nope is not live in"):
        store.retire(["t", "nope"])
    assert store.manifest().tasks["t"] == versions[2]
    changes = store.retire(["t", "other", "t"])
    assert [(c.task, c.kind) for c in changes] == [("t", "retired"), ("other", "retired")]
    assert store.manifest().tasks == {}
    assert store.read_package(versions[2], bare).task.id == "t"
    assert [line.after for line in store.history.entries()][-2:] == [None, None]


@pytest.mark.usefixtures("versions")
def test_dry_run_returns_the_same_and_changes_nothing(store: Store, bare: Backbone) -> None:
    files = {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()}
    folder = make_adapter(store.folder.parent / "t", bare.spec, "t", seed=9)
    dry = store.add([folder], bare, dry_run=True)
    assert {p: p.read_bytes() for p in store.folder.rglob("*") if p.is_file()} == files
    assert dry == store.add([folder], bare)


def test_dry_run_and_refused_changes_make_no_store(store: Store, bare: Backbone, tmp_path: Path) -> None:
    (change,) = store.add([make_adapter(tmp_path / "t", bare.spec, "t")], bare, dry_run=True)
    assert change.kind == "new"
    for refused in (lambda: store.rollback("t"), lambda: store.retire(["t"])):
        with pytest.raises(StoreError, match="is not a store"):
            refused()
    assert not store.folder.exists()


def test_version_is_found_by_a_unique_part_of_its_digest(store: Store, versions: list[str]) -> None:
    assert store.find("t") == ("t", versions[2])
    assert store.find(f"t@{versions[0][:12]}") == ("t", versions[0])
    assert store.versions("t") == sorted(versions)
    for reference in ("t@", "nope", "t@xyz", "other@" + versions[0], "t@../../packages"):
        with pytest.raises(StoreError):
            store.find(reference)


def test_short_digest_of_two_versions_is_refused(store: Store, bare: Backbone) -> None:
    digests = [publish(store, bare, seed) for seed in range(17)]  # of seventeen, two begin with the same letter
    letter = next(a[0] for a in digests if sum(b[0] == a[0] for b in digests) > 1)
    with pytest.raises(StoreError, match=f"'{letter}' fits more than one version of t"):
        store.find(f"t@{letter}")


@pytest.mark.usefixtures("versions")
def test_history_names_every_kind_of_change(store: Store) -> None:
    store.rollback("t")
    store.retire(["t"])
    store.rollback("t")
    lines = store.history.entries("t")
    assert [line.action for line in lines] == ["add", "add", "add", "rollback", "retire", "rollback"]
    assert [line.before is None for line in lines] == [True, False, False, False, False, True]


@pytest.mark.usefixtures("versions")
def test_half_a_line_of_history_is_left_out_until_it_is_whole(store: Store) -> None:
    path = store.history.path
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rpartition(b"\n")[2]
    for kept in range(len(last) + 1):
        path.write_bytes(whole[: len(whole) - kept - 1])
        assert len(store.history.entries()) == 3


OLD_LINE = b'{"when": "2026-01-01T00:00:00+00:00", "who": "", "task": "t", "from": null, "to": null}'


@pytest.mark.parametrize("line", [b"{}", b"[]", b"{", b"\xff", OLD_LINE, b"x" * 99_999], ids=lambda line: line[:9])
def test_damaged_line_of_history_hides_no_other(store: Store, versions: list[str], line: bytes) -> None:
    store.history.path.write_bytes(line + b"\n" + store.history.path.read_bytes())
    assert [entry.after for entry in store.history.entries("t")] == versions


def test_unreadable_intent_is_dropped(store: Store, versions: list[str]) -> None:
    (store.folder / ".intent.json").write_bytes(b"garbage")
    store.rollback("t")
    assert store.manifest().tasks["t"] == versions[1]
    assert not (store.folder / ".intent.json").exists()


def test_gc_keeps_what_was_live_lately(store: Store, versions: list[str]) -> None:
    assert collect(store).packages == {}
    other = store.manifest().tasks["other"]
    age(store, [99, 90, 60, 10])  # the second version was live until ten days ago
    assert set(collect(store, keep_days=30).packages) == {versions[0]}
    assert store.digests() == sorted([*versions[1:], other])
    assert set(collect(store, keep_days=5).packages) == {versions[1]}
    assert store.digests() == sorted([versions[2], other])
    assert list(verify(store)) == []


def test_gc_keeps_a_version_that_was_pinned_before_there_were_no_pins(store: Store, versions: list[str]) -> None:
    (store.folder / "pins.json").write_bytes(PinnedVersions(pins={versions[0]: "t"}).to_json())
    assert set(collect(store, keep_days=0).packages) == {versions[1]}


@pytest.mark.usefixtures("versions")
def test_gc_removes_leftovers_of_crashed_writers_and_nothing_unknown(store: Store) -> None:
    packages = set(store.digests())
    for name in (".new-abc", ".old-abc"):
        (store.packages_path / name).mkdir()
        (store.packages_path / name / "task.json").write_text("{}")
    (store.folder / ".new-file").write_text("{}")
    (store.packages_path / ".new-link").symlink_to(store.folder)
    (store.packages_path / "notes").mkdir()
    assert len(collect(store).leftovers) == 4
    assert {path.name for path in store.packages_path.iterdir()} == {*packages, "notes"}
    files = {"manifest.json", "history.jsonl", "levels.jsonl", "packages", ".lock"}
    assert {path.name for path in store.folder.iterdir()} == files


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("name", ["manifest.json", "history.jsonl", "pins.json", "history.jsonl is missing"])
def test_gc_removes_nothing_where_a_file_cannot_be_read(store: Store, name: str) -> None:
    packages, file = store.digests(), store.folder / name.split()[0]
    file.unlink() if "missing" in name else file.write_text("garbage\n")
    with pytest.raises(StoreError, match=name):
        collect(store, keep_days=0)
    assert store.digests() == packages


def test_verify_names_everything_that_is_wrong(store: Store, versions: list[str]) -> None:
    other = store.manifest().tasks["other"]
    assert list(verify(store)) == []
    tensors = store.package_folder(versions[0]) / TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    (store.package_folder(versions[1]) / "task.json").unlink()
    store.package_folder(other).rename(store.folder / "aside")
    problems = {p.where: p.what for p in verify(store)}
    assert set(problems) == {*(f"packages/{v}" for v in versions[:2]), "other"}
    assert "was changed: its content's digest is" in problems[f"packages/{versions[0]}"]
    assert "task.json cannot be read" in problems[f"packages/{versions[1]}"]
    manifest = store.manifest().model_copy(update={"tasks": {"other": versions[2]}})
    store.manifest_path.write_bytes(manifest.to_json())
    assert [p.where for p in verify(store)][-1] == "other"
    store.manifest_path.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        list(verify(store))
