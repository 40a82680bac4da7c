"""Scored rows beside known levels: how they are matched, and that no row is dropped without a word."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from scoremux.app import build
from scoremux_client.errors import InputError
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import UNNAMED, Matched, match_files
from scoremux_evidence.rows.rules import NO_LEVEL, NO_NUMBER, NO_PERSON, NO_SECOND
from scoremux_evidence.show.report_tables import changed_totals_table
from scoremux_evidence.verdicts.assessment import assess
from scoremux_evidence.verdicts.comparison import compare
from scoremux_evidence.verdicts.verdicts import read_criteria

Row = dict[str, Any]
Join = Callable[..., Matched]
TRUTH = [{"id": "1", "level": 0}, {"id": "2", "level": 2}, {"id": "3", "level": 1}]
SECRET = "my grandmother is the router"


def ok(id_: str | int, level: Any, task: str = "t-1", **more: Any) -> Row:
    return {"id": id_, "task": task, "status": "OK", "level": level, "text": SECRET, **more}


@pytest.fixture
def join(tmp_path: Path) -> Join:
    """Write both files as JSON lines and join them."""

    def run(scored: list[Row], truth: list[Row] = TRUTH, **options: Any) -> Matched:
        paths = tmp_path / "out.jsonl", tmp_path / "truth.jsonl"
        for path, rows in zip(paths, (scored, truth), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return match_files(*paths, LabelColumns(**options))

    return run


def pairs(joined: Matched) -> list[tuple[str, int, int]]:
    """Return task, human's level, machine's level of each row."""
    tasks = (joined.rows.task.values[code] for code in joined.rows.task.code)
    levels = (map(int, column) for column in (joined.rows.human, joined.rows.machine))
    return list(zip(tasks, *levels, strict=True))


def left(joined: Matched) -> dict[str, tuple[int, tuple[str, ...]]]:
    return {reason: (len(rows), tuple(map(str, rows))) for reason, rows in joined.rows.left_out.items()}


def test_rows_match_by_id_and_task_whatever_their_type_where_statuses_are_ok(join: Join) -> None:
    joined = join([ok(3, 2), ok("1", "0"), ok("2", 1, task=f"t-2@{'a' * 64}")])
    assert pairs(joined) == [("t-1", 1, 2), ("t-1", 0, 0), ("t-2", 2, 1)]
    assert joined.rows.left_out == {}
    truth = [{"id": "s1", "task": "t-1", "level": 1}, {"id": "s1", "task": "t-2", "level": 0}]
    assert pairs(join([ok("s1", 1, "t-2"), ok("s1", 2, "t-1")], truth)) == [("t-2", 0, 1), ("t-1", 1, 2)]
    statuses = {"1": "OK", "2": "ODD", "3": None}
    joined = join([ok(n, 1) for n in statuses], [{**row, "status": statuses[row["id"]]} for row in TRUTH])
    assert pairs(joined) == [("t-1", 0, 1), ("t-1", 1, 1)]
    assert left(joined) == {"have no level, as their status says": (1, ("2",))}


def test_students_and_groups_come_from_the_output_too_and_rows_without_are_each_somebody_else(join: Join) -> None:
    scored = [ok("1", 0, student="s1", gender="f"), ok("2", 2, student="s1", gender="f"), ok("3", 1, student="s2")]
    joined = join(scored, student="student", groups=("gender",))
    assert joined.rows.student.tolist() == [0, 0, 1]
    assert joined.groups["gender"].texts() == ["f", "f", None]
    own = join(scored, [{**row, "student": f"own{row['id']}"} for row in TRUTH], student="student")
    assert own.rows.student.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match=r"truth\.jsonl has no column pupil .*; name it with --column KEY=NAME"):
        join(scored, student="pupil")
    with pytest.raises(InputError, match=r"no column region .*; `scoremux score --keep region` brings it"):
        join(scored, groups=("gender", "region"))
    truth = [{**row, "who": who} for row, who in zip(TRUTH, ("ann", "", math.nan), strict=True)]
    joined = join([ok("1", 0), ok("2", 2), ok("3", 1)], truth, student="who")
    assert len(set(joined.rows.student.tolist())) == 3
    assert left(joined) == {"have no who, and each counts by itself": (2, ("2", "3"))}


def test_every_row_that_is_not_compared_is_counted_with_ids(join: Join) -> None:
    wide = {"probabilities": [0.1, 0.8, 0.1]}
    scored = [ok("1", 0, **wide), ok("2", 1), ok("4", 1), ok("5", 1), ok("5", 1), ok("6", 0), ok("8", 0), ok("9", 0)]
    scored.append({"id": "7", "task": "nope", "status": "UNKNOWN_TASK", "level": -1})
    twice = [{"id": "6", "level": level, "administration": str(level)} for level in (1, 2)]
    truth = [*TRUTH, {"id": "5", "level": 1}, {"id": "5", "level": 1}, *twice]
    truth += [{"id": "7", "level": 1}, {"id": "8", "level": None}, {"id": "9", "level": "high"}]
    truth[1] = {"id": "2", "level": 3}
    joined = join(scored, truth)
    assert pairs(joined) == [("t-1", 0, 0)]
    assert left(joined) == {
        "have no score: UNKNOWN_TASK": (1, ("7",)),
        "are scored and not in the truth": (1, ("4",)),
        "are in the output with an id that is there several times": (2, ("5", "5")),
        "are scored and in the truth several times": (1, ("6",)),
        "have a level in the truth that is off the task's scale": (1, ("2",)),
        "are in the truth and not in the output": (1, ("3",)),
        NO_PERSON: (1, ("8",)),
        NO_NUMBER: (1, ("9",)),
        "are given twice, with the same text and levels": (1, ("truth.jsonl:5",)),
    }
    assert SECRET not in str(joined.rows.left_out)


def test_absurd_levels_are_off_every_scale_and_fractional_ones_of_people_are_compared(join: Join) -> None:
    scored = [ok("1", 0), ok("2", 999_999_999), ok("3", -2), ok("4", 1), ok("5", 1, task="")]
    words = ["high", [1], "nan", "1e400", "inf"]
    scored += [ok(n, 1) for n in range(6, 11)]
    truth = [{**TRUTH[0], "level": "0.5"}, *TRUTH[1:], {"id": "4", "level": 10**8}]
    joined = join(scored, [*truth, *({"id": n, "level": word} for n, word in enumerate(words, start=6))])
    assert joined.rows.human.tolist() == [0.5] and joined.dropped.sum() == 6
    assert left(joined) == {
        NO_NUMBER: (5, ("6", "7", "8", "9", "10")),
        "have a level in the output that is off the task's scale, or no task": (3, ("2", "3", "5")),
        "have a level in the truth that is off the task's scale": (1, ("4",)),
    }


def test_points_in_the_place_of_levels_are_refused(join: Join) -> None:
    points = [0, 0.5, 1, 1.5, 2]
    scored = [ok(n, n % 5, score=points[n % 5]) for n in range(10)]
    truth = [{"id": n, "level": points[n % 4]} for n in range(10)]
    with pytest.raises(InputError, match=r"truth\.jsonl: level of t-1 has points; name it with --column score=NAME"):
        join(scored, truth)
    join(scored, [*truth[:9], {"id": 9, "level": 3.5}])  # means of two people's levels
    join(scored, [{"id": n, "level": n % 3} for n in range(10)])
    join([ok(n, n % 5) for n in range(10)], truth)  # nobody says what the levels' points are
    levels = [n % 4 for n in range(10)]
    assert join(scored, truth, score="level").rows.human.tolist() == levels, "as the refusal says"
    with pytest.raises(InputError, match=r"the output have levels of different points: give levels, not points"):
        join([*scored, ok(11, 1, score=7)], truth, score="level")
    # A file of the machine's, to which people added a column.
    added: list[Row] = [
        row | {"version": "v", "arithmetic": "a", "people": points[n % 4]} for n, row in enumerate(scored)
    ]
    assert join(scored, added, score="people").rows.human.tolist() == levels
    with pytest.raises(InputError, match=r"its column level has the machine's levels.*, or score=NAME for points"):
        join(scored, added, score="score")


def test_no_row_vanishes_without_a_reason(join: Join) -> None:
    scored = [ok(n, level, probabilities=[0.5, 0.5]) for n, level in enumerate((1, None, 1.5, "abc", 1, 1))]
    joined = join(scored, [{"id": n, "level": 1 if n < 5 else -1} for n in range(6)])
    assert len(joined) == 2
    assert left(joined) == {
        "have no whole level in the output": (3, ("1", "2", "3")),
        "have a level in the truth that is off the task's scale": (1, ("5",)),
    }
    with pytest.raises(InputError, match=r"truth\.jsonl has no rows"):
        join(scored, [])


def test_points_are_the_levels_that_the_output_shows_or_people_leave_no_doubt_of(join: Join) -> None:
    """The scale is 0, 0.5, 2, 5, 6; the machine never gives the levels 1 and 4."""
    scale, shares = [0, 0.5, 2, 5, 6], [0.2] * 5
    scored = [ok(n, (0, 2, 3)[n % 3], score=scale[(0, 2, 3)[n % 3]], probabilities=shares) for n in range(20)]
    scored += [ok(f"even {n}", n % 2, "t-2", score=n % 2, probabilities=[0.5, 0.5]) for n in range(4)]
    given: list[Row] = [{"id": n, "points": scale[n % 5], "again": scale[(n + 1) % 5]} for n in range(19)]
    typos = [{"id": 19, "points": 22}, {"id": "even 0", "points": 1, "again": 5}, {"id": "even 1", "level": 0}]
    joined = join(
        scored, [*given, *typos, {"id": "even 2"}, {"id": "other", "points": 9}], score="points", second="again"
    )
    assert joined.rows.human.tolist() == [*(n % 5 for n in range(19)), 1, 0]
    assert joined.rows.second[:19].tolist() == [(n + 1) % 5 for n in range(19)] and math.isnan(joined.rows.second[19])
    assert left(joined) == {
        NO_LEVEL: (1, ("19",)),
        NO_SECOND: (1, ("even 0",)),
        NO_PERSON: (1, ("even 2",)),
        "are scored and not in the truth": (1, ("even 3",)),
        "are in the truth and not in the output": (1, ("other",)),
    }
    assert joined.dropped.tolist() == [1, 0]
    # Two levels have no points in the output, and people gave one number that could be either.
    joined = join(
        [row for row in scored if row["level"] < 3], [row for row in given if row["points"] != 6], score="points"
    )
    assert {*joined.rows.human} == {0, 1, 2}
    assert left(joined)[NO_LEVEL][0] == 3
    # Nobody gave the points of a level of this task, so that all of them are of another scale.
    with pytest.raises(InputError, match=r"no row of .* \(2 have points of no level of their task, as far as"):
        join(scored[20::2], [{"id": f"even {n}", "points": 77} for n in (0, 2)], score="points")
    with pytest.raises(InputError, match=r"truth\.jsonl has no column level \(its columns: id, points, again"):
        join(scored, given)


def test_points_are_those_of_a_store_where_the_output_shows_few(tmp_path: Path) -> None:
    """A machine that never gives the highest and the lowest level of a task or of a trait."""
    scale, shares = [1.0, 1.5, 4.0, 7.0], [0.25] * 4
    described = {"v": {"id": "t-1", "levels": scale}, "w": {"id": "essay", "traits": {"ideas": {"levels": scale}}}}
    for version, fields in described.items():
        (tmp_path / "store/packages" / version).mkdir(parents=True)
        (tmp_path / "store/packages" / version / "task.json").write_text(json.dumps(fields))
    of_versions = (("t-1", "v"), ("essay.ideas", "w"))
    scored = [
        {**ok(f"{task} {n}", 1 + n % 2, task, score=scale[1 + n % 2], probabilities=shares), "version": version}
        for task, version in of_versions
        for n in range(8)
    ]
    truth = [{"id": f"{task} {n}", "points": scale[n % 4]} for task, _ in of_versions for n in range(8)]
    for name, rows in (("scored.jsonl", scored), ("truth.jsonl", truth)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = LabelColumns(score="points")
    matched = match_files(tmp_path / "scored.jsonl", tmp_path / "truth.jsonl", columns, tmp_path / "store")
    assert matched.rows.human.tolist() == [n % 4 for n in range(8)] * 2
    (tmp_path / "store/packages/v/task.json").write_text("{")
    with pytest.raises(InputError, match=r"v/task\.json"):
        match_files(tmp_path / "scored.jsonl", tmp_path / "truth.jsonl", columns, tmp_path / "store")


@pytest.mark.parametrize("first", [1, 10])
def test_whole_points_beyond_the_levels_are_refused_in_predictions_too(tmp_path: Path, join: Join, first: int) -> None:
    """Points 1 to 6, as of essays, are the levels 0 to 5; the machine never gave the highest and the lowest."""
    rows = [(str(n), n % 6, min(max(n % 6, 1), 4)) for n in range(60)]
    shares = [[0.9 if level == machine else 0.02 for level in range(6)] for _, _, machine in rows]
    scored = [ok(n, m, score=first + m, probabilities=p) for (n, _, m), p in zip(rows, shares, strict=True)]
    truth = [{"id": n, "level": human + first} for n, human, _ in rows]
    with pytest.raises(InputError, match="level of t-1 has points"):
        join(scored, [*truth, {"id": "60", "level": 99}])
    levels = [{"id": n, "level": human} for n, human, _ in rows]
    assert len(join(scored, levels)) == 60
    columns = {"id": [n for n, *_ in rows], "task": ["t-1"] * 60, "fold": [0] * 60, "level": [h for _, h, _ in rows]}
    more = {"probabilities": shares, "points": [list(range(first, first + 6))] * 60}
    pq.write_table(pa.table(columns | more), tmp_path / "predictions.parquet")
    for name, labels in (("points.jsonl", truth), ("levels.jsonl", levels)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in labels))
    with pytest.raises(InputError, match="level of t-1 has points"):
        match_files(tmp_path / "predictions.parquet", tmp_path / "points.jsonl")
    joined = match_files(tmp_path / "predictions.parquet", tmp_path / "levels.jsonl")
    assert pairs(joined) == [("t-1", human, machine) for _, human, machine in rows]


def test_csv_and_parquet_give_the_same_rows(tmp_path: Path, join: Join) -> None:
    scored = [ok("1", 0, probabilities=[0.5, 0.25, 0.25]), ok("2", 1, probabilities=[0.1, 0.8, 0.1])]
    wanted = join(scored)
    (tmp_path / "t.csv").write_text("id,level\n1,0\n2,2\n3,1\n")
    (tmp_path / "o.csv").write_text(
        "id,task,status,level,probabilities\n1,t-1,OK,0,0.5 0.25 0.25\n2,t-1,OK,1,0.1 0.8 0.1\n"
    )
    (tmp_path / "o").mkdir()
    for place, row in enumerate(scored):
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "o" / f"part-{place:06}.parquet")
    pq.write_table(pa.Table.from_pylist(TRUTH), tmp_path / "t.parquet")
    for output, truth in (("o.csv", "t.csv"), ("o", "t.parquet"), ("o.csv", "t.parquet")):
        got = match_files(tmp_path / output, tmp_path / truth)
        assert pairs(got) == pairs(wanted)
        assert got.rows.confidence == pytest.approx([0.5, 0.8])
        assert left(got) == left(wanted)


@pytest.mark.parametrize("confidence", ["", "0.7"])
def test_csv_output_has_rows_without_a_confidence(tmp_path: Path, confidence: str) -> None:
    """`scoremux score --out scored.csv` leaves the cell empty where there is no score or no calibration."""
    (tmp_path / "t.csv").write_text("id,level\n1,0\n2,2\n")
    columns = "id,task,status,level,score,probabilities,confidence"
    rows = f"1,t-1,OK,0,0,0.5 0.25 0.25,{confidence}\n2,t-1,OK,1,1,0.1 0.8 0.1,\n3,t-1,INVALID_TEXT,-1,,,\n"
    (tmp_path / "o.csv").write_text(f"{columns}\n{rows}")
    joined = match_files(tmp_path / "o.csv", tmp_path / "t.csv")
    assert joined.rows.calibrated.all() == bool(confidence)
    assert joined.rows.confidence == pytest.approx([0.7, np.nan] if confidence else [0.5, 0.8], nan_ok=True)


@pytest.mark.parametrize("missing", ["id", "level", "task", "status"])
def test_an_output_without_its_columns_or_a_row_to_compare_is_refused(join: Join, missing: str) -> None:
    row = {key: value for key, value in ok("1", 0).items() if key != missing}
    with pytest.raises(InputError, match=rf"out\.jsonl has no column {missing}"):
        join([row])
    reasons = r"no row of .*out\.jsonl has a score and a level.*2 are scored and not in.*; rows match by id, "
    with pytest.raises(InputError, match=reasons):
        join([ok("8", 0), ok("9", 0)])


def test_rows_that_stand_for_others_weigh_one_over_their_probability(join: Join) -> None:
    scored = [ok(n, 1, route="machine") for n in range(3)] + [ok(n, 0, route="human:LOW_CONFIDENCE") for n in (3, 4)]
    truth = [
        {"id": 0, "level": 1, "chosen_by": "read_behind", "probability": 0.1},
        {"id": 1, "level": 0, "chosen_by": "read_behind", "probability": None},
        {"id": 2, "level": 1, "chosen_by": "validity", "probability": None},
        {"id": 3, "level": 1, "chosen_by": "route", "probability": None},
    ]
    joined = join(scored, truth)
    assert joined.rows.weight.tolist() == [10, 1]
    assert "n is the number of rows that were read." in joined.population and joined.population.endswith(UNNAMED)
    assert left(joined)["are validity papers or have no probability, and stand for no other rows"] == (2, ("1", "2"))
    exact = assess(joined, read_criteria()).figures["exact"]
    assert (exact.value[-1], exact.n[-1]) == (pytest.approx(10 / 11), 2)


def test_routed_rows_beside_a_sample_of_all_responses_are_left_out(join: Join) -> None:
    routes, shares = ("machine", "human:LOW_CONFIDENCE"), [0.2, 0.5, 0.3]
    scored = [ok(n, 1, task="ab"[n % 2], route=routes[n % 2], probabilities=shares) for n in range(40)]
    truth: list[Row] = [{"id": n, "level": 1, "second": 9 if n == 20 else 1} for n in range(20, 40)]
    truth += [{"id": n, "level": 1, "chosen_by": "route"} for n in range(20)]
    joined = join(scored, truth, second="second")
    assert len(joined.output) == 20 and joined.population.startswith("It is not known whether the adapters of a, b")
    assert np.flatnonzero(np.isnan(joined.rows.second)).tolist() == [0]
    assert left(joined)["were sent to people, beside a sample of all responses"][0] == 20
    behind = [{**row, "chosen_by": "read_behind", "probability": 0.5} for row in truth[:1]]
    assert len(join(scored, behind + truth[1:]).output) == 30  # task a has read-behind
    drawn = [{**row, "chosen_by": "sample", "probability": 0.5} for row in truth[:20]]
    joined = join(scored, drawn + truth[20:])
    assert len(joined.output) == 20 and set(joined.rows.weight) == {2}


def test_read_behind_of_one_version_stands_for_nothing_that_another_version_kept(join: Join) -> None:
    scored = [ok(n, 1, task="ab"[n % 2]) for n in range(40)]
    behind, routed = {"chosen_by": "read_behind", "probability": 0.5}, {"chosen_by": "route"}
    truth: list[Row] = [{"id": n, "level": 1, "version": "first", **(behind if n < 10 else routed)} for n in range(20)]
    truth += [{"id": n, "level": 1, "version": "second", **routed} for n in range(20, 40)]
    joined = join(scored, truth)
    assert joined.output.tolist() == list(range(20))
    assert left(joined)["were sent to people, beside a sample of all responses"][0] == 20
    assert len(join(scored, [{**row, "version": "first"} for row in truth]).output) == 40


def test_rows_that_only_a_route_chose_are_told_apart_by_task(join: Join) -> None:
    scored = [
        ok(f"{task}{n}", 1, task=task, route=("machine", "human:LOW_CONFIDENCE")[n % 2])
        for task in "ab"
        for n in range(40)
    ]
    behind = {"chosen_by": "read_behind", "probability": 0.5}
    truth: list[Row] = [
        {"id": f"{task}{n}", "level": 1, "chosen_by": "route"} for task in "ab" for n in range(1, 40, 2)
    ]
    truth += [{"id": f"a{n}", "level": 1, **behind} for n in range(0, 40, 4)]
    joined = join(scored, truth)
    assert joined.population.startswith("Figures of b, which")
    assert "Of the other tasks: Rows weigh" in joined.population
    assessed = assess(joined, read_criteria())
    people, machine = assessed.figures["people"], assessed.routing.machine
    assert (people.value[0], people.n[1], machine[0]) == (pytest.approx(0.5), 0, pytest.approx(0.5))
    assert np.isnan([people.value[1], *machine[1:]]).all()
    assert np.isnan(joined.rows.kept[[code == 1 for code in joined.rows.task.code]]).all()


def test_out_of_fold_predictions_are_joined_with_the_machines_likeliest_level(tmp_path: Path) -> None:
    rows = [(0, [0.7, 0.2, 0.1]), (2, [0.1, 0.5, 0.4]), (1, [0.2, 0.2, 0.6])]
    columns = {"id": ["1", "2", "3"], "task": ["t-1"] * 3, "fold": [0, 1, 0], "level": [level for level, _ in rows]}
    pq.write_table(
        pa.table({**columns, "probabilities": [shares for _, shares in rows]}), tmp_path / "predictions.parquet"
    )
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TRUTH))
    joined = match_files(tmp_path / "predictions.parquet", tmp_path / "truth.jsonl")
    assert pairs(joined) == [("t-1", 0, 0), ("t-1", 2, 1), ("t-1", 1, 2)]


def test_levels_of_a_task_that_got_another_scale_are_not_compared(tmp_path: Path) -> None:
    three, four = [0.2, 0.5, 0.3], [0.1, 0.2, 0.3, 0.4]
    outputs = {
        "old": [ok(n, n % 3, "t-1", probabilities=three) for n in range(9)] + [ok("x", 1, "t-2", probabilities=three)],
        "new": [ok(n, n % 4, "t-1", probabilities=four) for n in range(9)] + [ok("x", 0, "t-2", probabilities=three)],
        "newest": [ok(n, n % 4, "t-1", probabilities=four) for n in range(9)],
    }
    for name, rows in outputs.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    compared = compare(tmp_path / "old.jsonl", tmp_path / "new.jsonl")
    assert compared.moves == {-1: 1}
    assert [(len(rows), reason[:69]) for reason, rows in compared.left_out.items()][:1] == [
        (9, "are of tasks whose number of levels changed (t-1 3 and 4), so that le")
    ]
    with pytest.raises(InputError, match=r"no scored row in common .*number of levels changed"):
        compare(tmp_path / "old.jsonl", tmp_path / "newest.jsonl")


def test_points_of_a_task_that_only_the_old_output_has_are_not_those_of_another(tmp_path: Path) -> None:
    scales = {"t-1": [0, 1, 2], "t-2": [0, 5, 10]}
    for task, levels in scales.items():
        (tmp_path / "packages" / task).mkdir(parents=True)
        (tmp_path / "packages" / task / "task.json").write_text(json.dumps({"levels": levels}))
    old = [ok(n, n % 3, task, version=task, probabilities=[0.2, 0.5, 0.3]) for n in range(9) for task in scales]
    truth = [{"id": str(n), "task": "t-1", "points": n % 3} for n in range(9)]
    for name, rows in (("old", old), ("new", old[::2]), ("truth", truth)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    paths = [tmp_path / f"{name}.jsonl" for name in ("old", "new", "truth")]
    compared = compare(*paths, LabelColumns(score="points"), tmp_path)
    assert compared.new["exact"].value[0] == 1


def test_two_outputs_are_compared_by_totals_and_codes_by_group(tmp_path: Path, join: Join) -> None:
    """The new output gives level 2 for 0 to 9 students in one task; 60 % of the south's rows have the code C."""
    keys = [(task, n) for task in ("t-1", "t-2") for n in range(100)]
    truth = [
        {"id": f"{t}-{n}", "task": t, "level": n % 3, "student": f"s{n}", "region": "south" if n % 2 else "north"}
        for t, n in keys
    ]
    old = [ok(f"{t}-{n}", n % 3, t, probabilities=[0.2, 0.3, 0.5]) for t, n in keys]
    new = [row | {"level": 2 if t == "t-1" and n % 12 == 0 else n % 3} for row, (t, n) in zip(old, keys, strict=True)]
    for name, rows in (("old", old), ("new", new), ("truth", truth)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = LabelColumns(student="student", groups=("region",))
    paths = [tmp_path / f"{name}.jsonl" for name in ("old", "new", "truth")]
    totals = compare(*paths, columns).totals
    assert not isinstance(totals, str)
    table = changed_totals_table(*totals)
    assert table.title == "Totals of 100 of 100 students, who have a row in each task:"
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["Mean total", "1.98", "1.98", "2.16", ""],
        ["Pass from 0", "100.0%", "100.0%", "100.0%", "0.0%"],
        ["Pass from 2", "66.0%", "66.0%", "75.0%", "9.0%"],
        ["Pass from 4", "33.0%", "33.0%", "33.0%", "0.0%"],
    ]
    assert compare(*paths).totals == ""
    own = compare(*paths, columns, cuts=[3.5, 1]).totals
    assert not isinstance(own, str)
    assert [[cell.text for cell in row] for row in changed_totals_table(*own).rows[1:]] == [
        ["Pass from 1", "66.0%", "66.0%", "75.0%", "9.0%"],
        ["Pass from 3.5", "33.0%", "33.0%", "33.0%", "0.0%"],
    ]
    report = ["report", *map(str, paths[1:2]), "--truth", str(paths[2]), "--column", "student=student"]
    CliRunner().invoke(build(["report"]), [*report, "--cut", "3.5", "--out", str(tmp_path / "r.html")])
    assert json.loads((tmp_path / "r.json").read_text())["totals"]["cuts"] == [3.5]
    without = CliRunner().invoke(build(["compare"]), ["compare", *map(str, paths[:2]), "--cut", "3"])
    assert "give --truth" in str(without.exception)
    coded = [
        {**row, "status": "CONDITION", "condition": "C"} if (n % 10 in (1, 3, 5) if n % 2 else n == 0) else row
        for row, (_, n) in zip(old, keys, strict=True)
    ]
    gaps = join(coded, truth, student="student", groups=("region",)).code_gaps
    assert gaps == ("region: south: 60% of 100 rows have the code C, of others 2%",)
    assert not join(coded, truth[:100], student="student", groups=("region",)).code_gaps  # rows that people read


def _routed(rows: int, task: str = "t-1") -> list[Row]:
    """Return scored rows of which the first 30 % went to people; the machine is right in 0.5 of them, 0.9 of others."""
    people = round(0.3 * rows)
    return [
        ok(f"{task}-{n}", n % 2, task=task, route="human:LOW_CONFIDENCE" if n < people else "machine")
        for n in range(rows)
    ]


def _read(row: Row, **more: Any) -> Row:
    """Return what people gave a row of `_routed`."""
    number = int(row["id"].rpartition("-")[2])
    wrong = number % 4 < 2 if row["route"] != "machine" else number % 20 < 2
    return {"id": row["id"], "level": row["level"] ^ 1 if wrong else row["level"], **more}


def test_weights_have_the_shares_of_the_outputs_routes(join: Join) -> None:
    """People read all 300 rows that were sent to them, and 57 of 700 with a chance of a tenth: 70 were expected."""
    scored = _routed(1000) + _routed(200, "t-2")
    truth = [_read(row, chosen_by="route") for row in scored[:300]]
    truth += [_read(row, chosen_by="read_behind", probability=0.1) for row in scored[300:870:10]]
    truth += [_read(row) for row in scored[1000:]]
    joined = join(scored, truth)
    first = joined.rows.task.code == joined.rows.task.place("t-1")
    weight, kept = joined.rows.weight[first], joined.rows.kept[first] == 1
    assert weight.sum() == pytest.approx(300 + 570) and weight[kept].sum() / weight.sum() == pytest.approx(0.7)
    assert set(joined.rows.weight[~first]) == {1.0}  # all rows were read
    assessed = assess(joined, read_criteria())
    people = assessed.figures["people"]
    for column in (people.value, people.low, people.high):
        assert column.tolist() == pytest.approx([0.3, 0.3, 0.3])
    assert assessed.means["people"].n[0] == 2
    kept_exact = assessed.figures["kept_exact"].value[0]
    assert assessed.figures["exact"].value[0] == pytest.approx(0.3 * 0.5 + 0.7 * kept_exact)
    assert "as many rows of a task were sent to people as in the output" in joined.population
    scored[1000:] = [row | {"route": "machine"} for row in scored[1000:]]
    assert assess(join(scored, truth), read_criteria()).routing.machine == pytest.approx([0.7, 1, 1 - 300 / 1200])


def test_truth_that_is_no_sample_of_the_output_is_named_and_part_of_no_figure(join: Join) -> None:
    scored = _routed(1000) + _routed(200, "t-2")
    truth = [_read(row) for row in scored[:300]] + [_read(row) for row in scored[1001::3]]
    joined = join(scored, truth)
    assert {joined.rows.task.values[code] for code in joined.rows.task.code} == {"t-2"}
    reason, (count, _) = next(item for item in left(joined).items() if "does not say how rows were chosen" in item[0])
    assert count == 300 and reason.endswith("not a sample: sent to people t-1 1.00, in the output 0.30")
    with pytest.raises(InputError, match=r"sent to people t-1 1\.00, in the output"):
        join(scored, truth[:300])
    for more in ({"chosen_by": "route"}, {"probability": 1}):  # the truth says how
        assert len(join(scored, [{**row, **more} for row in truth[:300]])) == 300
    few = [_read(row) for row in scored[:3]]  # three rows can be a sample
    assert len(join(scored, few)) == 3


def test_row_with_more_than_a_tenth_of_the_weight_is_named(join: Join) -> None:
    scored = [ok(n, n % 3, route="machine") for n in range(40)]
    truth = [{"id": n, "level": n % 3, "chosen_by": "sample", "probability": 0.5} for n in range(40)]
    assert "of the weight" not in join(scored, truth).population
    truth[7]["probability"] = 0.01
    joined = join(scored, truth)
    assert "Rows with more than 10% of the weight of their task: 7 of t-1 (56%)." in joined.population
