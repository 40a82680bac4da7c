"""What format 1 wrote is opened by this version.

The code of format 1 wrote the folder `format-1`, and nothing writes there again. A change of a format takes a new
number, a named migration, and a folder of its own here.
"""

import shutil
from pathlib import Path

import pytest

from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import collect, verify

FORMAT_1 = Path(__file__).parent / "format-1"


@pytest.fixture
def backbone() -> Backbone:
    return Backbone.open(FORMAT_1 / "backbone")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store")))


def test_backbone_of_format_1_is_opened(backbone: Backbone) -> None:
    assert [site.name.rpartition(".")[2] for site in backbone.spec.sites] == ["query", "value"]
    assert (backbone.spec.max_tokens, backbone.spec.pooled_size) == (64, 4)


def test_store_of_format_1_is_read_and_changed(store: Store, backbone: Backbone) -> None:
    assert list(verify(store)) == []
    live = store.manifest().tasks
    assert set(live) == {"bio-7", "bio-8"}
    assert set(store.pins().values()) == {"bio-8"}
    actions = [line.action for line in store.history.entries()]
    assert actions == ["add", "add", "add", "add", "rollback", "retire", "pin"]
    decided = store.read_package(live["bio-7"], backbone).decider
    assert decided.decision is not None and decided.decision.temperature is not None
    assert store.rollback("old").before is None
    assert store.rollback("bio-8").before == live["bio-8"]
    assert len(collect(store, keep_days=0).packages) == 1
    assert list(verify(store)) == []


def test_folders_of_versions_are_published_in_another_store(store: Store, backbone: Backbone, tmp_path: Path) -> None:
    live, other = store.manifest().tasks, Store(tmp_path / "other")
    other.add([store.package_folder(digest) for digest in live.values()], backbone)
    assert other.manifest().tasks == live
    assert list(verify(other)) == []
