"""RSMTool's `rsmeval` on what `scoremux evaluate --rsm` writes of the SAF test split: it reads it, and n and QWK agree.

python -m benchmarks.rsm --data ../shared/data/saf --repository REPO
RSMTool is installed into a throw-away virtual environment, or found in the one of --rsmtool.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import record
from benchmarks.saf import SafRow, prepare, read_rows
from scoremux_cli.agreement import agreement
from scoremux_engine import Engine

COMMAND = "python -m benchmarks.rsm --data SAF"
Row = dict[str, str]


def install(folder: Path) -> Path:
    """Make a virtual environment with RSMTool; return its folder."""
    venv.create(folder, with_pip=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "rsmtool"], check=True)
    return folder


def write_rsm(repository: Path, rows: list[SafRow], folder: Path) -> tuple[list[int], list[Row]]:
    """Score the rows and let `scoremux evaluate` write its file; return the levels and what is in the file."""
    scored, truth, made = folder / "scored.jsonl", folder / "truth.jsonl", folder / "rsm.csv"
    outcomes = Engine.open(repository).score([row.text for row in rows], [row.task for row in rows])
    with scored.open("w") as out, truth.open("w") as known:
        for row, outcome in zip(rows, outcomes, strict=True):
            fields = {"status": outcome.status.value, "level": outcome.level, "probabilities": outcome.probabilities}
            out.write(json.dumps({"id": row.id, "task": row.task, **fields}) + "\n")
            known.write(json.dumps({"id": row.id, "level": row.level, "language": row.task[:2]}) + "\n")
    scoremux = str(Path(sys.executable).with_name("scoremux"))
    arguments = ["evaluate", scored, "--truth", truth, "--subgroup", "language", "--rsm", made]
    subprocess.run([scoremux, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    with made.open(newline="") as file:
        return [outcome.level for outcome in outcomes], list(csv.DictReader(file))


def rsmeval(rsmtool: Path, rows: list[Row], folder: Path) -> Row:
    """Run `rsmeval` on the rows; return its figures for the whole of them, `trait.kind` each."""
    folder.mkdir()
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    config: dict[str, Any] = {
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
    (folder / "config.json").write_text(json.dumps(config))
    paths = f"{rsmtool / 'bin'}{os.pathsep}{os.environ['PATH']}"
    command = [rsmtool / "bin" / "rsmeval", folder / "config.json", folder / "out"]
    subprocess.run(command, check=True, env={**os.environ, "PATH": paths}, capture_output=True)
    report = folder / "out" / "report" / "saf_report.html"
    if not report.exists():
        raise SystemExit(f"rsmeval left no {report.name}")
    with (folder / "out" / "output" / "saf_eval.csv").open(newline="") as file:
        return {f"{row[''] or 'all'}.{name}": value for row in csv.DictReader(file) for name, value in row.items()}


def continuous_qwk(human: list[float], machine: list[float]) -> float:
    """QWK of scores that are no whole numbers: 2 cov / (var + var + (mean − mean)²)."""
    a, b = np.array(human), np.array(machine)
    return float(2 * np.cov(a, b, ddof=0)[0, 1] / (a.var() + b.var() + (a.mean() - b.mean()) ** 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the SAF folder")
    parser.add_argument("--repository", type=Path, help="an exported MiniLM with the 27 tasks; made if not given")
    parser.add_argument("--rsmtool", type=Path, help="a virtual environment with RSMTool; made if not given")
    args = parser.parse_args()
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        repository = args.repository or prepare(folder / "repository")
        rsmtool = args.rsmtool or install(folder / "venv")
        truth = read_rows(args.data)
        levels, rows = write_rsm(repository, truth, folder)
        human = [float(row["sc1"]) for row in rows]
        ours = agreement([row.level for row in truth], levels)
        kinds = {
            "raw, the expected level": (rows, continuous_qwk(human, [float(row["raw"]) for row in rows])),
            "the level itself": ([{**r, "raw": str(lv)} for r, lv in zip(rows, levels, strict=True)], ours.qwk),
        }
        figures = {}
        for kind, (given, qwk) in kinds.items():
            theirs = rsmeval(rsmtool, given, folder / kind.replace(" ", "-"))
            figures[kind] = {"n": int(theirs["raw_trim.N"]), "qwk": float(theirs["raw_trim.wtkappa"]), "our_qwk": qwk}
            print(kind, figures[kind])
            if figures[kind]["n"] != ours.n or abs(figures[kind]["qwk"] - qwk) > 1e-6:
                raise SystemExit(f"{kind}: not the same as ours, n {ours.n} and QWK {qwk}")
    record("rsm", COMMAND, {"rows": ours.n, "kinds": figures})


if __name__ == "__main__":
    main()
