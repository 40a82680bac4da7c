"""Answers without labels: what a comparison with the reference says of them, and adapters that learn it."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from labelled import labelled, rows_of
from making import make_encoder
from scoremux.app import build
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.packages.task import Task
from scoremux_evidence.figures.agreement import qwk
from scoremux_evidence.rows.table import Rows
from scoremux_evidence.rows.trained_rows import TrainedRows
from scoremux_evidence.sampling import generator
from scoremux_files.errors import InputError
from scoremux_train import run
from scoremux_train.check import check
from scoremux_train.data import read_data
from scoremux_train.errors import DataError
from scoremux_train.recipe import Plan, Recipe
from scoremux_train.reference_comparison import Compared, ReferenceComparison, comparisons, made_up, shipped_start
from scoremux_train.task_table import read_tasks
from scoremux_train.training.batches import Example, StepRow, TrainingSet
from scoremux_train.training.objective import loss
from scoremux_train.training.preparation import WHOLE, prepare

LEVELS = (0.0, 1.0, 2.0)
TOPICS = [[f"{letter}{n}ing" for n in range(6)] for letter in "abcdefg"]
"""The words of each task's reference. An answer's level is the number of its words among them, in twos."""

OTHERS = [f"other{n}" for n in range(40)]


def _answer(topic: int, level: int, draw: random.Random) -> str:
    words = draw.sample(TOPICS[topic], 2 * level + draw.randint(0, 1)) + draw.sample(OTHERS, 5)
    return " ".join(draw.sample(words, len(words)))


def _cells(topic: int, count: int) -> list[dict[str, object]]:
    draw = random.Random(topic)
    levels = [n % 3 for n in range(count)]
    return [labelled(f"{n}", f"t{topic}", level, text=_answer(topic, level, draw)) for n, level in enumerate(levels)]


def _task(topic: int) -> Task:
    return Task(id=f"t{topic}", levels=LEVELS, question="Which ones?", reference=" ".join(TOPICS[topic]))


def _tasks(topics: range, count: int = 40) -> list[tuple[Task, Rows]]:
    return [(_task(topic), rows_of(*_cells(topic, count))) for topic in topics]


def test_a_head_of_other_tasks_levels_answers_without_a_label_by_their_reference() -> None:
    comparison = ReferenceComparison.learn(_tasks(range(6)))
    (task, rows), human = _tasks(range(6, 7))[0], [n % 3 for n in range(40)]
    assert qwk(human, comparison.compare(task, rows.text).prior.argmax(1).tolist()) > 0.85
    assert qwk(human, shipped_start().compare(task, rows.text).prior.argmax(1).tolist()) > 0.5
    other = task.model_copy(update={"reference": " ".join(OTHERS[:6])})
    assert qwk(human, comparison.compare(other, rows.text).prior.argmax(1).tolist()) < 0.3
    finer = task.model_copy(update={"levels": (0.0, 0.5, 1.0, 1.5, 2.0)})
    assert comparison.compare(finer, rows.text).prior.shape == (40, 5)


def test_labels_correct_the_head_where_they_contradict_it() -> None:
    comparison = ReferenceComparison.learn(_tasks(range(6)))
    ((task, rows),) = _tasks(range(6, 7), 90)
    turned = [2 - n % 3 for n in range(90)]
    compared = comparison.compare(task, rows.text)
    agreement = [qwk(turned[40:], compared.corrected(range(n), turned[:n])[40:].argmax(1).tolist()) for n in (0, 8, 40)]
    assert agreement[0] < -0.8 and agreement[0] < agreement[1] < agreement[2] and agreement[2] > 0.7
    shares = compared.corrected(range(8), turned[:8])
    assert shares.min() > 0 and np.allclose(shares.sum(1), 1, atol=1e-3)


def test_a_start_has_no_text_and_is_read_as_it_was_written(tmp_path: Path) -> None:
    comparison = ReferenceComparison.learn(_tasks(range(4)))
    path = tmp_path / "start.json"
    path.write_text(comparison.model_dump_json())
    task, rows = _tasks(range(5, 6))[0]
    assert np.array_equal(
        ReferenceComparison.read(path).compare(task, rows.text).prior, comparison.compare(task, rows.text).prior
    )
    assert "ing" not in path.read_text() and "other" not in path.read_text()
    assert all(len(word) == 16 and count >= 3 for word, count in comparison.frequencies.items())
    for content in ("{}", path.read_text().replace('"format":1', '"format":2'), '{"format": 1, "tasks": []}'):
        path.write_text(content)
        with pytest.raises(InputError, match=r"start\.json: "):
            ReferenceComparison.read(path)


def test_answers_are_made_of_the_reference_and_of_answers() -> None:
    reference, answers = "a b c d e f", ["g h i j", "k l m n o"]
    texts = made_up(reference, answers, generator(1, "t"))
    assert texts[0] == reference and texts == made_up(reference, answers, generator(1, "t"))
    assert len(texts) == 49 and len({*texts}) > 20
    wordings = [reference, *answers]
    of_one = [any({*text.split()} <= {*wording.split()} for wording in wordings) for text in texts]
    spliced = [text for text, is_of_one in zip(texts, of_one, strict=True) if not is_of_one]
    assert spliced and all({*text.split()} <= {*" ".join(answers).split()} for text in spliced)


def test_the_loss_of_a_taught_row_is_the_cross_entropy_of_its_shares() -> None:
    rows = [Example(0, 1, (1,), shares=(0.2, 0.7, 0.1)), Example(1, 0, (1,))]
    of = TrainingSet("t/0", 3, Recipe(class_weights=0, spread=0.15), rows)
    logits = torch.tensor([[0.5, 1.0, -1.0], [0.0, 0.3, 0.1]])
    logp = torch.log_softmax(logits, 1)
    wanted = -(torch.tensor([[0.2, 0.7, 0.1], [0.85, 0.15, 0.0]]) * logp).sum() / 2
    assert torch.allclose(loss(logits, [StepRow(0, of, row, 2) for row in rows]), wanted)


def test_no_label_of_a_fold_has_a_part_in_what_its_table_is_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, answers, tasks = _files(tmp_path, 12)
    data, corrected, used = read_data([rows], read_tasks(tasks), unlabelled=[answers]), Compared.corrected, []

    def note(self: Compared, labelled: list[int], levels: list[int]) -> Any:
        used.append(labelled)
        return corrected(self, labelled, levels)

    monkeypatch.setattr(Compared, "corrected", note)
    model = make_encoder(tmp_path / "model")
    (task,) = prepare(data, [], Plan(folds=3), str(model), comparisons=comparisons(data, None)[1]).tasks
    assert [*task.taught] == [WHOLE, 0, 1, 2]
    wanted = [[n for n, own in enumerate(task.fold_of) if own != fold] for fold in task.taught]
    assert used == wanted and len(wanted[0]) == 12
    assert len(task.taught[0]) > len(task.unlabelled or ()) == 70 - 12 - 1
    assert task.taught[0][60].shares != task.taught[1][60].shares


def test_levels_of_a_taught_adapter_are_evened_by_their_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, answers, tasks = _files(tmp_path, 8)
    data = read_data([rows], read_tasks(tasks), unlabelled=[answers])
    plan, model = Plan(folds=0, recipe=Recipe(epochs=1, rank=4)), make_encoder(tmp_path / "model")
    prepared = prepare(data, ["t0"], plan, str(model), comparisons=comparisons(data, None)[1])
    monkeypatch.setattr(run, "_EVENED", 0.0)
    trained = run.train(prepared, tmp_path, lambda *_: None)
    monkeypatch.undo()
    plain, taught = zip(trained, run.train(prepared, tmp_path, lambda *_: None), strict=True)
    assert torch.equal(plain[0].table, plain[1].table)
    task, change = taught[0].prepared, taught[1].table - taught[0].table
    of = TrainingSet("t6", 3, task.recipe, ())
    natural = [StepRow(0, of, example) for example in task.taught[WHOLE][: 70 - 8 - 1]]
    share = np.mean([own for _, own in prepared.trainer.predict(natural, taught[0].table[None])], axis=0)
    assert np.allclose(change[change != 0], -0.35 * np.log(share), atol=1e-4)


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _files(tmp_path: Path, few: int) -> tuple[Path, Path, Path]:
    """Write labelled rows, of task t6 so many, answers of t5 and t6 without labels, and the table of tasks."""
    rows = [
        {"id": f"r{row['id']}", "task": row["task"], "text": row["text"], "level": row["level"]}
        for topic in range(7)
        for row in _cells(topic, 50 if topic < 6 else 70)
    ]
    labelled_rows = [row for row in rows if row["task"] != "t6" or int(str(row["id"])[1:]) < few]
    rest = [{**row, "level": 9} for row in rows if row not in labelled_rows]  # a machine's level, which is not read
    held_out = {**rest[0], "split": "test"}
    tasks = [_task(n).model_dump(mode="json", include={"id", "levels", "question", "reference"}) for n in range(7)]
    answers = [*rest, {**rest[1], "id": "again"}, *({**row, "id": f"u{row['id']}"} for row in rows[-80:-70])]
    return (
        _write(tmp_path / "labelled.jsonl", [*labelled_rows, {**held_out, "level": 0}]),
        _write(tmp_path / "answers.jsonl", answers),
        _write(tmp_path / "tasks.jsonl", tasks),
    )


def _train(tmp_path: Path, few: int) -> tuple[Path, str]:
    rows, answers, tasks = _files(tmp_path, few)
    model, out = make_encoder(tmp_path / "model"), tmp_path / "out"
    (tmp_path / "train.toml").write_text("folds = 3\n[recipe]\nepochs = 1\nrank = 4\n")
    options = ["--tasks", tasks, "--backbone", model, "--config", tmp_path / "train.toml", "--out", out]
    result = CliRunner().invoke(build(), [*map(str, ["train", rows, "--unlabelled", answers, *options])])
    assert result.exit_code == 0, result.output
    return out, " ".join(result.output.split())


@pytest.mark.parametrize("few", [0, 8])
def test_an_adapter_is_taught_from_few_labels_or_none(tmp_path: Path, few: int) -> None:
    out, output = _train(tmp_path, few)
    assert "answers that are not used: t5" in output and "is kept" not in output
    unlabelled = 70 - few - 1
    assert f"Taught from {few} labels and {unlabelled} unlabelled answers" in (out / "t6" / "card.md").read_text()
    assert "Taught" not in (out / "t0" / "card.md").read_text()
    files = PackageFiles(out / "t6")
    files.check_trained()
    assert files.labels == few and PackageFiles(out / "t0").labels == 50
    trained = TrainedRows.read(out / "t6" / "trained.json")
    assert trained is not None and len(trained.texts) == few + unlabelled
    assert trained.find(rows_of(labelled("r69", "t6", 0), labelled("r70", "t6", 0)))[0].tolist() == [True, False]
    assert "labelled" not in json.loads((out / "t0" / "trained.json").read_text())
    predicted = pq.read_table(out / "predictions.parquet", columns=["task"])["task"].to_pylist()
    assert predicted.count("t6") == few and predicted.count("t0") == 50
    assert ReferenceComparison.read(out / "start.json").tasks == tuple(f"t{n}" for n in range(7 if few else 6))


def test_of_a_plain_and_a_taught_adapter_the_one_with_the_lower_log_loss_is_kept(tmp_path: Path) -> None:
    out, output = _train(tmp_path, 24)
    plain, taught, kept = re.findall(r"t6: out-of-fold log loss (\S+), taught by .* (\S+): the (\w+) adapter", output)[
        0
    ]
    assert kept == ("plain" if float(plain) < float(taught) else "taught")
    assert ("Taught from 24 labels" in (out / "t6" / "card.md").read_text()) == (kept == "taught")
    assert PackageFiles(out / "t6").labels == 24


def test_no_label_of_its_own_task_is_in_a_comparison_and_a_start_of_it_is_refused(tmp_path: Path) -> None:
    rows, answers, tasks = _files(tmp_path, 8)
    described = read_tasks(tasks)
    data = read_data([rows], described, unlabelled=[answers])
    assert {name: len(found) for name, found in data.unlabelled.items()} == {"t6": 61} and data.unused == ["t5"]
    (of_task,) = (one for one in check(data, 5) if one.task == "t6")
    assert (of_task.unlabelled, of_task.trainable) == (61, False)
    whole, comparison_of = comparisons(data, None)
    assert whole is not None and "t6" in whole.tasks and "t6" not in comparison_of["t6"].tasks
    with pytest.raises(DataError, match="learned on labels of t6;"):
        comparisons(data, whole)
    assert comparisons(data, comparison_of["t6"])[1] == {"t6": comparison_of["t6"]}
    few = read_data([rows], {name: described[name] for name in ("t0", "t1", "t6")}, unlabelled=[answers])
    assert comparisons(few, None)[1] == {"t6": shipped_start()}
