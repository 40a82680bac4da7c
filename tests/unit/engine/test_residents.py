"""Versions in memory: slots hold what they were given, the least recently used leave first; memory is bounded."""

import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from making import make_adapter, make_spec
from scoremux_engine.bank.residents import PagedArray, Pool, Residents, Version
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.scoring.computation import SHARED_GROUPS, TableLookup
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file

SIZE = SizeClass(rank=8, levels=8)


@pytest.fixture
def bare(tmp_path: Path) -> Backbone:
    """Wide enough that a slot's matrices are whole pages; only the head's bias is less."""
    return Backbone(tmp_path / "no-backbone", make_spec(128))


@pytest.fixture
def packages(bare: Backbone, tmp_path: Path) -> list[TaskPackage]:
    """Five packages of rank 2 to 6 and 3 to 7 levels: all of one size class."""
    return [package(bare, tmp_path, f"t-{n}", rank=n + 2, levels=n + 3) for n in range(5)]


def package(bare: Backbone, root: Path, task: str, rank: int, levels: int = 3) -> TaskPackage:
    made = make_adapter(root / task, bare.spec, task, rank=rank, levels=levels, seed=rank)
    return TaskPackage.read(made, bare)


def residents(bare: Backbone, slots: float) -> Residents:
    return Residents(bare.spec, {}, budget(bare, slots))


def budget(bare: Backbone, slots: float) -> int:
    """Return what so many slots take with the page that their biases share."""
    return int(slots * Pool(bare.spec, SIZE, {}, 1).slot_bytes) + mmap.PAGESIZE


def inserted(held: Residents, given: TaskPackage, *, evict: bool = True) -> Version:
    version = held.insert(given, evict=evict)
    assert version is not None
    return version


def test_a_slot_holds_the_adapters_tables_padded_with_zeros(bare: Backbone, packages: list[TaskPackage]) -> None:
    held = residents(bare, 5)
    versions = [inserted(held, p) for p in packages]
    for version, given in zip(versions, packages, strict=True):
        for name, table in version.tables.items():
            part = given.tables[name]
            inside = tuple(slice(n) for n in part.shape)
            np.testing.assert_array_equal(table[inside], part)
            assert np.count_nonzero(table) == np.count_nonzero(part)


def test_a_slot_that_is_used_again_holds_nothing_of_its_last_adapter(bare: Backbone, tmp_path: Path) -> None:
    held = residents(bare, 1)
    inserted(held, package(bare, tmp_path, "large", rank=8, levels=8))
    small = package(bare, tmp_path, "small", rank=1, levels=2)
    version = inserted(held, small)
    assert (len(held), held.evictions) == (1, 1)
    for name, table in version.tables.items():
        assert np.count_nonzero(table) == np.count_nonzero(small.tables[name])


def test_the_least_recently_used_leaves_first_and_pinned_stay(bare: Backbone, packages: list[TaskPackage]) -> None:
    held = residents(bare, 3)
    for given in packages[:3]:
        inserted(held, given)
    held.get(packages[0].digest)
    inserted(held, packages[3])
    assert [p.digest in held for p in packages[:4]] == [True, False, True, True]
    held.demote(packages[3].digest)
    inserted(held, packages[4])
    assert [p.digest in held for p in packages] == [True, False, True, False, True]
    held = residents(bare, 2)
    assert held.has_room
    pinned = [inserted(held, p, evict=False) for p in packages[:2]]
    assert not held.has_room and held.insert(packages[2], evict=False) is None and len(held) == 2
    for version in pinned:
        held.pin(version)
    assert held.insert(packages[2]) is None
    held.unpin(pinned)
    assert held.insert(packages[2]) is not None


def test_the_budget_counts_pools_of_all_shapes(bare: Backbone, tmp_path: Path, packages: list[TaskPackage]) -> None:
    held = residents(bare, 5)
    for given in packages:
        inserted(held, given)
    wide = inserted(held, package(bare, tmp_path, "wide", rank=9))
    assert wide.pool is not None
    assert held.used_bytes <= budget(bare, 5)
    assert held.evictions >= 1


def test_tables_have_the_runners_type_and_are_given_in_place(bare: Backbone, packages: list[TaskPackage]) -> None:
    name = f"A.{bare.spec.sites[0].name}"
    narrow = {name: np.dtype(ml_dtypes.bfloat16)}
    version = inserted(Residents(bare.spec, narrow, 1 << 20), packages[0])
    assert version.tables[name].dtype == ml_dtypes.bfloat16
    expected = packages[0].tables[name].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(version.tables[name][:, :2], expected)
    held = residents(bare, 5)
    versions = [inserted(held, p) for p in packages]
    group, tables = TableLookup(bare.spec, {}, in_place=True).find([versions[i] for i in (4, 0, 2)])
    assert tables is versions[0].pool.tables  # type: ignore[union-attr]
    assert group.tolist() == [versions[4].slot, versions[0].slot, versions[2].slot]


@pytest.mark.parametrize("others", [0, SHARED_GROUPS])
@pytest.mark.parametrize("in_place", [True, False])
def test_versions_without_a_slot_are_copied(
    bare: Backbone, packages: list[TaskPackage], in_place: bool, others: int
) -> None:
    held = residents(bare, 9)
    unpooled = Version(packages[1].task, packages[1].digest, SIZE, 3, own_tables=packages[1].tables)
    versions = [inserted(held, packages[0]), unpooled]
    others = [replace(unpooled, digest=f"other-{n}") for n in range(others)]
    lookup = TableLookup(bare.spec, {}, in_place=in_place)
    rows = [unpooled, versions[0], versions[0]]
    group, tables = lookup.find(rows, [*versions, *others])
    for row, version in zip(group, rows, strict=True):
        for name, part in version.tables.items():
            whole = tables.arrays[name][row]
            assert whole.shape == versions[0].tables[name].shape
            inside = tuple(slice(n) for n in part.shape)
            np.testing.assert_array_equal(whole[inside], part)
            assert np.count_nonzero(whole) == np.count_nonzero(part)


@pytest.mark.parametrize("in_place", [True, False])
def test_tables_of_a_row_have_its_shapes(
    bare: Backbone, tmp_path: Path, packages: list[TaskPackage], in_place: bool
) -> None:
    held = Residents(bare.spec, {}, 1 << 20)
    wide = inserted(held, package(bare, tmp_path, "wide", rank=40))
    versions = [inserted(held, packages[0]), wide]
    lookup = TableLookup(bare.spec, {}, in_place=in_place)
    for version, rank in zip(versions, (8, 64), strict=True):
        _, tables = lookup.find([version])
        assert {a.shape[2] for n, a in tables.arrays.items() if n.startswith("A.")} == {rank}


BUDGET = 60 << 20
LAYERS, TASKS, RANKS = 12, 16, (8, 16, 32, 64)
PAGE = mmap.PAGESIZE

SERVER = """
import mmap, sys
from pathlib import Path
from making import make_spec
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.bank.bank import Bank
from scoremux_engine.bank.residents import Version
from scoremux_engine.store.store import Store

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

backbone = Backbone(Path("none"), make_spec(384, layers=int(sys.argv[3])))
bank = Bank(Store(Path(sys.argv[1])), backbone, budget_bytes=int(sys.argv[2]))
bank.refresh()
before = resident()
for _ in sys.stdin:
    for task in bank.tasks:
        with bank.checkout() as versions:
            assert isinstance(versions.find(task), Version)
    bank.load_live()
    print(resident() - before, flush=True)
"""


def manifests(root: Path) -> tuple[Store, list[bytes]]:
    """Return a store that has every task in every rank, and the manifest of each rank."""
    backbone = Backbone(Path("none"), make_spec(384, layers=LAYERS))
    store, made = Store(root / "store"), []
    for rank in RANKS:
        adapters = [
            make_adapter(root / str(n), backbone.spec, f"t-{n}", rank=rank, levels=3, seed=n) for n in range(TASKS)
        ]
        store.add(adapters, backbone)
        made.append(store.manifest_bytes())
    return store, made


@pytest.mark.parametrize("rounds", [4, pytest.param(10, marks=pytest.mark.nightly)])
def test_republishing_at_changing_ranks_takes_no_more_memory_than_the_budget(tmp_path: Path, rounds: int) -> None:
    store, ranks = manifests(tmp_path)
    support = str(Path(__file__).parents[2] / "support")
    command = [sys.executable, "-c", SERVER, str(store.folder), str(BUDGET), str(LAYERS)]
    grown = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": support}
    ) as server:
        assert server.stdin and server.stdout
        for manifest in ranks * rounds:
            replace_file(store.manifest_path, [manifest])
            server.stdin.write("\n")
            server.stdin.flush()
            grown.append(int(server.stdout.readline()))
        server.stdin.close()
    assert max(grown) <= 1.15 * BUDGET
    assert max(grown) > 0.9 * BUDGET  # the test must fill it


@pytest.mark.parametrize(("row_bytes", "own_pages"), [(2 * PAGE, 2), (PAGE * 3 // 2, 1), (PAGE * 5 // 2, 2), (64, 0)])
def test_a_released_row_returns_the_pages_that_no_other_row_uses(row_bytes: int, own_pages: int) -> None:
    rows = PagedArray((3, row_bytes), np.dtype(np.uint8))
    used = [rows.use(row) for row in range(3)]
    assert sum(used) == -(-3 * row_bytes // PAGE) * PAGE
    rows.array[:] = 7
    assert rows.release(1) == own_pages * PAGE
    assert (rows.array[0] == 7).all() and (rows.array[2] == 7).all()
    assert np.count_nonzero(rows.array[1] == 0) == own_pages * PAGE
    assert rows.release(0) + rows.release(2) == sum(used) - own_pages * PAGE
    assert not rows.array.any()
