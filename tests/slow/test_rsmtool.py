"""RSMTool's `rsmeval` reads what `scoremux evaluate --rsm` writes, and its n, QWK and r are ours."""

import csv
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from batch_jobs import SCOREMUX
from saf import needs_data, read_rows
from scoremux_engine import Engine
from waiting import Result

RSMEVAL = shutil.which("rsmeval", path=os.environ.get("SCOREMUX_RSMTOOL", os.environ["PATH"]))
pytestmark = [
    needs_data,
    pytest.mark.skipif(RSMEVAL is None, reason="rsmeval is neither in PATH nor in the folder $SCOREMUX_RSMTOOL"),
]
THEIRS = {"qwk": "wtkappa", "r": "corr", "exact": "exact_agr"}
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


def test_rsmeval_agrees_about_n_qwk_and_r(saf_repository: Path, tmp_path: Path, result: Result) -> None:
    rows = read_rows()
    outcomes = Engine.open(saf_repository).score([row.text for row in rows], [row.task for row in rows])
    names = ("scored.jsonl", "truth.jsonl", "predictions.csv", "figures.json")
    scored, truth, made, figures = (tmp_path / name for name in names)
    with scored.open("w") as out, truth.open("w") as known:
        for row, outcome in zip(rows, outcomes, strict=True):
            fields = {"status": outcome.status.value, "level": outcome.level, "probabilities": outcome.probabilities}
            out.write(json.dumps({"id": row.id, "task": row.task, **fields}) + "\n")
            known.write(json.dumps({"id": row.id, "level": row.level, "language": row.task[:2]}) + "\n")
    evaluate = [SCOREMUX, "evaluate", scored, "--truth", truth, "--column", "group=language"]
    evaluate += ["--rsm", made, "--out", figures]
    subprocess.run([str(word) for word in evaluate], check=True, stdout=subprocess.DEVNULL)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    command = [str(RSMEVAL), str(tmp_path / "config.json"), str(tmp_path / "out")]
    paths = f"{Path(str(RSMEVAL)).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, check=True, env={**os.environ, "PATH": paths}, capture_output=True)
    with (tmp_path / "out" / "output" / "saf_eval.csv").open(newline="") as file:
        theirs = next(row for row in csv.DictReader(file) if row[""] == "raw_trim")
    ours = {
        row["statistic"]: row
        for row in json.loads(figures.read_text())
        if row["task"] == "all rows" and not row["group"]
    }
    shown = ", ".join(f"{name} {float(theirs[key]):.3f}" for name, key in THEIRS.items())
    result("`rsmeval` of RSMTool on the file of `scoremux evaluate --rsm`", f"n {theirs['N']}, {shown}")
    assert float(theirs["N"]) == ours["qwk"]["n"] == len(rows)
    for name, key in THEIRS.items():
        unit = 100 if name == "exact" else 1
        assert float(theirs[key]) / unit == pytest.approx(ours[name]["value"], abs=1e-9), name
