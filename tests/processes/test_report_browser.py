"""The report in Chromium: no violation of WCAG; whatever tasks and groups are called, only tables scroll sideways."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import typer

from chromium import SIZES, chromium, open_page, violations
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.decision import Decision, Expected, Temperature, Threshold
from scoremux_evidence.commands.dossier import dossier
from scoremux_evidence.commands.watch_command import watch
from scoremux_evidence.rows.label_columns import label_columns
from scoremux_evidence.show import ReportInputs, write_report

LONG = "grade_8_science_" * 8


@pytest.mark.parametrize("width", [360, *(pytest.param(w, marks=pytest.mark.nightly) for w in SIZES if w != 360)])
def test_only_tables_scroll_sideways(tmp_path: Path, width: int) -> None:
    chance, scored, truth = np.random.default_rng(0), [], []
    for n in range(240):
        task, level = (LONG, "bio-7")[n % 2], int(chance.integers(14))
        share = [0.5 / 14] * 14
        share[level] += 0.5
        row = {"id": f"r{n}", "task": task, "status": "OK", "level": level, "probabilities": share}
        scored.append({**row, "route": ("machine", "human:LOW_CONFIDENCE")[n % 3 == 0], "confidence": 0.5})
        truth.append({"id": row["id"], "level": n % 14, "again": n % 14, "l1": (LONG, "de")[n % 5 == 0], "who": n})
    for name, rows in (("scored", scored), ("truth", truth)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = tmp_path / "report.html"
    columns = ["second=again", "group=l1", "student=who"]
    named = label_columns(columns, "second", group="group")
    write_report(ReportInputs(tmp_path / "scored.jsonl", tmp_path / "truth.jsonl", named), page, LONG)
    with chromium() as browser:
        shown = open_page(browser, viewport={"width": width, "height": SIZES[width]})
        shown.goto(page.as_uri())
        shown.evaluate("document.querySelectorAll('details').forEach(task => { task.open = true })")
        assert shown.evaluate("document.documentElement.scrollWidth") == width
        boxes = "[...document.querySelectorAll('.wide')].some(box => box.scrollWidth > box.clientWidth)"
        assert shown.evaluate(boxes) == (width < 1000)
        qwk = shown.locator("th:text-is('QWK')").first.bounding_box()
        assert qwk and qwk["x"] + qwk["width"] <= width
        for scheme in ("light",) if width == 360 else ("light", "dark"):  # a look takes axe ten seconds
            shown.emulate_media(color_scheme=scheme)
            assert violations(shown) == []
        shown.set_viewport_size({"width": 1100, "height": 900})
        assert not shown.evaluate(boxes), "a small desktop window shows all columns"


def test_the_page_of_every_morning_and_the_dossier_fit_a_phone(tmp_path: Path) -> None:
    threshold = Threshold("LOW_CONFIDENCE", "own", 300, 0.2, 0.7, exact=0.85, confidence=0.9)
    expected, temperature = Expected(0.12, 300, (0.5, 0.5)), Temperature(1.0, "own", 300)
    decision = Decision("p", Conditions(), False, temperature, threshold, expected=expected)
    (folder := tmp_path / "store" / "packages" / ("a" * 64)).mkdir(parents=True)
    (folder / "decision.json").write_bytes(decision.to_json())
    rows = [
        {"id": f"r{day}-{n}", "task": LONG, "status": "OK", "machine_level": 1, "first_level": n % 2,
         "route": "machine", "read_behind": 0.1 if n < 10 else None, "version": "a" * 64, "decided_by": "rater",
         "confidence": 0.9, "added_at": (date.today() - timedelta(days=day)).isoformat()}
        for day in range(40, -1, -1) for n in range(30)
    ]  # fmt: skip
    (tmp_path / "final.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(typer.Exit):  # an alarm
        watch(tmp_path / "final.jsonl", tmp_path / "store", out=tmp_path / "today.html")
    task = {"id": LONG, "levels": [0, 1], "question": "Why? " * 40}
    (folder / "task.json").write_text(json.dumps(task))
    (tmp_path / "store" / "manifest.json").write_text(json.dumps({"tasks": {LONG: "a" * 64}}))
    dossier(LONG, tmp_path / "store", tmp_path / "dossier", watch=tmp_path / "today.json")
    pages = {"today.html": "#alarms, #warnings, #promises, #plan", "dossier/dossier.html": "#blanks, #logs, #hand-over"}
    with chromium() as browser:
        for name, parts in pages.items():
            shown = open_page(browser, viewport={"width": 360, "height": SIZES[360]})
            shown.goto((tmp_path / name).as_uri())
            assert shown.locator(parts).count() == len(parts.split())
            assert shown.evaluate("document.documentElement.scrollWidth") == 360
            for scheme in ("light", "dark"):
                shown.emulate_media(color_scheme=scheme)
                assert violations(shown) == []
