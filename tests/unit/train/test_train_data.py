"""Labelled responses: what is read, what the data check finds, and which rows are held out together."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scoremux_cli.app import build
from scoremux_train.check import as_json, check
from scoremux_train.data import Columns, LabelledResponse, read_data, read_tasks, same_text, training_rows
from scoremux_train.errors import DataError, RecipeError
from scoremux_train.recipe import Plan
from scoremux_train.training.folds import assign


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _row(number: int, **changes: object) -> dict[str, object]:
    return {"id": str(number), "task": "t", "text": f"text {number}", "level": number % 2, **changes}


def test_bad_rows_are_listed_with_file_and_line_and_the_good_ones_go_on(tmp_path: Path) -> None:
    rows = [_row(0), _row(1, level="high"), {"task": "t", "level": 1}, _row(3, level=7), _row(0), _row(5)]
    path = _write(tmp_path / "rows.jsonl", rows)
    with path.open("a") as file:
        file.write("{ broken\n")
    data = read_data([path], {"t": {"levels": [0, 1]}}, Columns())
    assert [row.id for row in data.rows["t"]] == ["0", "5"]
    assert sorted((bad.file, bad.line) for bad in data.bad) == [("rows.jsonl", n) for n in (2, 3, 4, 5, 7)]
    assert not any("text" in bad.reason.replace("no text", "") for bad in data.bad), "a reason quotes no response"


def test_scores_become_levels_of_the_tasks_file_or_of_the_scores_that_occur(tmp_path: Path) -> None:
    rows = [{"task": "t", "text": str(n), "score": score} for n, score in enumerate((0, 0.5, 2, 0.5))]
    path = _write(tmp_path / "rows.jsonl", rows)
    data = read_data([path], {}, Columns())
    assert data.tasks["t"].levels == (0, 0.5, 2)
    assert [row.level for row in data.rows["t"]] == [0, 1, 2, 1]
    csv = tmp_path / "tasks.csv"
    csv.write_text("id,levels,question,template\nt,0 0.5 1 2,Why?,{question} {response}\n")
    data = read_data([path], read_tasks(csv), Columns())
    assert [row.level for row in data.rows["t"]] == [0, 1, 3, 1]
    assert data.tasks["t"].render("So.") == ("Why? So.",) or "Why? So." in str(data.tasks["t"].render("So."))


def test_the_check_counts_what_a_person_should_know(tmp_path: Path) -> None:
    rows = [_row(n, second=n % 2, split="train") for n in range(30)]
    rows += [_row(30, text=""), _row(31, text="text 0 ", level=1), _row(32, text="text 2", level=0)]
    rows += [_row(33, text="text 4", split="test", level=1), {**_row(34), "task": "few"}]
    data = read_data(
        [_write(tmp_path / "rows.jsonl", rows)], {"t": {"levels": [0, 1, 2]}, "few": {}}, Columns(second="second")
    )
    few, found = check(data, folds=5)
    assert (found.rows, found.held_out, found.left_out) == (32, 1, 1), "text 4 is held out, so it is not trained on"
    assert (found.empty, found.duplicates, found.conflicts) == (1, 2, 1)
    assert found.levels == [16, 16, 0] and found.without_rows == [2]
    assert (found.doubly, found.human_qwk) == (29, 1.0)
    assert found.trainable and not few.trainable and few.needed == 19
    assert "text 4" not in [row.text for row in training_rows(data.rows["t"])]
    json.dumps(as_json(data, [few, found]))


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_have_every_level_and_equal_texts_are_together(folds: int) -> None:
    draw = random.Random(8)
    texts = [f"answer {draw.randint(0, 70)}" for _ in range(120)]
    level_of = {text: draw.choice([0, 0, 0, 1, 1, 2]) for text in set(texts)}
    rows = [LabelledResponse(str(n), text, level_of[text], None, "", {}) for n, text in enumerate(texts)]
    fold_of = assign(rows, folds, 1, "t")
    assert fold_of == assign(rows, folds, 1, "t") != assign(rows, folds, 2, "t")
    assert len({(same_text(row.text), fold) for row, fold in zip(rows, fold_of, strict=True)}) == len(set(texts))
    counts = Counter((row.level, fold) for row, fold in zip(rows, fold_of, strict=True))
    for level, count in Counter(row.level for row in rows).items():
        largest = max(Counter(row.text for row in rows if row.level == level).values())
        assert all(abs(counts[level, fold] - count / folds) <= largest for fold in range(folds))


def test_a_wrong_recipe_names_its_key(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text("[recipe]\nrnak = 4\n")
    with pytest.raises(RecipeError, match=r"recipe\.rnak"):
        Plan.read(path)
    path.write_text("[tasks.t]\nrank = 0\n")
    with pytest.raises(RecipeError, match=r"tasks\.t.*rank"):
        Plan.read(path).of("t")


def test_check_stops_before_training_and_needs_no_backbone(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.jsonl", [_row(n) for n in range(30)])
    result = CliRunner().invoke(build(), ["train", str(path), "--check", "--check-json", str(tmp_path / "check.json")])
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "check.json").read_text())["tasks"][0]["rows"] == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check.json", "rows.jsonl"]


def test_no_usable_row_is_an_error_that_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: no number"):
        read_data([_write(tmp_path / "rows.jsonl", [{"task": "t", "text": "x"}])], {}, Columns())
