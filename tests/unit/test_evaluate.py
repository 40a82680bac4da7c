"""`scoremux evaluate`: which rows are compared, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scoremux_cli.evaluate import evaluate, pair
from scoremux_client.errors import InputError

TRUTH = [{"id": "1", "level": 0}, {"id": "2", "level": 2}, {"id": "3", "level": 1}]


@pytest.fixture
def files(tmp_path: Path) -> Any:
    """Write both files; return their paths."""

    def write(scored: list[dict[str, Any]], truth: list[dict[str, Any]] = TRUTH) -> tuple[Path, Path]:
        paths = tmp_path / "out.jsonl", tmp_path / "truth.jsonl"
        for path, rows in zip(paths, (scored, truth), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return paths

    return write


def ok(id_: str | int, level: Any, task: str = "t-1") -> dict[str, Any]:
    return {"id": id_, "task": task, "status": "OK", "level": level}


def test_rows_are_paired_by_id_human_first(files: Any) -> None:
    pairs, unscored = pair(*files([ok("3", 2), ok("1", 0), ok("2", 1, task="t-2")]))
    assert (pairs, unscored) == ({"t-1": [(1, 2), (0, 0)], "t-2": [(2, 1)]}, 0)


def test_unscored_rows_are_counted_and_left_out(files: Any) -> None:
    bad = {"id": "nobody", "task": "t-9", "status": "UNKNOWN_TASK", "level": -1}
    assert pair(*files([ok("1", 0), bad, {**bad, "id": "nobody-2"}])) == ({"t-1": [(0, 0)]}, 2)


def test_truth_may_have_rows_that_were_not_scored(files: Any) -> None:
    assert pair(*files([ok("2", 2)])) == ({"t-1": [(2, 2)]}, 0)


def test_ids_match_as_text_whatever_their_type(files: Any) -> None:
    assert pair(*files([ok(1, "0")], [{"id": "1", "level": "1"}])) == ({"t-1": [(1, 0)]}, 0)


def test_an_id_that_the_truth_does_not_have_is_refused_by_name(files: Any) -> None:
    with pytest.raises(InputError, match=r"out\.jsonl, row 2: id '9' is not in .*truth\.jsonl"):
        pair(*files([ok("1", 0), ok("9", 0)]))


def test_an_id_that_the_truth_has_twice_is_refused_by_name(files: Any) -> None:
    with pytest.raises(InputError, match=r"truth\.jsonl, row 4: id '1' is there twice"):
        pair(*files([ok("1", 0)], [*TRUTH, {"id": "1", "level": 2}]))


def test_an_id_that_was_scored_twice_is_refused_by_name(files: Any) -> None:
    with pytest.raises(InputError, match=r"out\.jsonl, row 2: id '1' is there twice"):
        pair(*files([ok("1", 0), ok("1", 0)]))


@pytest.mark.parametrize("missing", ["id", "level"])
def test_a_truth_without_its_columns_is_refused(files: Any, missing: str) -> None:
    row = {key: value for key, value in TRUTH[0].items() if key != missing}
    with pytest.raises(InputError, match=r"truth\.jsonl, row 1: the columns id and level are needed"):
        pair(*files([ok("1", 0)], [row]))


@pytest.mark.parametrize("missing", ["id", "level", "task"])
def test_an_output_without_its_columns_is_refused(files: Any, missing: str) -> None:
    row = {key: value for key, value in ok("1", 0).items() if key != missing}
    with pytest.raises(InputError, match=rf"out\.jsonl, row 1: .*{missing}"):
        pair(*files([row]))


@pytest.mark.parametrize("level", ["high", "", None, 0.5, [1], float("nan"), float("inf")], ids=str)
def test_a_level_that_is_no_whole_number_is_refused_with_file_and_row(files: Any, level: Any) -> None:
    with pytest.raises(InputError, match=r"truth\.jsonl, row 2: level is not a whole number"):
        pair(*files([ok("1", 0)], [TRUTH[0], {"id": "2", "level": level}]))


@pytest.mark.parametrize("level", [2, "2", 2.0, " 2"], ids=repr)
def test_a_whole_number_may_be_written_in_several_ways(files: Any, level: Any) -> None:
    assert pair(*files([ok("1", level)])) == ({"t-1": [(0, 2)]}, 0)


@pytest.mark.parametrize("scored", [[], [{"id": "1", "task": "t-1", "status": "INVALID_TEXT", "level": -1}]])
def test_an_output_without_scored_rows_is_refused(files: Any, scored: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"out\.jsonl has no scored rows"):
        pair(*files(scored))


def test_a_missing_truth_is_named(files: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv cannot be read"):
        pair(files([ok("1", 0)])[0], tmp_path / "gone.csv")


def test_the_table_has_a_row_a_task_one_for_all_and_the_mean_kappa(
    files: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(*files([ok("1", 0), ok("2", 2), ok("3", 1, task="t-2"), {**ok("4", 0), "status": "INVALID_TEXT"}]))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["t-1", "2", "1.000", "1.000", "1.000", "0.000"] in cells
    assert ["t-2", "1", "1.000", "1.000", "–", "–"] in cells
    assert ["all rows", "3", "1.000", "1.000", "1.000", "0.000"] in cells
    assert ["mean of 1 tasks", "", "", "", "1.000", ""] in cells


LABELLED = [
    {"id": "1", "level": 0, "again": 0, "l1": "de"},
    {"id": "2", "level": 2, "again": 1, "l1": "de"},
    {"id": "3", "level": 1, "again": None, "l1": "fr"},
]


def test_subgroups_and_a_second_human_get_rows_of_their_own(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(*files([ok("1", 0), ok("2", 2), ok("3", 2)], LABELLED), subgroup=["l1"], second="again")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert ["l1: de", "2", "1.000", "1.000", "1.000", "0.000"] in cells
    assert ["l1: fr", "1", "0.000", "1.000", "0.000", "–"] in cells
    assert [row[:4] for row in cells if row[:1] == ["human and human"]] == [["human and human", "2", "0.500", "1.000"]]


def test_the_file_for_rsmtool_has_its_columns_and_the_expected_level(files: Any, tmp_path: Path) -> None:
    scored = [{**ok("1", 1), "probabilities": [0.25, 0.5, 0.25]}, ok("2", 2), ok("3", 1)]
    evaluate(*files(scored, LABELLED), subgroup=["l1"], second="again", rsm=tmp_path / "rsm.csv")
    assert (tmp_path / "rsm.csv").read_text().splitlines() == [
        "spkitemid,sc1,sc2,raw,l1",
        "1,0,0,1.0,de",
        "2,2,1,2.0,de",
        "3,1,,1.0,fr",
    ]


def test_a_subgroup_that_the_truth_does_not_have_is_named(files: Any) -> None:
    with pytest.raises(InputError, match=r"truth\.jsonl, row 1: no column l1"):
        evaluate(*files([ok("1", 0)]), subgroup=["l1"])


def test_the_number_of_unscored_rows_is_said(files: Any, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(*files([ok("1", 0), {**ok("4", 0), "status": "INVALID_TEXT"}]))
    assert "1 rows have no score and are left out" in capsys.readouterr().out
