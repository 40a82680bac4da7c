"""Files of labelled rows, and which of their texts are the same or near copies."""

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelled import each, labelled, rows_of, write
from making import WORDS
from scoremux_client.errors import InputError
from scoremux_evidence.rows.label_columns import LABEL_COLUMNS, LabelColumns
from scoremux_evidence.rows.predicted import read_labelled
from scoremux_evidence.rows.reading import read_labels
from scoremux_evidence.rows.rules import NO_LEVEL, NO_PERSON, NO_SECOND, RELABELLED, read_before
from scoremux_evidence.rows.similar_texts import NEAR, fold, near_copies
from scoremux_evidence.rows.trained_rows import TrainedRows, TrainedVersions

NEEDED = ("task", "text", "level")
SECRET = "my grandmother is the router"


def row(id_: Any = "1", level: Any = 1, text: str = SECRET, **more: Any) -> dict[str, Any]:
    return {"id": id_, "task": "t", "text": text, "level": level, **more}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_table(tmp_path: Path, suffix: str) -> None:
    rows = [row("1", 2, second=1, who="s1", school="A"), row("2", 0, second=None, who=None, school=None)]
    rows[0] |= {"chosen_by": "read_behind", "probability": 0.25, "administration": "may"}
    rows[1] |= {"chosen_by": "validity", "probability": None, "administration": None}
    columns = LabelColumns(second="second", student="who", groups=("school",))
    first, other = each(read_labels([write(tmp_path / f"rows{suffix}", *rows)], columns, NEEDED).rows)
    assert (first.key, first.level, first.second, first.student) == (("t", "1", "may"), 2, 1, "s1")
    assert (first.weight, first.groups, first.text) == (4, {"school": "A"}, SECRET)
    assert (other.key, other.level, other.second, other.student) == (("t", "2", ""), 0, None, None)
    assert math.isnan(other.weight) and other.groups == {"school": ""}
    assert first.file.endswith(f"rows{suffix}") and first.line == (2 if suffix == ".csv" else 1)


def test_equal_lines_count_once_and_lines_of_two_raters_are_one_row(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", row("1", 2, rater="anna"), row("1", 1, rater="ben"), row("2", 0), row("3", None))
    b = write(tmp_path / "b.csv", row("1", 2, rater="anna"), row("1", 0, rater="cleo"), row("2", 0.0), row("3", 1))
    rows = read_labels([a, b]).rows
    assert {one.id: (one.level, one.second) for one in each(rows)} == {"1": (2, 1), "2": (0, None), "3": (1, None)}
    assert {reason.partition(",")[0]: list(places) for reason, places in rows.left_out.items()} == {
        "are given by a second rater": ["a.jsonl:2"],
        "are given twice": ["b.csv:2", "b.csv:4", "b.csv:5"],
        "are given by a third rater; a response counts with the levels of two": ["b.csv:3"],
    }


@pytest.mark.parametrize(
    ("other", "what"),
    [({"text": "another"}, "text"), ({"level": 0}, "level"), ({"second": 0}, "level"), ({"rater": "anna"}, "")],
)
def test_contradicting_lines_are_refused_with_both_places(tmp_path: Path, other: dict[str, Any], what: str) -> None:
    columns = LabelColumns(second="second")
    a, b = write(tmp_path / "a.jsonl", row("0"), row(second=2)), write(tmp_path / "b.jsonl", row(second=2) | other)
    if not what:
        assert len(read_labels([a, b], columns).rows) == 2
        return
    for strict in (True, False):
        with pytest.raises(
            InputError, match=rf"b\.jsonl, line 1: id '1' of t has another {what} than in .*a\.jsonl, l"
        ) as error:
            read_labels([a, b], columns, NEEDED, strict=strict)
    assert "If these are two responses, prefix the ids of one file, or add a column admin" in str(error.value)
    assert SECRET not in str(error.value)
    rows = read_labels([a, write(b, row(second=2) | other | {"administration": "june"})], columns).rows
    assert rows.response_keys() == [("t", "0", ""), ("t", "1", ""), ("t", "1", "june")]
    named = LabelColumns(second="second", administration="year")
    assert len(read_labels([a, write(b, row(second=2) | other | {"year": 2026})], named).rows) == 3


def test_line_that_cannot_be_used_is_refused_or_listed(tmp_path: Path) -> None:
    wrong = [
        row(task="a b"),
        row(text=None),
        {"id": "3", "task": "t", "text": "x"},
        row("4", "high"),
        row("5", score=""),
    ]
    wrong += [row("6", probability=20), row("7", probability="often")]
    path = write(tmp_path / "rows.jsonl", *wrong, row("8", "0,5"), row("9", True), row(None, 1), row("x", 2, again="y"))
    table = read_labels([path], LabelColumns(score="score", second="again"), NEEDED, strict=False)
    assert table.rows.id.tolist() == ["1", "5", "8", "9", "rows.jsonl:10", "x"]
    assert [(reason.removeprefix("cannot be used: "), *places) for reason, places in table.rows.left_out.items()] == [
        (
            "task is not a task's id (letters, digits, . _ -); name another column with --column task=NAME",
            "rows.jsonl:1",
        ),
        ("no number in level or score; words need [levels] in columns.toml", "rows.jsonl:3", "rows.jsonl:4"),
        ("probability is not a number above 0 and at most 1", "rows.jsonl:6", "rows.jsonl:7"),
    ]
    assert table.rows.level[2:4].tolist() == [0.5, 1] and table.rows.no_second.tolist() == [False] * 5 + [True]
    with pytest.raises(InputError, match=r"rows\.jsonl, line 1: task is not a task's id"):
        read_labels([path], needed=NEEDED)
    assert {one.id: one.no_number for one in each(read_labels([path]).rows)}["4"]
    with pytest.raises(InputError, match=r"rows\.jsonl has no column who \(its columns: id, task, .*--column KEY=NAME"):
        read_labels([path]).require(LabelColumns(student="who"))
    with pytest.raises(
        InputError, match=r"has no part-\*\.parquet: name files, or a folder that `scoremux score` wrote"
    ):
        read_labels([tmp_path])
    points = write(tmp_path / "points.jsonl", {"id": "1", "task": "t", "text": SECRET, "score": 0.5})
    with pytest.raises(InputError, match=r"points\.jsonl has no column level \(its columns: id, task, text, s"):
        read_labelled([points], None, LABEL_COLUMNS, {})


def test_calibrated_rows_may_have_points_or_no_level_at_all(tmp_path: Path) -> None:
    scale, columns = {"t": [0.0, 0.5, 2.0]}, LabelColumns(score="points", second="again")
    rows = [
        row("1", None, points="0,5", again=2),
        row("2", "", points=2),
        row("3", 1, points=2, again=2),
        row("4", None),
    ]
    path = write(tmp_path / "l.csv", *rows, row("5", None, points=7), row("6", None, points=0, rater="ben"))
    predicted = [{"id": n, "task": "t", "level": 0, "probabilities": [0.2, 0.3, 0.5]} for n in ("1", "5")]
    table = read_labelled([path], write(tmp_path / "p.jsonl", *predicted), columns, scale)
    assert [(one.id, one.level, one.second) for one in each(table)] == [
        ("1", 1, 2),
        ("2", 2, None),
        ("3", 1, 2),
        ("6", 0, None),
    ]
    assert [*table.left_out] == [RELABELLED, NO_LEVEL, NO_PERSON]
    assert len(table.left_out[RELABELLED]) == 1, "the prediction of row 1 has another level; row 5 does not count"
    table = read_labelled([path], None, LabelColumns(score="level"), {"t": [1.0, 2.0]})
    assert [(one.id, one.level) for one in each(table)] == [("3", 0)], "levels that are points"
    assert {*table.left_out} == {NO_PERSON}
    with pytest.raises(InputError, match="no number in level or points"):
        read_labelled([write(tmp_path / "l.jsonl", row("1", None, points="two", again=""))], None, columns, scale)
    table = read_labelled([write(tmp_path / "l.jsonl", row("1", None, points=2, again=7))], None, columns, scale)
    assert np.isnan(table.second).all() and [*table.left_out] == [NO_SECOND]
    for rows in ([row("1"), {"id": "2", "task": "t", "text": "x"}], [{"id": "2", "task": "t", "text": "x"}, row("1")]):
        table = read_labelled([write(tmp_path / "l.jsonl", *rows)], None, LabelColumns(), {})
        assert (table.id.tolist(), len(table.left_out)) == (["1"], 1), "a line without the key has no level"
    without = write(tmp_path / "without.csv", {"id": "9", "task": "t", "text": "x", "grade": 1})
    with pytest.raises(InputError, match=r"without\.csv has no column level \(its columns: id, task, text, l"):
        read_labelled([path, without], None, columns, scale)
    kinds = [
        row("1", 1, rater="a"),
        row("1", None, points=2, rater="b"),
        row("2", None, points=2, rater="a"),
        row("2", 1, rater="b"),
    ]
    table = read_labelled([write(tmp_path / "l.jsonl", *kinds)], None, replace(columns, second=""), scale)
    assert [(one.level, one.second) for one in each(table)] == [(1, None), (2, None)]
    assert {reason: len(rows) for reason, rows in table.left_out.items()} == {
        "are given by a second rater, whose points do not count beside a level, nor a level beside points": 2
    }


def test_a_withdrawn_label_or_one_with_a_status_leaves_its_prediction_out(tmp_path: Path) -> None:
    rows = [row("1"), row("2", None), row("3", status="PENDING"), row("4", status="UNKNOWN_TASK")]
    predicted = [{"id": n, "task": "t", "level": 1, "probabilities": [0.2, 0.8]} for n in "1234"]
    files = [write(tmp_path / "l.jsonl", *rows)], write(tmp_path / "p.jsonl", *predicted)
    table = read_labelled(*files, LabelColumns(), {"t": [0.0, 1.0]})
    assert table.id.tolist() == ["1", "4"]
    assert [*table.left_out.values()] == [["l.jsonl:3"], ["l.jsonl:2"]]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_words_of_levels_that_are_numbers_stand_for_them_however_they_are_written(tmp_path: Path, suffix: str) -> None:
    columns = LabelColumns(levels={"1": 0, "2": 1})
    rows = [row(str(n), level) for n, level in enumerate((1.0, 2.0))]
    assert read_labels([write(tmp_path / f"l{suffix}", *rows)], columns, NEEDED).rows.level.tolist() == [0, 1]


def test_number_beyond_all_floats_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no number in level"):
        read_labels([write(tmp_path / "l.jsonl", row("1", 10**400))], LABEL_COLUMNS, NEEDED)


def test_labels_count_by_the_day_on_which_they_were_read(tmp_path: Path) -> None:
    days = ("31.08.2019", "2026-9-05", "2026-10-31T09:00", "2026-11-01", "2026-11-02T09:00:00+01:00", None)
    rows = [row(str(n), decided_at=day) for n, day in enumerate(days)]
    found = read_before(read_labels([write(tmp_path / "l.jsonl", *rows)]).rows, "2026-11-01")
    assert [np.flatnonzero(mask).tolist() for mask in found.values()] == [[2], [0, 1, 5]]


def test_lines_of_blank_cells_as_a_spreadsheet_leaves_them_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id;task;text;level\n1;t;it hands;0\n;;;\n;;;\n2;t;out;1\n")
    table = read_labels([path], needed=NEEDED)
    assert (table.rows.id.tolist(), table.rows.left_out) == (["1", "2"], {})
    for line, problem in (("3;t;of;four;cells", "5 columns"), ("3;;it goes;", "no task"), ("3;t;now;x", "no number")):
        path.write_text(f"id;task;text;level\n1;t;it hands;0\n{line}\n")
        with pytest.raises(InputError, match=rf"l\.csv, line 3: .*{problem}"):
            read_labels([path], needed=NEEDED)


def test_number_of_a_student_is_the_same_whatever_type_a_column_has(tmp_path: Path) -> None:
    """A column of numbers with a null is a column of floats where pandas wrote it."""
    whole = write(tmp_path / "ints.jsonl", row(0, who=7), row(1, who="7"), row(5, who=""))
    floats = write(tmp_path / "floats.parquet", *(row(n, who=who) for n, who in ((2, 7.0), (3, math.nan), (4, None))))
    rows = read_labels([whole, floats], LabelColumns(student="who")).rows
    students = {one.id: one.student for one in each(rows)}
    assert students == {
        "0": "7",
        "1": "7",
        "5": None,
        "2": "7",
        "3": None,
        "4": None,
    }


def test_a_file_without_administrations_has_the_responses_of_a_desk_that_names_them(tmp_path: Path) -> None:
    row = {"id": "1", "task": "t", "text": "It rains.", "level": 1}
    desk = [{**row, "administration": "spring"}, {**row, "administration": "autumn", "text": "Snow."}]
    desk[0]["second"] = 0
    labels = [row, {**row, "id": "2", "rater": "A"}]
    for files in ((labels, desk), (desk, labels)):
        paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
        for path, lines in zip(paths, files, strict=True):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        rows = read_labels(paths, LabelColumns(second="second")).rows
        assert {key[1:] for key in rows.response_keys()} == {("1", "spring"), ("1", "autumn"), ("2", "")}
        assert np.nansum(rows.second) == 0 and np.isfinite(rows.second).sum() == 1, "people disagree in spring"
    named = [{**row, "id": "2", "rater": "A"}, {**row, "id": "2"}, {**row, "id": "2", "level": 0, "rater": "B"}]
    paths[0].write_text("".join(json.dumps(line) + "\n" for line in named), encoding="utf-8")
    (both,) = each(read_labels(paths[:1]).rows)
    assert (both.level, both.second) == (1, 0), "a line without a rater is no second person's"


def test_predictions_of_several_administrations_are_all_kept_or_refused(tmp_path: Path) -> None:
    line = {"id": "7", "task": "t", "level": 1, "probabilities": [0.2, 0.3, 0.5], "adapter": "x", "fold": 0}
    predictions, labels = tmp_path / "p.jsonl", tmp_path / "l.jsonl"
    predictions.write_text("".join(json.dumps({**line, "administration": name}) + "\n" for name in "ABC"))
    assert len(read_labelled([], predictions, LABEL_COLUMNS, {})) == 3
    labels.write_text(json.dumps({"id": "9", "task": "t", "level": 0, "text": "Snow."}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="is in several administrations"):
        read_labelled([labels], predictions, LABEL_COLUMNS, {})


def test_a_trained_row_is_known_by_its_id_or_without_one_by_its_text(tmp_path: Path) -> None:
    def row(id_: str, text: str | None, administration: str | None = None, has_id: bool = True) -> dict[str, Any]:
        return labelled(id_, "t", 0, text=text, administration=administration, has_id=has_id)

    rows = [row("1", "a hub"), row("2", "a switch"), row("f.csv:3", "yes", has_id=False)]
    (tmp_path / "trained.json").write_text(TrainedRows.of(rows_of(*rows)).to_json())
    trained = TrainedRows.read(tmp_path / "trained.json")
    assert trained == TrainedRows.of(rows_of(*rows))
    asked = [row("1", "edited"), row("9", "a hub"), row("9", " yes"), row("x:1", "a  hub", has_id=False)]
    asked += [row("f.csv:3", "other", has_id=False), row("2", None), row("9", "no"), row("1", "new", "2026")]
    assert trained is not None
    assert trained.find(rows_of(*asked))[0].tolist() == [
        True,
        False,
        True,
        True,
        False,
        True,
        False,
        True,
    ]
    assert trained.find(rows_of(*asked[:2]))[1].tolist() == [False, True]
    of_2025 = TrainedRows.of(rows_of(row("1", "a hub", "2025")))
    given = [row("1", "new", "2025"), row("1", "new"), row("1", "new", "2026"), row("1", "a hub", "the desk's name")]
    assert of_2025.find(rows_of(*given))[0].tolist() == [True, True, False, True]
    assert "hub" not in (tmp_path / "trained.json").read_text()
    (tmp_path / "trained.json").write_text("[]")
    with pytest.raises(InputError, match=r"trained\.json"):
        TrainedRows.read(tmp_path / "trained.json")


def test_a_report_names_the_task_of_a_damaged_list_and_reads_the_others(tmp_path: Path) -> None:
    trained = TrainedRows.of(rows_of(labelled("1", "t", 0, text="a hub")))
    for version, content in (("a", "[" * 200_000), ("b", trained.to_json())):
        (tmp_path / "packages" / version).mkdir(parents=True)
        (tmp_path / "packages" / version / "trained.json").write_text(content)
    versions = TrainedVersions.read(tmp_path, [("bad", "a"), ("good", "b")])
    assert versions.by_task == {"good": [trained]}
    assert "adapters of bad were" in versions.in_words() and "bad: " in versions.in_words()
    assert "it is not a list of digests" in versions.in_words()


BASE = "Chlorophyll absorbs red and blue light and reflects the green light, 2 times 3 is 6."


@pytest.mark.parametrize(
    "other",
    [BASE.upper(), BASE.replace(" and ", "  and\n"), BASE.rstrip("."), f"“{BASE}”", BASE.replace("light,", "light;"),
     f" {BASE}!"],
)  # fmt: skip
def test_fold_ignores_case_spaces_and_sentence_punctuation(other: str) -> None:
    assert fold(other) == fold(BASE)
    assert near_copies([other, BASE]) == [0, 0]


@pytest.mark.parametrize(
    ("text", "other"),
    [("6", "-6"), ("2.5", "25"), ("1,5", "15"), ("x - 5", "x 5"), ("2(3+4)", "23+4"), ("5!", "5"),
     ("5' tall", "5 tall"), ("x²", "x2"), ("50%", "50"), ("a<b", "a>b"),
     (BASE, BASE.replace("reflects", "does not reflect")), (BASE, BASE.replace("red and", "red or"))],
)  # fmt: skip
def test_fold_keeps_what_changes_an_answer(text: str, other: str) -> None:
    assert fold(text) != fold(other)


def share_of_trigrams(text: str, other: str) -> float:
    a, b = ({f" {folded} "[n : n + 3] for n in range(max(1, len(folded)))} for folded in map(fold, (text, other)))
    return len(a & b) / len(a | b)


def test_near_copies_are_those_of_the_share_of_trigrams() -> None:
    draw, texts = random.Random(18), ["", "a", "Photosynthesis.", BASE]
    for _ in range(40):
        words = draw.choices(WORDS, k=draw.randint(3, 40))
        texts += [" ".join(words), " ".join([*words[: draw.randint(0, len(words))], "not", *words[2:]])]
    group = list(range(len(texts)))
    for one, other in itertools.combinations(range(len(texts)), 2):
        if share_of_trigrams(texts[one], texts[other]) >= NEAR:
            joined = {group[one], group[other]}
            group = [min(joined) if place in joined else place for place in group]
    assert near_copies(texts) == group
    assert 10 < len(set(group)) < len(texts) - 10
