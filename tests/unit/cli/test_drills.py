"""`scoremux score --drills` and what `scoremux report` says of it: planted machines whose truth is known."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.utils import deserialize_bytes_tensor

from batch_jobs import arguments, content, finish, kill_and_finish
from desks import write_jsonl
from peers import infer_response, listening, ok_columns, texts_of
from scoremux_assess.conclusions.drills import measure_drills
from scoremux_assess.conclusions.verdicts import Verdict, fewer_fails, read_criteria
from scoremux_assess.report import ReportInputs, write_report
from scoremux_files.rows.writers import DRILLS
from serving import run_here

TASKS = ("bio-1", "geo-1", "phy-1")
PARTS = ("alpha", "beta", "gamma")
Machine = Callable[[str, str], int]


def fact(task: str, part: str) -> str:
    return f"The {part} of {task[:3]} drives the {part}ing cycle."


def fair(task: str, text: str) -> int:
    """Count the facts that a text states; a tenth of texts, one level off either way, is its error."""
    level = sum(fact(task, part) in text for part in PARTS)
    error = random.Random(f"{task} {text}").random()
    return min(3, max(0, level + (error < 0.03) - (error > 0.97)))


def length(_task: str, text: str) -> int:
    return min(3, len(text.split()) // 9)


def keywords(_task: str, text: str) -> int:
    return min(3, sum(f"{part}ing" in text.lower() for part in PARTS))


def write_answers(folder: Path, rows: int = 120) -> tuple[Path, Path]:
    """Write answers and what people gave them: the number of facts that they state."""
    draw, made, truth = random.Random(7), [], []
    for task in TASKS:
        for n in range(rows):
            known = draw.sample(PARTS, draw.choice((0, 1, 1, 2, 2, 3)))
            said = [fact(task, part) for part in known] + [f"Answer {n} is mine."]
            made.append({"id": f"{task}-{n}", "task": task, "text": " ".join(draw.sample(said, len(said)))})
            made[-1]["question"] = f"What drives {task[:3]}, and which parts does it have?"
            truth.append({"id": f"{task}-{n}", "task": task, "level": len(known)})
    write_jsonl(folder / "answers.jsonl", made)
    write_jsonl(folder / "truth.jsonl", truth)
    return folder / "answers.jsonl", folder / "truth.jsonl"


def answering(request: Any, _context: Any, machine: Machine) -> Any:
    tasks = [task.decode().partition("@")[0] for task in deserialize_bytes_tensor(request.raw_input_contents[1])]
    texts = [text.decode() for text in texts_of(request)]
    return infer_response(ok_columns([machine(*row) for row in zip(tasks, texts, strict=True)]))


@contextmanager
def serving(machine: Machine) -> Iterator[str]:
    with listening(partial(answering, machine=machine)) as url:
        yield url


def drilled(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted((folder / "_drills").glob("part-*")) for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize(
    ("machine", "fails"),
    [(fair, set()), (length, {"padding", "doubled", "question"}), (keywords, {"keywords"})],
)
def test_planted_machines_fail_by_what_they_like_and_a_fair_one_passes(
    tmp_path: Path, machine: Machine, fails: set[str]
) -> None:
    answers, truth = write_answers(tmp_path)
    with serving(machine) as url:
        out = ["--out", tmp_path / "scored", "--url", url, "--drills", "--column", "question"]
        ended = run_here("score", answers, *out)
    assert ended.returncode == 0, ended.stderr
    write_report(ReportInputs(tmp_path / "scored", truth), tmp_path / "r.html")
    report = json.loads((tmp_path / "r.json").read_text())
    verdicts = {name: {row["verdict"] for row in report["drills"] if row["group"] == name} for name in DRILLS}
    print(verdicts, [(r["task"], r["group"], r["value"], r["n"]) for r in report["drills"]])
