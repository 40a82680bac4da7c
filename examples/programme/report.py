"""Write the report of a made-up programme: eight tasks, 1,500 students, and errors that are known.

python examples/programme/report.py --out examples/programme/report.html

No person gave these levels, nor did an adapter: the store says that no row was trained on. Two people and the machine
each give a student's true level in a task, or one level beside it in a share of rows (`PEOPLE`, `MACHINE`).
The machine is as good as a person in six tasks and worse in `graph`; few students have `map`, which is new.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_evidence.show import ReportInputs, write_report

HERE = Path(__file__).parent
TITLE = "A made-up programme of eight tasks: no real students, people or scores"
STUDENTS, NEW, LEVELS = 1500, 25, 4
PEOPLE = 0.14
MACHINE = {
    "argue": 0.08, "circuit": 0.06, "compare": 0.09, "explain": 0.07,
    "graph": 0.45, "map": 0.08, "owls": 0.08, "puddle": 0.05,
}  # fmt: skip
"""Share of levels that are one level off."""


def given(true: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Return levels of someone who is one level off in a share of rows, [B]."""
    off = draw.choice([-1, 0, 1], len(true), p=[share / 2, 1 - share, share / 2])
    # At the end of the scale the error goes to the one side that there is.
    return np.where((true + off < 0) | (true + off >= LEVELS), true - off, true + off)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows as JSON lines; return the file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the report of a made-up programme.")
    parser.add_argument("--out", type=Path, default=HERE / "report.html")
    arguments = parser.parse_args()
    draw = np.random.default_rng(20261203)
    ability = draw.normal(size=STUDENTS)
    region = draw.choice(["north", "south", "west"], STUDENTS)
    scored, truth = [], []
    for task, share in MACHINE.items():
        students = NEW if task == "map" else STUDENTS
        latent = 0.7 * ability[:students] + 0.7 * draw.normal(size=students)
        true = np.digitize(latent, [-0.8, 0.0, 0.8])
        first, second, machine = (given(true, of, draw) for of in (PEOPLE, PEOPLE, share))
        for n in range(students):
            spread = np.full(LEVELS, share / (LEVELS - 1))
            spread[machine[n]] = 1 - share
            row = {"id": f"{task}-{n}", "task": task}
            scored.append(
                {**row, "status": "OK", "level": int(machine[n]), "probabilities": spread.tolist(), "version": task}
            )
            levels = {"level": int(first[n]), "second": int(second[n])}
            truth.append({**row, **levels, "student": f"s{n}", "region": str(region[n])})
    with tempfile.TemporaryDirectory() as folder:
        for task in MACHINE:
            package = Path(folder) / "packages" / task
            package.mkdir(parents=True)
            (package / "trained.json").write_text(TrainedRows().to_json())
        inputs = ReportInputs(
            write_rows(Path(folder) / "scored.jsonl", scored),
            write_rows(Path(folder) / "levels.jsonl", truth),
            LabelColumns(second="second", student="student", groups=("region",)),
            tasks=Path(folder),
        )
        write_report(inputs, arguments.out, title=TITLE)


if __name__ == "__main__":
    main()
