"""`scoremux score --drills` and what `scoremux report` says of it: planted machines whose truth is known."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
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
from scoremux_assess.commands.agreement_commands import evaluate
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
    [
        (fair, set()),
        (length, {"padding", "doubled", "question", "other task"}),
        (keywords, {"keywords", "other task"}),  # all tasks have the same key words
    ],
)
def test_planted_machines_fail_by_what_they_like_and_a_fair_one_does_not(
    tmp_path: Path, machine: Machine, fails: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    answers, truth = write_answers(tmp_path)
    with serving(machine) as url:
        ended = run_here("score", answers, "--out", tmp_path / "o", "--url", url, "--drills", "--column", "question")
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "c.toml").write_text(
        '[[criterion]]\nstatistic = "raised"\nof = "drill"\nat_most = 0.1\nsource = "x"\n'
        '[[criterion]]\nstatistic = "adjacent"\nat_least = 0.1\nsource = "x"\n'
    )
    write_report(ReportInputs(tmp_path / "o", truth, criteria=tmp_path / "c.toml"), tmp_path / "r.html")
    report = json.loads((tmp_path / "r.json").read_text())
    failing = {drill["group"] for drill in report["drills"] if drill["verdict"] == "FAIL"}
    assert failing - {"keywords"} == fails - {"keywords"} and failing >= fails
    assert {task["verdict"] for task in report["tasks"]} == {"FAIL" if fails else "PASS"}
    rows = {drill["group"]: drill["n"] for drill in report["drills"]}
    assert (
        90 <= rows["padding"] <= 100 and 60 <= rows["shuffled"] < rows["padding"]
    )  # of 120, without the highest level
    page = (tmp_path / "r.html").read_text()
    assert "Share of the sample" in page and ("fails: the drill" in page.lower()) == bool(fails)
    evaluate(tmp_path / "o", truth, criteria=tmp_path / "c.toml")
    figure = r"changed copies that gain a level ≤ 0\.10: (0\.\d\d|1\.00) \[0\.\d\d, (0\.\d\d|1\.00)\]"
    printed = re.findall(rf"the drill ([a-z ]+) \({figure}\)", capsys.readouterr().out)
    named = {(drill["task"], drill["group"]) for drill in report["drills"] if drill["verdict"] == "FAIL"}
    assert sorted(drill for drill, *_ in printed) == sorted(drill for _, drill in named)


def test_killed_drills_end_with_the_bytes_of_uninterrupted_ones_and_no_text(tmp_path: Path) -> None:
    answers, _ = write_answers(tmp_path)
    with serving(fair) as url:
        whole, killed = (
            [*arguments([answers], tmp_path / out, url), "--drills", "--column", "question"]
            for out in ("whole", "killed")
        )
        finish(whole)
        before = content(tmp_path / "whole")
        assert kill_and_finish(killed, tmp_path / "killed", 6, 50, random.Random(3)) >= 3
        finish(whole)  # the same rows again: nothing to do
        assert content(tmp_path / "whole") == before
    texts = [json.loads(line)["text"] for line in answers.read_text().splitlines()]
    assert not [*tmp_path.glob("_*")]  # the copies are gone
    rows = [drilled(tmp_path / out) for out in ("whole", "killed")]
    for row in chain(*rows):
        row.pop("source")  # the file of copies has the name of the output
    assert rows[0] == rows[1] and {row["drill"] for row in rows[0]} == set(DRILLS)
    assert not any(text in json.dumps(row) for row in rows[0] for text in texts)
    assert "alpha" not in "".join(map(json.dumps, rows[0]))


def test_report_refuses_drills_that_were_killed_and_folders_of_others(tmp_path: Path) -> None:
    answers, truth = write_answers(tmp_path)
    with serving(fair) as url:
        finish([*arguments([answers], tmp_path / "o", url), "--drills"])
    journal = tmp_path / "o" / "_drills" / "_journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert (
        len(lines) > 3
        and run_here("report", tmp_path / "o", "--truth", truth, "--out", tmp_path / "r.html").returncode == 0
    )
    for left in (lines[:-1], lines[:1], [*lines[:-1], lines[-1][:-9]], None):
        journal.write_text("".join(left)) if left else journal.unlink()
        ended = run_here("report", tmp_path / "o", "--truth", truth, "--out", tmp_path / "r.html")
        assert ended.returncode == 2 and "has no complete drills; run `scoremux score --drills`" in ended.stderr


def test_drills_are_of_a_sample_and_of_the_version_that_scored_it(tmp_path: Path) -> None:
    answers, _ = write_answers(tmp_path, rows=300)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    write_jsonl(
        tmp_path / "turned.jsonl",
        [{**row, "text": row["text"] if n % 3 else "Twice."} for n, row in enumerate(rows)][::-1],
    )
    names, asked = [], set()

    def noting(request: Any, context: Any) -> Any:
        asked.update(deserialize_bytes_tensor(request.raw_input_contents[1]))
        return answering(request, context, fair)

    with listening(noting) as url:
        for source in ("answers", "turned"):
            out = tmp_path / source
            ended = run_here("score", tmp_path / f"{source}.jsonl", "--out", out, "--url", url, "--drills")
            assert "question not run" in " ".join(ended.stderr.split())
            names.append({(row["task"], row["id"]) for row in drilled(out) if row["drill"] == "padding"})
        ended = run_here("score", tmp_path / "answers.jsonl", "--out", tmp_path / "o.csv", "--url", url, "--drills")
        assert ended.returncode == 2 and "--drills needs a folder" in ended.stderr
    assert asked == {t.encode() for t in TASKS} | {f"{t}@{'a' * 64}".encode() for t in TASKS}
    assert len(names[0]) == 600 and 380 < len(names[1]) < 420  # equal texts count once
    assert len(names[1] - names[0]) <= 3


def test_chance_fails_no_drill_of_a_machine_that_meets_the_criterion(tmp_path: Path) -> None:
    """Of 27 tasks with 6 drills each, at 0.10 itself: without correction nearly every report had a wrong FAIL."""
    [limit] = [criterion for criterion in read_criteria() if criterion.of == "drill"]
    tasks, draw = [f"t-{n}" for n in range(27)], np.random.default_rng(5)
    (tmp_path / "_drills").mkdir()
    (tmp_path / "_drills" / "_journal.jsonl").write_text('{"source": 1, "rows": 12960}\n')
    wrong = corrected = 0
    for _ in range(40):
        task, drill = np.divmod(np.repeat(np.arange(27 * 6), 80), 6)
        columns = {
            "task": np.array(tasks)[task], "drill": np.array(DRILLS)[drill], "before": ["1"] * len(task),
            "status": ["OK"] * len(task), "level": 1 + (draw.random(len(task)) < 0.1),
            "probabilities": [[0.2, 0.5, 0.3]] * len(task),
        }  # fmt: skip
        pq.write_table(pa.table(columns), tmp_path / "_drills" / "part-000000.parquet")
        drills = measure_drills(tmp_path, tasks, [limit])
        assert drills is not None
        wrong += (drills.judged[limit].verdict == Verdict.FAIL).any()
        corrected += (fewer_fails(drills.judged)[limit].verdict == Verdict.FAIL).any()
    assert wrong > 30 and corrected <= 4
