"""`bank_bytes` bounds the memory of the process, not only the bank's own count of it."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from making import make_adapter, make_spec
from scoremux_engine.bank.residents import PagedArray
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.store.store import Store
from scoremux_files.atomic import replace_file

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
