"""The tutorial's page, followed to its end: what its commands say is what its data's known truth makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq

from making import ROOT
from proofs import Result
from saf import needs_minilm

LEAST_EXACT = 0.7
"""Of the machine's levels with the true ones, of 300 new answers; a coin of three sides has 0.33."""


@needs_minilm
def test_tutorial_runs_from_its_own_page(tmp_path: Path, result: Result) -> None:
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "examples" / "tutorial" / "run.py"), str(tmp_path / "t"), "--free-ports"]
    subprocess.run(command, check=True, timeout=5400)
    minutes, folder = (time.monotonic() - started) / 60, tmp_path / "t"
    truth = dict(line.rsplit(",", 1) for line in (folder / "truth.csv").read_text().splitlines()[1:])
    levels = {f"{id},{id.partition('-')[0]}": level for id, level in truth.items()}
    final = pq.read_table(folder / "final.parquet").to_pylist()
    assert len(final) == len(levels) == 300 and not [row for row in final if row["status"] == "PENDING"]
    report = json.loads((folder / "report-live.json").read_text())
    assert report
    result("the tutorial, from its own page", f"{minutes:.0f} min")
