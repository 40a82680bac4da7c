"""`gc`, pins and `verify`: what may go goes, what is named stays, and what is wrong is said by name."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from making import make_adapter
from scoremux_engine.errors import StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.collect import collect
from scoremux_engine.store.store import Store
from scoremux_engine.store.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def versions(store: Store, bare: Backbone, tmp_path: Path) -> list[str]:
    """Three versions of task t, the last one live."""
    made = []
    for seed in range(3):
        made += store.add([make_adapter(tmp_path / "t", bare.spec, "t", seed=seed)], bare)
    return [change.after for change in made if change.after]


def age(store: Store, days: list[float]) -> None:
    """Move the lines of history so many days into the past."""
    rows = [json.loads(line) for line in store.history.path.read_text().splitlines()]
    for row, past in zip(rows, days, strict=True):
        row["when"] = (datetime.now(timezone.utc) - timedelta(days=past)).isoformat()
    store.history.path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_what_was_live_lately_stays(store: Store, versions: list[str]) -> None:
    assert collect(store).packages == {}
    age(store, [90, 60, 10])  # the second version was live until ten days ago
    assert set(collect(store, keep_days=30).packages) == {versions[0]}
    assert store.digests() == sorted(versions[1:])
    assert set(collect(store, keep_days=5).packages) == {versions[1]}
    assert store.digests() == [versions[2]]
    assert list(verify(store)) == []


def test_a_pinned_version_stays_until_it_is_unpinned(store: Store, versions: list[str], bare: Backbone) -> None:
    assert store.pin([f"t@{versions[0][:12]}"]) == {versions[0]: "t"}
    assert set(collect(store, keep_days=0).packages) == {versions[1]}
    assert store.read_package(versions[0], bare).task.id == "t"
    with pytest.raises(StoreError, match="t is not pinned"):
        store.unpin(["t"])
    assert store.unpin([f"t@{versions[0]}"]) == {}
    assert set(collect(store, keep_days=0).packages) == {versions[0]}


def test_a_dry_run_says_what_would_go_and_how_much_that_is(store: Store, versions: list[str]) -> None:
    garbage = collect(store, keep_days=0, dry_run=True)
    sizes = {d: sum(f.stat().st_size for f in store.package_folder(d).iterdir()) for d in versions[:2]}
    assert garbage.packages == sizes
    assert store.digests() == sorted(versions)
    assert collect(store, keep_days=0) == garbage


def test_leftovers_of_crashed_writers_go_and_what_is_unknown_stays(store: Store, versions: list[str]) -> None:
    for name in (".new-abc", ".old-abc", f".damaged-{versions[0]}-x"):
        (store.packages_path / name).mkdir()
        (store.packages_path / name / "task.json").write_text("{}")
    (store.folder / ".new-file").write_text("{}")
    (store.packages_path / ".new-link").symlink_to(store.folder)
    (store.packages_path / "notes").mkdir()
    assert len(collect(store).leftovers) == 5
    assert {path.name for path in store.packages_path.iterdir()} == {*versions, "notes"}
    assert {path.name for path in store.folder.iterdir()} == {"manifest.json", "history.jsonl", "packages", ".lock"}


@pytest.mark.parametrize("name", ["manifest.json", "history.jsonl", "pins.json"])
def test_nothing_goes_where_one_of_the_three_cannot_be_read(store: Store, versions: list[str], name: str) -> None:
    (store.folder / name).write_text("garbage\n")
    with pytest.raises(StoreError, match=name):
        collect(store, keep_days=0)
    assert store.digests() == sorted(versions)


def test_nothing_goes_where_there_is_no_history(store: Store, versions: list[str]) -> None:
    store.history.path.unlink()
    with pytest.raises(StoreError, match=r"history\.jsonl is missing"):
        collect(store, keep_days=0)
    assert store.digests() == sorted(versions)


def test_verify_names_everything_that_is_wrong(store: Store, versions: list[str], bare: Backbone) -> None:
    store.add([make_adapter(store.folder.parent / "u", bare.spec, "u")], bare)
    store.pin([f"t@{versions[1]}"])
    assert list(verify(store)) == list(verify(store, bare)) == []
    tensors = store.package_folder(versions[0]) / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    (store.package_folder(versions[1]) / "task.json").unlink()
    (store.package_folder(versions[2]) / "more.txt").touch()
    (store.packages_path / "notes").mkdir()
    store.package_folder(store.manifest().tasks["u"]).rename(store.folder / "aside")
    with store.history.path.open("ab") as file:
        file.write(b"garbage\n")
    problems = {p.where: p.what for p in verify(store)}
    assert set(problems) == {*(f"packages/{v}" for v in versions), "packages/notes", "u", "history.jsonl:5"}
    assert "was changed: its content's digest is" in problems[f"packages/{versions[0]}"]
    assert "task.json cannot be read: No such file" in problems[f"packages/{versions[1]}"]
    assert "more.txt" in problems[f"packages/{versions[2]}"]
    assert problems["u"] == f"its version {store.manifest().tasks['u']} is missing"


def test_verify_reads_packages_against_a_backbone_where_it_is_given_one(
    store: Store, versions: list[str], bare: Backbone
) -> None:
    fewer = Backbone(bare.folder, bare.spec.model_copy(update={"sites": bare.spec.sites[:1]}))
    (problem,) = verify(store, fewer)
    assert problem.where == "t"
    assert "which this backbone keeps closed" in problem.what
    other = Backbone(bare.folder, bare.spec.model_copy(update={"digest": "c" * 64}))
    assert [p.where for p in verify(store, other)] == ["manifest.json"]
    assert versions[2] in store.digests()


def test_verify_says_where_the_manifest_is_damaged_or_wrong(store: Store, versions: list[str], bare: Backbone) -> None:
    backbone = bare.spec.digest
    store.manifest_path.write_text(json.dumps({"backbone": backbone, "tasks": {"other": versions[0]}}))
    assert [(p.where, p.what) for p in verify(store)] == [("other", f"its version {versions[0]} says it is task t")]
    store.manifest_path.write_text("{")
    (problem,) = verify(store)
    assert "manifest.json is damaged: it is not JSON" in problem.what
