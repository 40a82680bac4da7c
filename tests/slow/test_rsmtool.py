"""RSMTool's `rsmeval` reads what `scoremux evaluate --rsm` writes, and its n and QWK are ours."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from batch_jobs import SCOREMUX
from proofs import Result
from saf import needs_data, read_rows
from scoremux_engine import Engine

RSMEVAL = shutil.which("rsmeval", path=os.environ.get("SCOREMUX_RSMTOOL", os.environ["PATH"]))
pytestmark = [
    needs_data,
    pytest.mark.skipif(RSMEVAL is None, reason="rsmeval is neither in PATH nor in the folder $SCOREMUX_RSMTOOL"),
]
CONFIG = {
    "experiment_id": "saf",
    "predictions_file": "predictions.csv",
    "id_column": "spkitemid",
    "human_score_column": "sc1",
    "system_score_column": "raw",
    "trim_min": 0,
    "trim_max": 4,
    # Levels begin at 0, which RSMTool takes for "no score" unless told.
    "exclude_zero_scores": False,
    "subgroups": ["language"],
    "general_sections": ["data_description", "evaluation"],
}


def test_rsmeval_agrees_about_n_and_qwk(saf_repository: Path, tmp_path: Path, result: Result) -> None:
    rows = read_rows()
    outcomes = Engine.open(saf_repository).score([row.text for row in rows], [row.task for row in rows])
    scored, truth, made = tmp_path / "scored.jsonl", tmp_path / "truth.jsonl", tmp_path / "predictions.csv"
    with scored.open("w") as out, truth.open("w") as known:
        for row, outcome in zip(rows, outcomes, strict=True):
            fields = {"status": outcome.status.value, "level": outcome.level, "probabilities": outcome.probabilities}
            out.write(json.dumps({"id": row.id, "task": row.task, **fields}) + "\n")
            known.write(json.dumps({"id": row.id, "level": row.level, "language": row.task[:2]}) + "\n")
    evaluate = [SCOREMUX, "evaluate", scored, "--truth", truth, "--groups", "language", "--rsm", made]
    subprocess.run([str(word) for word in evaluate], check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    command = [str(RSMEVAL), str(tmp_path / "config.json"), str(tmp_path / "out")]
    paths = f"{Path(str(RSMEVAL)).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, check=True, env={**os.environ, "PATH": paths}, capture_output=True)
    with (tmp_path / "out" / "output" / "saf_eval.csv").open(newline="") as file:
        theirs = next(row for row in csv.DictReader(file) if not row[""])
    with made.open(newline="") as file:
        written = list(csv.DictReader(file))
    ours = continuous_qwk([float(row["sc1"]) for row in written], [float(row["raw"]) for row in written])
    figure = f"n {theirs['raw_trim.N']}, QWK {float(theirs['raw_trim.wtkappa']):.3f}; ours {ours:.3f}"
    result("`rsmeval` of RSMTool on the file of `scoremux evaluate --rsm`", figure)
    assert float(theirs["raw_trim.N"]) == len(rows)
    assert float(theirs["raw_trim.wtkappa"]) == pytest.approx(ours, abs=1e-6)


def continuous_qwk(human: list[float], machine: list[float]) -> float:
    """QWK of scores that are no whole numbers: 2 cov / (var + var + (mean − mean)²)."""
    a, b = np.array(human), np.array(machine)
    return float(2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))
