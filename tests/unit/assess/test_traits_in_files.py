"""Files of essays with a column of points for each trait: which rows they have, for every command."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labelled import each, write
from scoremux_client.errors import InputError
from scoremux_evidence.rows.label_columns import LabelColumns, label_columns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.reading import read_labels
from scoremux_evidence.sampling import choose, read_unlabelled, read_without
from scoremux_evidence.verdicts.items import measure_items
from scoremux_train.check import check, remarks
from scoremux_train.data import read_data
from scoremux_train.errors import DataError

TRAITS = LabelColumns(traits={"grammar": "G", "style": "S"})
NEEDED = ("task", "text", "level")


def essay(number: int, grammar: Any = 1, style: Any = 2, **more: Any) -> dict[str, Any]:
    return {"id": f"e{number}", "task": "essay-1", "text": f"essay {number}", "G": grammar, "S": style, **more}


def plain(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"p{number}", "task": "plain", "text": f"answer {number}", **more}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_are_those_of_traits_with_points_and_of_other_tasks(tmp_path: Path, suffix: str) -> None:
    rows = [
        essay(1, level=3, second=3, score=None),
        essay(2, style=None, level=3, second=3, score=None),
        essay(3, grammar=None, style=None, level=None, second=None, score=None),
        plain(1, G=None, S=None, level=None, second=None, score=5),
    ]
    labels = read_labels([write(tmp_path / f"l{suffix}", *rows)], TRAITS, NEEDED, strict=False)
    found = [(row.id, row.task, row.score) for row in each(labels.rows)]
    assert found == [
        ("e1", "essay-1.grammar", 1),
        ("e1", "essay-1.style", 2),
        ("e2", "essay-1.grammar", 1),
        ("p1", "plain", 5),
    ]
    assert {*labels.rows.level.tolist()}.isdisjoint({3}) and {*labels.rows.second.tolist()}.isdisjoint({3})
    assert [[place.partition(":")[0] for place in places] for places in labels.rows.left_out.values()] == [
        [f"l{suffix}"]
    ]


def test_columns_of_traits_are_there_and_apart_and_no_row_of_a_trait_is_split(tmp_path: Path) -> None:
    file = write(tmp_path / "l.csv", essay(1))
    with pytest.raises(InputError, match=r"l\.csv has no column Stil"):
        columns = replace(TRAITS, traits={"grammar": "G", "style": "Stil"})
        read_labels([file], columns, NEEDED).require(columns)
    (tmp_path / "columns.toml").write_text('[traits]\ngrammar = "G"\nstyle = "G"\n')
    with pytest.raises(InputError, match="names one column for two traits"):
        label_columns(None, data=file)
    named = [essay(1, level=0) | {"task": f"essay-1.{part}"} for part in ("grammar", "total")]
    rows = read_labels([write(tmp_path / "named.csv", *named)], TRAITS, NEEDED).rows
    assert rows.task.texts() == ["essay-1.grammar", "essay-1.total"]


def test_sample_draws_responses_and_none_with_a_labelled_trait(tmp_path: Path) -> None:
    pool = read_unlabelled([str(write(tmp_path / "pool.csv", *map(essay, range(10))))], tmp_path / "q.jsonl", TRAITS)
    labelled = [{"id": f"e{n}", "task": f"essay-1.{trait}"} for n in range(4) for trait in ("grammar", "style")]
    for without in (write(tmp_path / "desk.csv", *labelled), write(tmp_path / "wide.csv", *map(essay, range(4)))):
        (drawn,) = choose(pool, read_without([without], replace(TRAITS, level="")), 20, 1)
        assert (drawn.task, drawn.responses, drawn.drawn.left_out) == ("essay-1", 10, 4)
        assert sorted(drawn.rows.id) == [f"e{n}" for n in range(4, 10)]


def test_training_says_which_trait_an_item_lacks_and_shares_its_question(tmp_path: Path) -> None:
    rows = [essay(n, n % 3, n % 2 if n < 12 else None) for n in range(60)]
    file = write(tmp_path / "l.csv", *rows)
    data = read_data([file], {}, TRAITS)
    assert "essay-1 is not trained: essay-1.style would have to be, too" in remarks(data, check(data, 5))
    told = {"essay-1.grammar": {"question": "Why?", "levels": [0, 1, 2]}, "essay-1.style": {"levels": [0, 1]}}
    data = read_data([file], told, TRAITS)
    assert data.items["essay-1"].question == "Why?"
    told["essay-1.style"]["question"] = "How?"
    with pytest.raises(DataError, match="item essay-1: its traits have different texts as question"):
        read_data([file], told, TRAITS)
    data = read_data([file], {"essay-1": {"question": "Why?"}, "essay-1.style": {"levels": [0, 1]}}, TRAITS)
    assert {task.question for task in data.tasks.values()} == {"Why?"}
    with pytest.raises(DataError, match=r"task essay-1\.grammar: all of its rows have 1 points"):
        read_data([write(tmp_path / "one.csv", *map(essay, range(30)))], {}, TRAITS)


def test_items_have_figures_from_predictions_too_and_a_row_of_a_total_takes_none_away(tmp_path: Path) -> None:
    shares = [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]]
    rows: list[dict[str, Any]] = [
        {
            "id": n,
            "task": f"essay-1.{trait}",
            "fold": n % 5,
            "level": n % 3,
            "adapter": "ab",
            "probabilities": shares[n % 3],
        }
        for n in range(60)
        for trait in ("grammar", "style")
    ]
    truth = write(tmp_path / "truth.jsonl", *({**row, "level": n // 2 % 3} for n, row in enumerate(rows)))
    predicted = match_files(write(tmp_path / "p.parquet", *rows), truth)
    (item,) = measure_items(predicted)
    assert (item.item, item.figures["exact" if "exact" in item.figures else "qwk"].n[0]) == ("essay-1", 60)
    texts = [{**row, "probabilities": " ".join(map(str, row["probabilities"]))} for row in rows]
    of_csv = match_files(write(tmp_path / "p.csv", *texts), truth)
    assert of_csv.rows.machine.tolist() == predicted.rows.machine.tolist()
    scored = [{**row, "status": "OK", "version": "ab"} for row in rows]
    scored.append(scored[0] | {"task": "essay-1.total"})
    (again,) = measure_items(match_files(write(tmp_path / "s.jsonl", *scored), truth))
    assert again.figures["qwk"].value[0] == item.figures["qwk"].value[0]


def test_a_response_weighs_as_the_trait_that_is_read_most_rarely(tmp_path: Path) -> None:
    rows = [
        {"id": n, "task": f"essay-1.{trait}", "status": "OK", "version": "ab", "probabilities": [0.25] * 4, "level": 1}
        for n in range(100)
        for trait in ("grammar", "style")
    ]
    truth = [
        {"id": row["id"], "task": row["task"], "level": 1 if row["id"] < 50 else 3, "probability": 1.0} for row in rows
    ]
    for row in truth[1:100:2]:
        row["probability"] = 0.1
    (item,) = measure_items(match_files(write(tmp_path / "s.jsonl", *rows), write(tmp_path / "t.jsonl", *truth)))
    assert item.figures["adjacent"].value[0] == pytest.approx(500 / 550)
