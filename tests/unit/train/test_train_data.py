"""Labelled responses: what is read, what the data check finds, and which rows are held out together."""

import io
import json
import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from labelled import each, labelled, rows_of
from scoremux.app import build
from scoremux_engine.packages.task import Task
from scoremux_evidence.commands.agreement_commands import evaluate, report
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.similar_texts import fold, related
from scoremux_files.errors import InputError
from scoremux_files.locks import locked
from scoremux_train.card import card
from scoremux_train.check import check, remarks
from scoremux_train.commands import train
from scoremux_train.cross_validated import CrossValidated, OutOfFold
from scoremux_train.data import Data, read_data, training_rows
from scoremux_train.errors import DataError, RecipeError
from scoremux_train.output import print_agreement
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.run import TrainedTask
from scoremux_train.task_table import read_tasks
from scoremux_train.training.batches import Example, TrainingSet
from scoremux_train.training.preparation import PreparedTask, assign


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _row(number: int, **changes: object) -> dict[str, object]:
    return {"id": str(number), "task": "t", "text": f"text {number}", "level": number % 2, **changes}


def _letters(number: int) -> str:
    return "".join(random.Random(number).choices("abcdefghij ", k=40))


def test_few_labelled_rows_are_trained_at_a_larger_rate() -> None:
    rates = [Recipe().rate(rows) for rows in (0, 20, 80, 100, 160, 5000)]
    assert rates == pytest.approx([0.002, 0.002, 0.002, 0.0016, 0.001, 0.001])
    assert Recipe(lr=0.003).rate(20) == 0.003
    row = Example(0, 1, (1, 2))
    assert TrainingSet("t/0", 2, Recipe(), [row] * 100).rate == pytest.approx(0.0016)


def test_bad_rows_are_listed_with_file_and_line_and_the_good_ones_go_on(tmp_path: Path) -> None:
    rows = [_row(0, again=1), _row(1, level="high"), {"task": "t", "level": 1}, _row(3, level=7), _row(0), _row(5)]
    path = _write(tmp_path / "rows.jsonl", [*rows, _row(6, again=7), _row(7, again="NS"), _row(8, task="a b")])
    with path.open("a") as file:
        file.write("{ broken\n")
    data = read_data([path], {"t": {"levels": [0, 1]}}, LabelColumns(second="again"))
    assert [(row.id, row.second) for row in each(data.rows["t"])] == [("0", 1), ("5", None), ("6", None), ("7", None)]
    assert {reason.partition(" (")[0]: list(places) for reason, places in data.bad.items()} == {
        "cannot be used: no number in level or score; words need [levels] in columns.toml": ["rows.jsonl:2"],
        "cannot be used: no text": ["rows.jsonl:3"],
        "have a level that is not one of their task's": ["rows.jsonl:4"],
        "are given twice, with the same text and levels": ["rows.jsonl:5"],
        "have a second level that is not one of their task's, and count without it": ["rows.jsonl:7", "rows.jsonl:8"],
        "cannot be used: task is not a task's id": ["rows.jsonl:9"],
        "cannot be used: not JSON": ["rows.jsonl:10"],
    }
    with pytest.raises(DataError, match="jsonl:1: cannot be used: text is not a task's id") as error:
        read_data([path], {}, LabelColumns(task="text", text="task"))
    assert "text 0" not in str(error.value)
    with pytest.raises(InputError, match=r"rows\.jsonl has no column sexe \(its columns: id, task, text"):
        read_data([path], {}, LabelColumns(groups=("sexe",)))


def test_scores_become_levels_of_the_tasks_file_or_of_the_scores_that_occur(tmp_path: Path) -> None:
    rows = [{"task": "t", "text": str(n), "score": score} for n, score in enumerate((0, 0.5, 2, 0.5))]
    path = _write(tmp_path / "rows.jsonl", rows)
    data = read_data([path], {})
    assert data.tasks["t"].levels == (0, 0.5, 2)
    assert data.rows["t"].level.tolist() == [0, 1, 2, 1]
    csv = tmp_path / "tasks.csv"
    csv.write_text("id,levels,question,template\nt,0 0.5 1 2,Why?,{question} {response}\n")
    data = read_data([path], read_tasks(csv), LabelColumns())
    assert data.rows["t"].level.tolist() == [0, 1, 3, 1]
    assert data.tasks["t"].render("So.") == ("Why? So.",) or "Why? So." in str(data.tasks["t"].render("So."))


def test_points_of_one_file_and_levels_of_another_need_the_levels_of_tasks(tmp_path: Path) -> None:
    """The desk's export has levels, and essays have points: 1 may be the lowest level."""
    points = [{**_row(n), "level": None, "points": [1, 1.5, 2][n % 3]} for n in range(9)]
    levels = [{**_row(n + 9, level=n % 3), "points": None} for n in range(9)]
    files = [_write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("own", points), ("desk", levels))]
    columns = LabelColumns(score="points")
    with pytest.raises(DataError, match=r"own\.jsonl, line 2: task t has points here .* in --tasks"):
        read_data(files, {}, columns)
    read = read_data(files, {"t": {"id": "t", "levels": [1, 1.5, 2]}}, columns).rows["t"]
    assert Counter(read.level.tolist()) == {0: 6, 1: 6, 2: 6}


def test_points_are_not_taken_for_levels_and_may_have_a_decimal_comma(tmp_path: Path) -> None:
    rows = "".join(f"{n};t;answer {n};{note}\n" for n, note in enumerate(("0", "0,5", "1", "1,5", "2")))
    path, half = tmp_path / "rows.csv", {"t": {"levels": [0, 0.5, 1, 1.5, 2]}}
    path.write_text(f"id;task;text;note\n{rows}", encoding="utf-8-sig")
    for tasks in (half, {}):
        with pytest.raises(DataError, match=r"task t: note has 0\.5, so it holds points, .*--column score=NAME"):
            read_data([path], tasks, LabelColumns(level="note"))
        data = read_data([path], tasks, LabelColumns(score="note"))
        assert (data.rows["t"].level.tolist(), data.bad) == ([0, 1, 2, 3, 4], {})
    whole = _write(tmp_path / "whole.jsonl", [_row(n, level=2 * (n % 3)) for n in range(6)])
    with pytest.raises(DataError, match="task t: level has 4, so it holds points"):
        read_data([whole], {"t": {"levels": [0, 2, 4]}}, LabelColumns())
    data = read_data([whole], {"t": {"levels": [0, 2, 4]}}, LabelColumns(score="level"))
    assert data.rows["t"].level.tolist() == [0, 1, 2, 0, 1, 2]
    machine = [_row(n, score=n, human=1 if n else None, version="v", arithmetic="a") for n in range(3)]
    data = read_data([_write(whole, machine)], {"t": {"levels": [0, 1, 2]}}, LabelColumns(level="human"))
    assert data.rows["t"].id.tolist() == ["1", "2"], "the score of row 0 is the machine's"
    data = read_data([_write(whole, [{**_row(1), "score": 1}])], {"t": {"levels": [1, 2]}}, LabelColumns(level="score"))
    assert data.rows["t"].level.tolist() == [1], "the column of levels may be called score"
    with pytest.raises(DataError, match=r"csv:2: cannot be used: no task \(its columns: id, text, note\)"):
        path.write_text("id;text;note\n1;an answer;2\n")
        read_data([path], {})


def test_the_check_counts_what_a_person_should_know_and_what_is_no_sample(tmp_path: Path) -> None:
    rows = [_row(n, second=n % 2, split="train") for n in range(30)]
    rows += [_row(30, text=""), _row(31, text="text 0 ", level=1), _row(32, text="text 2", level=0)]
    rows += [_row(33, text="text 4", split="test", level=1), {**_row(34), "task": "few"}]
    data = read_data(
        [_write(tmp_path / "rows.jsonl", rows)], {"t": {"levels": [0, 1, 2]}, "few": {}}, LabelColumns(second="second")
    )
    few, found = check(data, folds=5)
    assert (found.rows, found.held_out, found.left_out) == (32, 1, 1), "text 4 is held out, so it is not trained on"
    assert (found.empty, found.duplicates, found.conflicts) == (1, 2, 1)
    assert found.levels == [16, 16, 0] and found.without_rows == [2]
    assert (found.doubly, found.human_qwk) == (29, 1.0)
    assert found.trainable and not few.trainable and few.needed == 19
    assert "text 4" not in training_rows(data.rows["t"]).rows.text.tolist()
    routed = read_data([_write(tmp_path / "rows.jsonl", [_row(n, chosen_by="route") for n in range(30)])], {})
    lines = remarks(routed, check(routed, 5))
    assert lines[-1].startswith("t: These figures are about the responses that were sent to people")
    assert lines[-2] == "no question, which raters and the condition `copied` need: t; see --tasks"


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_have_every_level_and_near_copies_are_together(folds: int) -> None:
    draw = random.Random(8)
    answers = [_letters(n) for n in range(70)]
    texts = [draw.choice([str.upper, "{}!".format, "  {} ".format, str])(draw.choice(answers)) for _ in range(120)]
    answer_of = [fold(text) for text in texts]
    level_of = {answer: draw.choice([0, 0, 0, 1, 1, 2]) for answer in sorted(set(answer_of))}
    levels, groups = [level_of[fold(text)] for text in texts], related(texts, np.full(len(texts), -1))
    fold_of = assign(levels, groups, folds, 1, "t")
    assert fold_of == assign(levels, groups, folds, 1, "t") != assign(levels, groups, folds, 2, "t")
    assert len(set(zip(answer_of, fold_of, strict=True))) == len(set(answer_of)) == len(set(groups))
    counts = Counter(zip(levels, fold_of, strict=True))
    for level, count in Counter(levels).items():
        largest = max(Counter(answer for answer, of in zip(answer_of, levels, strict=True) if of == level).values())
        assert all(abs(counts[level, fold] - count / folds) <= largest for fold in range(folds))


def test_rows_of_one_student_are_in_one_fold(tmp_path: Path) -> None:
    rows = [_row(n, text=_letters(n), who=f"s{n // 4}" if n < 60 else None, level=n // 4 % 2) for n in range(80)]
    path = _write(tmp_path / "rows.jsonl", rows)
    read = read_data([path], {}, LabelColumns(student="who")).rows["t"]
    groups = related(read.text.tolist(), read.student.code)
    fold_of = assign(read.level.tolist(), groups, 5, 1)
    of_student = {(student, fold) for student, fold in zip(read.student.texts(), fold_of, strict=True) if student}
    assert len(of_student) == 15
    one = check(read_data([_write(path, [row | {"who": "s"} for row in rows])], {}, LabelColumns(student="who")), 5)[0]
    assert not one.trainable and one.needed == 9, "one student cannot be in ten folds"


def test_a_wrong_recipe_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    removed = ["rslora", "head_lr", "warmup", "weight_decay", "clip", "patience", "validation"]
    for key in ("rnak", *removed):
        path.write_text(f"[recipe]\n{key} = 1\n")
        with pytest.raises(RecipeError, match=rf"train\.toml: recipe\.{key}: unknown"):
            Plan.read(path)
    path.write_text("[shared]\nepochs = 4\n")
    with pytest.raises(RecipeError, match=r"train\.toml: unknown key shared"):
        Plan.read(path)
    path.write_text("threads = 2\n")
    with pytest.raises(RecipeError, match=r"train\.toml: unknown key threads; the keys are seed, "):
        Plan.read(path)
    path.write_text("folds = 1\n")
    with pytest.raises(RecipeError, match=r"train\.toml: folds: 1 leaves no row to train on; give 2 or more, or 0"):
        Plan.read(path)


def test_check_stops_before_training_and_needs_no_backbone(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", [_row(n) for n in range(30)])
    (tmp_path / "tasks.csv").write_text("id,levels\nt,0 1 2\ntypo,0 1\n")
    line = ["train", str(path), "--tasks", str(tmp_path / "tasks.csv"), "--check"]
    result = CliRunner().invoke(build(), line)
    assert result.exit_code == 0, result.output
    assert "so no adapter: typo" in result.output
    assert "30" in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "tasks.csv"]


def test_a_second_run_on_one_folder_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", [_row(n) for n in range(30)])
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out" / ".training.lock"),
        pytest.raises(InputError, match=r"out cannot be written: process"),
    ):
        train([path], "a-model", tmp_path / "out")


def test_a_written_text_that_no_longer_fits_refuses_a_run_before_it_begins(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", [_row(n) for n in range(30)])
    (tmp_path / "out" / "t").mkdir(parents=True)
    (tmp_path / "out" / "t" / "task.json").write_text('{"id": "t", "levels": [0, 1, 2], "feedback": ["a", "b", "c"]}')
    with pytest.raises(DataError, match=r"out/t/task\.json: this run keeps .*feedback: 3 texts for 2 levels"):
        train([path], "a-model", tmp_path / "out")


def test_figures_weigh_rows_and_say_when_one_level_was_predicted_throughout() -> None:
    levels = [n % 3 % 2 for n in range(60)]
    rows = [
        labelled(str(n), "t", level, text=_letters(n), student=f"s{n // 2}", weight=[1.0, 4.0, math.nan][n % 3])
        for n, level in enumerate(levels)
    ]
    task = Task(id="t", levels=(0, 1))
    prepared = PreparedTask(task, Recipe(), rows_of(*rows), [], [0] * 60, [0] * 60)
    right = [
        np.array([1 - level, level], np.float32) if n % 2 else np.ones(2, np.float32) for n, level in enumerate(levels)
    ]
    figures = OutOfFold.of([TrainedTask(prepared, right, torch.zeros(0))]).of_task["t"]
    assert (figures.rows, figures.students, len(figures.notes)) == (40, 30, 1)
    # All get level 0 but rows of odd number and level 1: wrong are 10 of the 20 rows of weight 4.
    assert figures.figures["exact agreement"].value == pytest.approx((20 + 40) / 100)
    constant = TrainedTask(prepared, [np.array([0.9, 0.1], np.float32)] * 60, torch.zeros(0))
    console = Console(file=io.StringIO(), width=200)
    print_agreement(console, OutOfFold.of([constant]))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    card_text = card(
        constant, {"t": check(Data({"t": task}, {"t": rows_of(*rows)}), 5)[0]}, Plan(), OutOfFold.of([constant])
    )
    assert "mean of" not in printed, "of one task"
    for text in (printed, card_text):
        assert not re.search(r"\bnan\b", text.lower()) and re.search(r"[│|] 0\.000 [│|]", text), "no interval"
        assert "level 0 was predicted of every response" in text


def test_train_evaluate_and_report_print_the_same_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = ("good", "same", "again")
    rows = [_row(n, text=_letters(n), task=t, id=f"{t}-{n}", student=f"s{n}") for t in tasks for n in range(40)]
    data = read_data([_write(tmp_path / "rows.jsonl", rows)], {}, LabelColumns(student="student"))
    trained, scored = [], []
    for name, read in data.rows.items():
        machine = [0 if name == "same" or n in (1, 3, 5) else int(row.level) for n, row in enumerate(each(read))]
        probabilities = [np.eye(2, dtype=np.float32)[level] for level in machine]
        prepared = PreparedTask(data.tasks[name], Recipe(), read, [], [0] * 40, [n % 5 for n in range(40)])
        trained.append(TrainedTask(prepared, probabilities, torch.zeros(0)))
        scored += [
            {"id": row.id, "task": name, "status": "OK", "level": level, "probabilities": p.tolist()}
            for row, level, p in zip(each(read), machine, probabilities, strict=True)
        ]
    console = Console(file=io.StringIO(), width=200)
    print_agreement(console, OutOfFold.of(trained))
    by_train = console.file.getvalue()  # type: ignore[attr-defined]
    output, truth = _write(tmp_path / "scored.jsonl", scored), tmp_path / "rows.jsonl"
    evaluate(output, truth, column=["student=student"])
    by_evaluate = capsys.readouterr().out
    report(output, truth, tmp_path / "report.html", column=["student=student"])
    mean = json.loads((tmp_path / "report.json").read_text())["mean_of_tasks"]["qwk"]
    assert (mean["n"], mean["value"]) == (3, pytest.approx(0.85 * 2 / 3, abs=0.003))
    shown = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**mean)
    assert re.search(rf"mean of 3 tasks .*{re.escape(shown)}", by_train)
    assert re.search(r"mean of tasks .* 3 tasks .*\.5[67] \[", by_evaluate)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    shown = "<td>3 tasks</td><td>{value:.2f} <small>[{low:.2f}, {high:.2f}]</small>".format(**mean)
    assert shown in page


def test_routed_rows_beside_a_sample_of_all_responses_are_part_of_no_figure(tmp_path: Path) -> None:
    """The machine is right about 0.9 of the 60 % that it keeps and 0.5 of the others: 0.74 of all."""
    draw = np.random.default_rng(27)

    def responses(number: int, kept_share: float, **columns: object) -> list[dict[str, object]]:
        right = draw.random(number) < np.where(draw.random(number) < kept_share, 0.9, 0.5)
        return [
            _row(n, text=f"{_letters(n)} {columns}", id=f"{columns}{n}{'right' if r else ''}", **columns)
            | {"level": n % 2}
            for n, r in enumerate(right)
        ]

    def figures(rows: list[dict[str, object]]) -> tuple[CrossValidated, str]:
        data = read_data([_write(tmp_path / "rows.jsonl", rows)], {})
        read = data.rows["t"]
        prepared = PreparedTask(data.tasks["t"], Recipe(), read, [], [0] * len(read), [0] * len(read))
        machine = [int(row.level if row.id.endswith("right") else 1 - row.level) for row in each(read)]
        trained = TrainedTask(prepared, np.eye(2, dtype=np.float32)[machine], torch.zeros(0))
        console = Console(file=io.StringIO(), width=200)
        print_agreement(console, OutOfFold.of([trained]))
        text = card(trained, {trained.prepared.task.id: check(data, 5)[0]}, Plan(), OutOfFold.of([trained]))
        agreement = OutOfFold.of([trained]).of_task["t"]
        return agreement, console.file.getvalue() + text + "".join(remarks(data, check(data, 5)))  # type: ignore[attr-defined]

    sample, routed = responses(1000, 0.6), responses(1500, 0.0, chosen_by="route")
    both, said = figures(sample + routed)
    assert both.rows == 1000
    assert both.figures["exact agreement"].value == pytest.approx(0.74, abs=3 * (0.74 * 0.26 / 1000) ** 0.5)
    assert said.count("1,500 responses that were read since they were sent to people are part of no figure") == 2
    assert "not about all responses" not in said
    alone, said = figures(routed)
    assert alone.rows == 1500 and said.count("not about all responses") == 3
    behind = responses(600, 1.0, chosen_by="read_behind", probability=600 / 1500 / 1.5)
    weighed, said = figures(routed + behind)  # 1,500 routed ones of 3,750
    assert weighed.rows == 2100 and "are part of no figure" not in said
    assert weighed.figures["exact agreement"].value == pytest.approx(0.74, abs=0.03)
    last_year = [row | {"version": "a" * 64} for row in routed + behind]
    years, said = figures(last_year + responses(1500, 0.0, chosen_by="route", version="b" * 64))
    assert years.rows == 2100 and "1,500 responses that were read since they were sent" in said
    assert years.figures["exact agreement"].value == weighed.figures["exact agreement"].value
