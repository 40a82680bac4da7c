"""What `plan-capacity --measure` measures on a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scoremux_engine.store.store import Store
from scoremux_server.capacity.sources import sizes_of

pytestmark = pytest.mark.triton


def test_speed_and_memory_of_a_real_server(small_repository: Path, tmp_path: Path) -> None:
    task = sorted(Store(small_repository / "store").manifest().tasks)[0]
    before = sorted(small_repository.rglob("*"))
    rows = [{"task": task, "text": "router " * (number % 40)} for number in range(300)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [str(Path(sys.executable).with_name("scoremux")), "plan-capacity", "--responses", "1e6", "--hours", "1"]
    command += ["--measure", str(small_repository), "--profile", "cpu-reference", "--seconds", "1", "--json"]
    command += ["--rows", str(tmp_path / "rows.jsonl"), "--tasks", "100"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    rate, sizes, plan = made["rate"], made["sizes"], made["plan"]
    assert rate["unit"] == "core" and rate["measured_on"] == made["fleet"]["units"] >= 1
    assert plan["machine_rows_per_s"] == pytest.approx(rate["rows_per_s"] * rate["measured_on"])
    assert plan["machine_rows_per_s"] > 50
    assert sizes["server_bytes"] > 50 << 20
    # One task was in traffic; the loader may have read the others too.
    least, most = sizes["bank_bytes"] / 4, sizes["bank_bytes"] * 4
    assert least <= sizes_of(small_repository).bank_bytes <= most
    assert sorted(small_repository.rglob("*")) == before
