"""`scoremux sample`: from unlabelled responses over the desk to rows that training and figures weigh rightly."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from desks import Work, run_review
from labelled import each
from making import WORDS
from scoremux_client.errors import InputError
from scoremux_evidence.commands.sample import sample
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.reading import read_labels
from scoremux_evidence.sampling import read_unlabelled, read_without
from scoremux_files.rows.readers import read_rows


@pytest.fixture
def responses(tmp_path: Path) -> Path:
    """Thirty responses to each of two tasks, a third of them by one student each; six are of a rare stratum."""
    draw, rows = random.Random(6), []
    for n in range(60):
        text = " ".join(draw.choices(WORDS, k=9)) if n not in (8, 9) else "It hands out addresses."
        task = "t-1" if n % 2 else "new-1"
        rows.append({"id": f"r{n}", "task": task, "text": text, "who": f"s{n % 40}", "school": int(n > 53)})
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_draw_comes_back_with_weights(responses: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queue, base = tmp_path / "queue.parquet", tmp_path / "reviews.db"
    options: dict[str, Any] = {"seed": 3, "column": ["student=who"]}
    sample([str(responses)], queue, count=10, **options)
    rows = pq.read_table(queue).to_pylist()
    assert {(row["task"], row["status"]) for row in rows} == {("t-1", "UNKNOWN_TASK"), ("new-1", "UNKNOWN_TASK")}
    assert len(rows) == 20
    assert len({row["student"] for row in rows if row["task"] == "t-1"}) == 10
    printed = capsys.readouterr().err
    assert "drawn with seed 3" in printed
    assert rows[0]["text"] not in printed
    sample([str(responses)], tmp_path / "again.parquet", count=10, **options)
    assert pq.read_table(tmp_path / "again.parquet").to_pylist() == rows

    assert "20 rows, 0 known already, 20 to read" in run_review("add", queue, "--database", base)
    work = Work.open(base, anna="rater")
    while (read := work.take("anna")) is not None:
        assert read.reason == "SAMPLE"
        work.decide("anna", read.token, read.id % 2)
    work.verify()
    labelled = tmp_path / "labelled.parquet"
    run_review("export", "--labelled", labelled, "--database", base)
    told = pq.read_table(labelled).to_pylist()
    probability = {row["id"]: row["probability"] for row in rows}
    assert {row["id"]: row["probability"] for row in told} == probability
    assert {row["chosen_by"] for row in told} == {"sample"}

    # Everybody weighs them by 1 / probability.
    weights = {row.id: row.weight for row in each(read_labels([labelled]).rows)}
    assert weights == pytest.approx({name: 1 / p for name, p in probability.items()})
    scored = tmp_path / "scored.jsonl"
    scored.write_text("".join(json.dumps({**row, "status": "OK", "level": 1}) + "\n" for row in rows))
    joined = match_files(scored, labelled)
    assert sorted(joined.rows.weight) == pytest.approx(sorted(1 / p for p in probability.values()))
    assert "about all responses" in joined.population

    # The queue's own levels, and final scores, are the machine's: nobody takes them for people's.
    run_review("export", "--out", tmp_path / "final.jsonl", "--database", base)
    for machine in (queue, tmp_path / "final.jsonl"):
        with pytest.raises(InputError, match="its column level has the machine's levels"):
            read_labels([machine])
    with pytest.raises(InputError, match="--column level=NAME"):
        read_labels([queue], LabelColumns(level="missing"))
    by_hand = tmp_path / "by_hand.jsonl"
    by_hand.write_text("".join(json.dumps({**row, "human": 1}, default=str) + "\n" for row in rows))
    assert {row.level for row in each(read_labels([by_hand], LabelColumns(level="human")).rows)} == {1}

    # What is labelled is drawn no more, nor its near copies.
    sample([str(responses)], tmp_path / "more.jsonl", count=100, without=[labelled], **options)
    more = [json.loads(line) for line in (tmp_path / "more.jsonl").read_text().splitlines()]
    assert not {row["id"] for row in more} & probability.keys()
    assert not {"r8", "r9"} <= {row["id"] for row in [*more, *rows]}


def test_response_that_is_drawn_and_scored_has_one_score_of_record_and_one_weight(tmp_path: Path) -> None:
    """A quarter is routed, 0.3 of the machine's rows are read behind, and 0.4 of all are drawn."""
    draw, scored, drawn, base = random.Random(5), [], [], tmp_path / "reviews.db"
    row: dict[str, Any]
    for n in range(160):
        routed, behind = n % 4 == 0, draw.random() < 0.3
        row = {"id": f"r{n}", "task": "t", "status": "OK", "level": 0, "probabilities": [0.6, 0.4], "confidence": 0.6}
        row |= {"text": f"answer {n}", "source": "x.jsonl", "line": n + 1, "student": f"s{n}"}
        row |= {"route": "human:LOW_CONFIDENCE" if routed else "machine"}
        scored.append(row | {"read_behind": None if routed or not behind else 0.3})
        if draw.random() < 0.4:
            drawn.append(row | {"chosen_by": "sample", "probability": 0.4})
    for name, rows in (("queue", drawn[:30]), ("scored", scored), ("late", drawn[30:]), ("twice", drawn[:5])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
        run_review("add", tmp_path / f"{name}.jsonl", "--database", base)
    work = Work.open(base, anna="rater")
    desk = work.database
    where = ("--out", tmp_path / "final.jsonl", "--labelled", tmp_path / "labelled.jsonl")

    def exported() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        told = run_review("export", *where, "--database", base)
        assert told.count("160 rows written") == 1
        return list(read_rows(tmp_path / "final.jsonl")), list(read_rows(tmp_path / "labelled.jsonl"))

    sampled, before = {one["id"] for one in drawn}, exported()[0]
    waiting = {one["id"] for one in before if one["status"] == "PENDING"}
    assert waiting == sampled | {one["id"] for one in scored if one["route"] != "machine" or one["read_behind"]}
    while (read := work.take("anna")) is not None:  # the second reading of a response says another level
        drawn_row = work.row(read.row).chosen_by == "sample"
        work.decide("anna", read.token, int(drawn_row))
    work.verify()
    finals, labelled = exported()
    own = {one["id"] for one in scored if one["route"] != "machine" or one["read_behind"]}
    assert {one["id"] for one in finals if one["level"] == 1} == sampled - own  # a scored row's own reading counts
    assert {one["decided_by"] for one in finals if one["id"] not in own | sampled} == {"machine"}
    assert sorted(one["id"] for one in labelled) == sorted(own | sampled)
    assert {one["chosen_by"] for one in labelled if one["id"] in sampled} == {"sample"}
    weights = {row.id: row.weight for row in each(read_labels([tmp_path / "labelled.jsonl"]).rows)}
    for one in scored:  # a way of being chosen adds its own weight
        if one["id"] in own | sampled:
            route = 1 / (one["read_behind"] or 1) if one["id"] in own else 0
            times = 2 if one["id"] in {row["id"] for row in drawn[:5]} else 1
            assert weights[one["id"]] == pytest.approx(route + times * 2.5 * (one["id"] in sampled))
    run_review("export", *where[2:4], "--administration", "scored.jsonl", "--database", base)
    alone = {one["id"]: (one["chosen_by"], one.get("probability")) for one in read_rows(tmp_path / "labelled.jsonl")}
    ways = {one["id"]: "read_behind" if one["read_behind"] else "route" for one in scored if one["id"] in own}
    assert alone == {name: (way, 0.3 if way == "read_behind" else None) for name, way in ways.items()}
    desk.close()


def test_a_rare_stratum_has_a_part_of_the_sample(responses: Path, tmp_path: Path) -> None:
    queue = tmp_path / "queue.jsonl"
    sample([str(responses)], queue, count=10, seed=1, column=["stratum=school"])
    rows = [json.loads(line) for line in queue.read_text().splitlines()]
    rare = [row for row in rows if int(row["id"][1:]) > 53]
    assert len(rows) == 20 and len(rare) == 6  # all three of each task
    with pytest.raises(InputError, match="has no column class"):
        sample([str(responses)], queue, count=10, column=["stratum=class"])


@pytest.mark.parametrize(
    ("probability", "message"), [(None, "probability"), (0, "probability"), (1.5, "probability"), ("x", "no number")]
)
def test_a_sample_without_probabilities_is_refused(probability: object, message: str, tmp_path: Path) -> None:
    row = {"id": "a", "task": "t", "status": "OK", "level": 1, "text": "secret", "chosen_by": "sample"}
    (tmp_path / "queue.jsonl").write_text(json.dumps({**row, "probability": probability}) + "\n")
    with pytest.raises(InputError, match=message) as error:
        run_review("add", tmp_path / "queue.jsonl", "--database", tmp_path / "reviews.db")
    assert "secret" not in str(error.value)


def test_what_is_labelled_is_known_by_its_own_names_or_those_of_the_responses(tmp_path: Path) -> None:
    theirs, ours, names = tmp_path / "rows.jsonl", tmp_path / "ours.jsonl", ("response_id", "item", "answer", "who")
    theirs.write_text(json.dumps(dict(zip(names, ("1", "t", "x", 0), strict=True))) + "\n")
    ours.write_text(json.dumps({"id": "2", "task": "t", "text": "y", "student": "0", "level": -1}) + "\n")
    columns = LabelColumns(**dict(zip(("id", "task", "text", "student"), names, strict=True)), level="", score="")
    (first,) = each(read_unlabelled([str(theirs)], tmp_path / "queue.jsonl", columns).rows)
    both = each(read_without([theirs, ours], columns).rows)
    assert [(row.id, row.task, row.text, row.student) for row in both] == [("1", "t", "x", "0"), ("2", "t", "y", "0")]
    assert repr(both[0]) == repr(first)
    ours.write_text('{"id": "1", "text": "secret"}\n')
    with pytest.raises(InputError, match=r"line 1: no item \(its columns: ") as error:
        read_without([ours], columns)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_queue_keeps_what_tells_equal_ids_apart(tmp_path: Path, suffix: str) -> None:
    terms = {"may": "hosts get addresses", "june": "a router sends packets"}
    rows = [{"id": "1", "task": "t-1", "text": text, "term": term} for term, text in terms.items()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queue = tmp_path / f"queue{suffix}"
    sample([str(tmp_path / "rows.jsonl")], queue, 5, column=["administration=term"])
    assert {row["administration"]: row["text"] for row in read_rows(queue)} == terms


def test_wrong_options_are_refused(responses: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a queue is written to"):
        sample([str(responses)], tmp_path / "queue.csv", 5)
    with pytest.raises(
        InputError, match=r"line 1: text is not a task's id .*--column task=NAME$"
    ):  # and not what is in it
        sample([str(responses)], tmp_path / "queue.jsonl", 5, column=["task=text", "text=task"])
    responses.write_text(responses.read_text() + json.dumps({"id": "r1", "task": "t-1", "text": "other words"}) + "\n")
    with pytest.raises(InputError, match=r"id 'r1' of t-1 has another text than in .*, line 2"):
        sample([str(responses)], tmp_path / "queue.jsonl", 5)
