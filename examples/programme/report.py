"""Write the report of a made-up programme: eight tasks, 1,500 students, and errors that are known.

python examples/programme/report.py --out examples/programme/report.html --dossier examples/programme/dossier

--dossier also writes what a state gets of the task `explain`, with people's reads of 60 days of made-up use.

No person gave these levels, nor did an adapter: the store says that no row was trained on. Two people and the machine
each give a student's true level in a task, or one level beside it in a share of rows (`PEOPLE`, `MACHINE`).
The machine is as good as a person in six tasks and worse in `graph`; few students have `map`, which is new.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.decision import Decision, Expected, Temperature, Threshold
from scoremux_decide.policy import read_policy
from scoremux_evidence.commands.dossier import dossier
from scoremux_evidence.commands.watch_command import watch
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


def write_dossier(folder: Path, report: Path, out: Path, draw: np.random.Generator) -> None:
    """Calibrate `explain` on paper, let people read some of its responses, and write the dossier."""
    policy = folder / "policy.toml"
    policy.write_text('[target]\nexact = 0.85\n\n[watch]\nowner = "the assessment office"\n', encoding="utf-8")
    decision = Decision(
        read_policy(policy).digest,
        Conditions(),
        truncated=True,
        temperature=Temperature(1.0, "own", 300),
        threshold=Threshold("LOW_CONFIDENCE", "own", 300, 0.2, 0.7, exact=0.85, confidence=0.9),
        expected=Expected(MACHINE["explain"], 300),
    )
    package = folder / "packages" / "explain"
    task = {"id": "explain", "question": "Explain why ice floats.", "language": "en", "levels": [*range(LEVELS)]}
    (package / "task.json").write_text(json.dumps(task), encoding="utf-8")
    (package / "decision.json").write_bytes(decision.to_json())
    (folder / "manifest.json").write_text(json.dumps({"tasks": {"explain": "explain"}}), encoding="utf-8")
    days = [date.today() - timedelta(days=ago) for ago in range(60, 0, -1)]
    change = {"when": f"{days[0]}T08:00:00Z", "who": "assessment office", "action": "add", "task": "explain"}
    write_rows(folder / "history.jsonl", [{**change, "from": None, "to": "explain"}])
    true = draw.integers(LEVELS, size=(len(days), 30))
    final = [
        {"id": f"{day}-{n}", "task": "explain", "status": "OK", "route": "machine", "version": "explain",
         "read_behind": 0.1 if n < 3 else None, "decided_by": "rater", "confidence": 1 - MACHINE["explain"],
         "added_at": day.isoformat(), "machine_level": int(machine), "first_level": int(level)}
        for day, levels in zip(days, true, strict=True)
        for n, (level, machine) in enumerate(zip(levels, given(levels, MACHINE["explain"], draw), strict=True))
    ]  # fmt: skip
    today = folder / "today.html"
    watch(write_rows(folder / "final.jsonl", final), folder, policy=policy, out=today)
    statements = HERE / "statements.toml"
    reports = [report.with_suffix(".json")]
    dossier("explain", folder, out, reports, watch=today.with_suffix(".json"), policy=policy, statements=statements)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the report of a made-up programme.")
    parser.add_argument("--out", type=Path, default=HERE / "report.html")
    parser.add_argument("--dossier", type=Path)
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
        if arguments.dossier:
            write_dossier(Path(folder), arguments.out, arguments.dossier, draw)


if __name__ == "__main__":
    main()
