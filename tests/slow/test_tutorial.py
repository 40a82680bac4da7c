"""The tutorial's page, followed to its end; what it leads to is compared with the known truth of its data."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from making import ROOT
from saf import needs_minilm
from waiting import Result


@needs_minilm
def test_tutorial_runs_from_its_own_page(tmp_path: Path, result: Result) -> None:
    folder, started = tmp_path / "reader", time.monotonic()
    command = [sys.executable, str(ROOT / "examples" / "tutorial" / "run.py"), str(folder), "--free-ports"]
    subprocess.run(command, check=True, timeout=7200)
    minutes = (time.monotonic() - started) / 60
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        truth = {row["id"]: int(row["level"]) for row in csv.DictReader(file)}
    final = pq.read_table(folder / "final.parquet").to_pylist()
    assert {row["id"] for row in final} == truth.keys()
    assert not [row for row in final if row["status"] == "PENDING"]
    people = [row for row in final if row["decided_by"] == "rater"]
    assert people and all(row["level"] == truth[row["id"]] for row in people)
    exact = sum(row["level"] == truth[row["id"]] for row in final) / len(final)
    assert exact > 0.8  # people's levels are the truth here
    assert json.loads((folder / "report-live.json").read_text(encoding="utf-8"))
    result("the tutorial, from its own page", f"{minutes:.0f} min; {exact:.2f} of final levels are the true ones")
