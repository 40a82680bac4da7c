"""What `plan-capacity --measure` measures on a real server."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_client import Response
from scoremux_engine.store.store import Store
from scoremux_server.capacity.measure import OPENVINO_GROWTH_BYTES, measure
from scoremux_server.capacity.sources import sizes_of
from scoremux_server.profile import Profile

pytestmark = pytest.mark.triton
TASK, WIDE = "t-1", {"COLUMNS": "200"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file of 300 rows, 260 of which repeat others."""
    made = [{"task": TASK, "text": "router " * (number % 40)} for number in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return tmp_path / "rows.jsonl"


def planned(repository: Path, rows: Path, profile: str, *more: str) -> str:
    """Return what the command prints."""
    command = [str(Path(sys.executable).with_name("scoremux")), "plan-capacity", "--responses", "1e6", "--hours", "1"]
    command += ["--measure", str(repository), "--profile", profile, "--seconds", "1"]
    command += ["--rows", str(rows), "--tasks", "100", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=os.environ | WIDE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_speed_and_memory_of_a_real_server(small_repository: Path, rows: Path) -> None:
    assert TASK in Store(small_repository / "store").manifest().tasks
    before = sorted(small_repository.rglob("*"))
    made = json.loads(planned(small_repository, rows, "cpu-reference", "--json"))
    rate, sizes, plan = made["rate"], made["sizes"], made["plan"]
    assert rate["unit"] == "core" and rate["measured_on"] == made["fleet"]["units"] >= 1
    assert plan["machine_rows_per_s"] == pytest.approx(rate["rows_per_s"] * rate["measured_on"])
    assert plan["machine_rows_per_s"] > 50
    assert rate["repeated_share"] == pytest.approx(260 / 300)
    assert sizes["server_bytes"] > 50 << 20
    assert (sizes["growth_bytes"], plan["growth_bytes"]) == (0, 0)
    # One task was in traffic; the loader may have read the others too.
    least, most = sizes["bank_bytes"] / 4, sizes["bank_bytes"] * 4
    assert least <= sizes_of(small_repository).bank_bytes <= most
    assert sorted(small_repository.rglob("*")) == before


def test_every_row_that_counts_was_computed(small_repository: Path, tmp_path: Path) -> None:
    log, store = tmp_path / "audit.jsonl", small_repository / "store"
    rows = [Response(TASK, f"router {number % 10}") for number in range(300)]
    measured = measure(small_repository, store, Profile(audit_log=str(log)), rows, 1.0)
    digests = {f"sha256:{hashlib.sha256(str(row.text).encode()).hexdigest()}" for row in rows}
    computed = sum(json.loads(line)["digest"] in digests for line in log.read_text().splitlines())
    assert measured.rows > 0
    assert computed == 256 + measured.rows  # the warm-up first
    assert measured.rate.repeated_share == pytest.approx(290 / 300)


def test_what_openvino_will_still_take_is_planned_for(small_repository: Path, rows: Path) -> None:
    printed = planned(small_repository, rows, "cpu", "--units", "16")
    assert re.search(r"repeated rows +│ 86\.7%", printed)
    (memory,) = re.findall(r"memory of a machine +│ (\S+) GiB .* the server, 3\.91 GiB to grow, and all tasks", printed)
    assert float(memory) > 16 * OPENVINO_GROWTH_BYTES / 2**30
