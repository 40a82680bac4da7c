"""The regression guard: ratios, tolerances, names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import guard
from benchmarks.guard import Baseline


def rows(folder: Path, *figures: dict[str, object]) -> Path:
    (folder / "speed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in figures))
    return folder


def baseline(**changes: object) -> Baseline:
    return Baseline(
        **{"name": "a", "rows": "speed", "at": ("x",), "value": 2.0, "tolerance": 0.1, "where": {}, **changes}  # type: ignore[arg-type]
    )


def test_the_newest_row_with_the_wanted_values_counts(tmp_path: Path) -> None:
    found = rows(tmp_path, {"r": "a", "x": 1}, {"r": "b", "x": 2}, {"r": "a", "x": 3})
    assert baseline(where={"r": "a"}).now(found) == 3
    assert baseline(where={"r": "b"}).now(found) == 2
    assert baseline(where={"r": "c"}).now(found) is None


def test_a_figure_may_lie_in_a_list_and_be_divided(tmp_path: Path) -> None:
    found = rows(tmp_path, {"points": [{"value": 1, "per_s": 100}, {"value": 27, "per_s": 80}]})
    one = baseline(at=("points", "value=27", "per_s"), over=("points", "value=1", "per_s"))
    assert one.now(found) == pytest.approx(0.8)
    assert baseline(at=("points", "value=3", "per_s")).now(found) is None


@pytest.mark.parametrize(
    ("higher", "now", "kept"),
    [(True, 1.81, True), (True, 1.79, False), (True, 9.0, True), (False, 2.19, True), (False, 2.21, False)],
)
def test_only_the_worse_direction_counts(higher: bool, now: float, kept: bool) -> None:
    assert baseline(higher_is_better=higher).is_kept(now) is kept


def test_a_figure_that_is_gone_is_not_kept() -> None:
    assert not baseline().is_kept(None)


def test_the_command_ends_with_1_and_the_names_of_what_is_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = {"rows": "speed", "tolerance": 0.1, "where": {}}
    entries = [
        {**entry, "name": "fine", "at": ["x"], "value": 3.0},
        {**entry, "name": "slow", "at": ["y"], "value": 2.0},
    ]
    (tmp_path / "baselines.json").write_text(json.dumps(entries))
    arguments = ["guard", "--baselines", str(tmp_path / "baselines.json"), "--results", str(tmp_path)]
    rows(tmp_path, {"x": 3, "y": 1})
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match=r"worse than the baseline: slow$"):
        guard.main()
    monkeypatch.setattr("sys.argv", [*arguments, "--update"])
    guard.main()
    assert [b.value for b in guard.read(tmp_path / "baselines.json")] == [3, 1]
    assert "slow" in capsys.readouterr().out


def test_every_committed_baseline_names_a_figure_of_the_committed_rows() -> None:
    baselines = guard.read()
    assert len({b.name for b in baselines}) == len(baselines) > 5
    assert [b.name for b in baselines if b.now(guard.RESULTS) is None] == []
