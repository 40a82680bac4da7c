"""The plots: every drawing from rows, the same bytes each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the plots need scoremux[bench]")
from benchmarks.plots import DRAWINGS, draw_all


def test_without_rows_nothing_is_drawn(tmp_path: Path) -> None:
    assert draw_all(tmp_path / "plots", results=tmp_path) == []


def test_the_committed_rows_give_plots_and_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = draw_all(tmp_path / "a"), draw_all(tmp_path / "b")
    assert "growth" in [path.stem for path in first]
    assert {path.stem for path in first} <= set(DRAWINGS)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert b"<dc:date>" not in one.read_bytes()


def test_a_drawing_shows_the_newest_row(tmp_path: Path) -> None:
    def row(rate: float) -> str:
        point = {"value": 1, "per_s": rate, "spread": 0.1, "memory_bytes": 10**6}
        grown = {"slope": 0.5, "bend": None, "before": None, "after": None}
        points = [point, {**point, "value": 2}]
        made = {"axis": "threads", "runner": "r", "unit": "rows", "points": points, "growth": grown, "bytes_each": 1.0}
        return json.dumps(made) + "\n"

    (tmp_path / "growth.jsonl").write_text(row(10) + row(1234))
    (svg,) = draw_all(tmp_path / "plots", results=tmp_path)
    text = svg.read_text(encoding="utf-8")
    assert "1,400" in text  # an axis up to the newest rate
    assert "rows/s" in text
