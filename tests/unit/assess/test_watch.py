"""`scoremux watch`: made-up weeks at the desk whose truth is known."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from scoremux.app import build
from scoremux_batch.people import ReadBehind
from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Scored
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.decision import Decision, Expected, Temperature, Threshold, TraitDecision
from scoremux_decide.policy import WatchPolicy
from scoremux_evidence.watch.detectors import (
    alarms,
    confidence_sequence,
    error_detector,
    mean_detector,
    reads_needed,
    recovery,
)
from scoremux_evidence.watch.findings import find, planned_reads
from scoremux_files.rows.writers import write_rows
from watched import watched_task

CALIBRATED, HELD = "a" * 64, "b" * 64
TODAY = date.today()
SCORED = Scored("t-1", 1, 1.0, (), Status.OK, CALIBRATED, 9, False, route="machine")
THRESHOLD = Threshold("LOW_CONFIDENCE", "own", 300, 0.2, 0.7, exact=0.85, critical=0.02, confidence=0.9)
DECISION = Decision(
    "p",
    Conditions(),
    temperature=Temperature(1.0, "own", 300),
    threshold=THRESHOLD,
    expected=Expected(0.12, 300, (0.2, 0.8)),
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for digest, decision in ((CALIBRATED, DECISION), (HELD, replace(DECISION, held=CALIBRATED))):
        folder = tmp_path / "store" / "packages" / digest
        folder.mkdir(parents=True)
        (folder / "decision.json").write_bytes(decision.to_json())
    return tmp_path / "store"


class Desk:
    """Writes the rows of days at a desk, of which the last one is today."""

    def __init__(self, seed: int = 1) -> None:
        self.random, self.rows = np.random.default_rng(seed), list[dict[str, Any]]()

    def day(
        self, ago: int, error: float, doubt: float = 0.12, reads: int = 10, task: str = "t-1", held: bool = False
    ) -> None:
        """Add a day's rows: people read `reads` of them, and the machine is wrong in `error` of these."""
        at = f"{TODAY - timedelta(days=ago)}T08:00:00+00:00"
        for place in range(100):
            picked = place < reads
            wrong = int(self.random.random() < error)
            self.rows.append({
                "id": f"r{len(self.rows)}", "task": task, "status": "OK", "machine_level": 1,
                "first_level": 1 + wrong if picked else None, "route": "human:HELD" if held else "machine",
                "read_behind": 0.1 if picked and not held else None, "version": HELD if held else CALIBRATED,
                "decided_by": "rater" if picked else "" if held else "machine", "added_at": at,
                "confidence": 1 - doubt * self.random.uniform(0.5, 1.5), "decision": len(self.rows),
                "student": f"s{len(self.rows)}", "administration": "spring.jsonl",
            })  # fmt: skip
            if held and not picked:
                self.rows[-1]["status"] = "PENDING"


def watch(desk: Desk, store: Path, tmp_path: Path, *words: str, policy: str = "") -> tuple[dict[str, Any], str]:
    final, out, rules = tmp_path / "final.jsonl", tmp_path / "page.html", tmp_path / "policy.toml"
    final.write_text("".join(json.dumps(row) + "\n" for row in desk.rows), encoding="utf-8")
    rules.write_text(f"[watch]\n{policy}", encoding="utf-8")
    line = ["watch", str(final), "--tasks", str(store), "--policy", str(rules), "--out", str(out), *words]
    result = CliRunner().invoke(build(["watch"]), line, catch_exceptions=False)
    values = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    open_alarms = any(line["alarm_since"] and not line["held"] for line in values["promises"])
    assert result.exit_code == (4 if open_alarms else 0)
    return values, result.output


def promise(values: dict[str, Any], name: str = "exact") -> dict[str, Any]:
    return next(line for line in values["promises"] if line["promise"] == name)


def test_a_promise_that_holds_is_not_contradicted(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(30, -1, -1):
        desk.day(ago, 0.12)
    values, output = watch(desk, store, tmp_path)
    line = promise(values)
    assert line["verdict"] == "not contradicted" and line["alarm_since"] is None
    assert line["interval"][0] < line["observed"] < line["interval"][1]
    assert line["reads"] == 310 and line["promised"] == pytest.approx(0.15)
    assert "No alarm" in output
    (store / "origin.json").touch()
    with pytest.raises(InputError, match="follows a store in a bucket"):
        watch(desk, store, tmp_path)


def test_totals_of_essays_are_watched_once_a_response_and_traits_say_why(store: Path, tmp_path: Path) -> None:
    own = TraitDecision(Temperature(1.0, "own", 300), expected=Expected(0.12, 300))
    threshold = replace(THRESHOLD, exact=None, critical=None, total_share=0.9, total_within=1.0)
    decision = Decision("p", Conditions(), threshold=threshold, traits={"grammar": own, "syntax": own})
    (store / "packages" / CALIBRATED / "decision.json").write_bytes(decision.to_json())

    def watched(broken: float, doubt: float, unread: int = 0) -> dict[str, Any]:
        desk = Desk()
        for ago in range(60, -1, -1):
            desk.day(ago, 0.0, doubt if ago < 40 else 0.12, task="essay-1.grammar")
        for number, row in enumerate(desk.rows):
            picked, recent = row["read_behind"] is not None, number > 2000
            off = (1.5 if recent and number % 100 / 10 < broken else -1.0) * picked
            row |= {"machine_total": 3.0, "first_total": 3.0 - off if picked else None, "line": number}
        desk.rows = [row | {"task": f"essay-1.{trait}"} for row in desk.rows for trait in ("grammar", "syntax")]
        for row in desk.rows[1::2][:unread]:
            row |= {"decided_by": "machine", "first_level": None, "first_total": None}
        values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
        assert values["rows"][-1]["in"] == 200, "the totals are no rows"
        return values

    values = watched(0.0, 0.12)
    (line,) = values["promises"]
    assert (line["task"], line["promise"], line["reads"], line["errors"]) == ("essay-1", "total", 610, 0)
    assert line["verdict"] == "kept" and values["read_behind"].keys() == {"essay-1"}
    (line,) = watched(0.0, 0.12, unread=1000)["promises"]
    assert line["reads"] == 510, "a response whose traits are not all read is not read"
    for doubt, cause in ((0.12, "machine or people changed"), (0.4, "population changed")):
        values = watched(0.4, doubt)
        assert values["promises"][0]["verdict"] == cause
        assert [hold["task"] for hold in values["holds"]] == ["essay-1"]
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "totals more than 1 points off" in page and "can be watched: essay-1.grammar, essay-1.syntax." in page


@pytest.mark.parametrize(("doubt", "verdict"), [(0.12, "machine or people changed"), (0.3, "population changed")])
def test_broken_promise_or_another_population(store: Path, tmp_path: Path, doubt: float, verdict: str) -> None:
    desk = Desk()
    for ago in range(60, -1, -1):
        broken = ago < 30
        desk.day(ago, 0.35 if broken else 0.12, doubt if broken else 0.12)
    values, output = watch(desk, store, tmp_path, policy='owner = "A. Lopez"')
    line = promise(values)
    assert line["verdict"] == verdict
    assert TODAY - timedelta(days=30) < date.fromisoformat(line["alarm_since"]) < TODAY - timedelta(days=15)
    assert "owner: A. Lopez" in output
    assert promise(values, "critical")["verdict"] == "kept"


def test_an_alarm_asks_for_a_hold_whose_reads_say_when_to_release(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(40, 20, -1):
        desk.day(ago, 0.5)
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    assert [line["task"] for line in values["holds"]] == ["t-1"]
    for ago in range(20, -1, -1):
        desk.day(ago, 0.03, held=True)
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    line = promise(values)
    assert line["held"] and line["recovered"] >= 20
    assert line["reads"] == 210, "reads before the hold do not count"
    assert values["holds"] == [] and line["verdict"] == "on hold"
    assert values["rows"][-1]["held"] == 100 and values["rows"][-1]["pending"] == 90
    for ago in range(-1, -5, -1):
        desk.day(ago, 0.03)
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    assert promise(values)["alarm_since"] is None and values["holds"] == [], "the hold has answered the alarm"


def test_a_row_whose_dispute_waits_counts_with_its_first_reading(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(60, -1, -1):
        desk.day(ago, 0.35 if ago < 30 else 0.12)
    settled = promise(watch(desk, store, tmp_path)[0])
    (tmp_path / "page.json").unlink()
    for row in desk.rows:
        if row["decided_by"] == "rater" and row["first_level"] != row["machine_level"]:
            row |= {"status": "PENDING", "decided_by": ""}
    waiting = promise(watch(desk, store, tmp_path)[0])
    assert waiting["alarm_since"] == settled["alarm_since"] and waiting["reads"] == settled["reads"]


def test_an_alarm_stays_when_more_is_read_until_a_person_acts(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(60, 20, -1):
        desk.day(ago, 0.4, reads=10)
    since = promise(watch(desk, store, tmp_path)[0])["alarm_since"]
    for ago in range(20, -1, -1):
        desk.day(ago, 0.05, reads=90)
    assert promise(watch(desk, store, tmp_path)[0])["alarm_since"] == since
    (tmp_path / "page.json").unlink()
    assert promise(watch(desk, store, tmp_path)[0])["alarm_since"] == since, "without the last page too"
    (tmp_path / "page.json").write_text("[]")
    with pytest.raises(InputError, match=r"page\.json"):
        watch(desk, store, tmp_path)


def clustered(desk: Desk, kind: str, days: int, error: float, spread: float) -> None:
    """Add days of reads: one class a day, one school a week, or five schools a day, whose errors differ by `spread`."""
    draw, tail = desk.random, error * (1 - error) / spread**2 - 1
    for ago in range(days - 1, -1, -1):
        if not (kind == "week" and ago % 7 != days % 7 and desk.rows):
            rates = draw.beta(error * tail, (1 - error) * tail, 5 if kind == "schools" else 1)
        before = len(desk.rows)
        for place, rate in enumerate(rates):
            desk.day(ago, rate, reads=10 // len(rates))
            for row in desk.rows[before:]:
                row["cluster"] = f"{kind} {ago // 7 if kind == 'week' else draw.integers(200) if place else ago}"
            desk.rows[before:] = [row for row in desk.rows[before:] if row["read_behind"]]
            before = len(desk.rows)


@pytest.mark.parametrize(("kind", "alarmed"), [("class", True), ("week", False)])
def test_clusters_are_what_alarms_rest_on(store: Path, tmp_path: Path, kind: str, alarmed: bool) -> None:
    """Eight classes a week tell a broken promise; eight schools in eight weeks do not, and the page says so."""
    desk = Desk()
    clustered(desk, kind, 60, 0.35, 0.1)
    (tmp_path / "columns.toml").write_text('cluster = "school"')
    for row in desk.rows:
        row["school"] = row.pop("cluster")
    values, _ = watch(desk, store, tmp_path, policy="" if alarmed else "days = 60")
    line = promise(values)
    assert (line["alarm_since"] is not None) == alarmed
    assert alarmed or line["verdict"] == "cannot tell: too few clusters"
    assert line["clusters"] == (60 if alarmed else 9)


def test_reads_are_planned_before_anyone_has_read_a_row_of_a_cluster(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    desk.day(0, 0.1, reads=0)
    without, _ = watch(desk, store, tmp_path)
    for row in desk.rows:
        row["cluster"] = "a school"
    assert watch(desk, store, tmp_path)[0]["read_behind"] == without["read_behind"] != {}


def test_shares_that_change_are_warned_of_and_hold_nothing(store: Path, tmp_path: Path) -> None:
    """One row in five has level 0, as in the calibration, then two in five; one in ten has a code, then three."""
    desk = Desk()
    for ago in range(60, -1, -1):
        desk.day(ago, 0.12)
        for place, row in enumerate(desk.rows[-100:]):
            changed = ago < 30
            row["machine_level"] = 0 if place % 5 < 1 + changed else 1
            row["first_level"] = row["first_level"] and row["first_level"] + row["machine_level"] - 1
            row["condition"] = "B" if place >= 90 - 20 * changed else ""
            row["confidence"] = 0.5 if place % 5 == 4 else row["confidence"]
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    warnings = {line["share"]: line for line in values["warnings"]}
    assert {*warnings} == {"level 0", "level 1", "condition codes"}, "not the share with a low confidence"
    for name, usual, recent in (("level 0", 0.2, 0.4), ("condition codes", 0.1, 0.3)):
        line = warnings[name]
        assert (line["usual"], line["recent"]) == (pytest.approx(usual, abs=0.04), pytest.approx(recent, abs=0.04))
        assert TODAY - timedelta(days=30) < date.fromisoformat(line["since"]) < TODAY - timedelta(days=15)
    assert values["holds"] == []


@pytest.mark.parametrize(
    ("recent", "verdict", "words"),
    [(0.4, "people changed", "retrain raters"), (0.1, "machine changed", "the machine has changed, so calibrate")],
)
def test_papers_tell_whether_people_changed(
    store: Path, tmp_path: Path, recent: float, verdict: str, words: str
) -> None:
    desk = Desk()
    for ago in range(60, -1, -1):
        desk.day(ago, 0.35 if ago < 28 else 0.12)
    lines = [
        {"task": "t-1", "level": int(n % 10 < 10 * (recent if ago < 28 else 0.1)), "known_level": 0,
         "decided_at": f"{TODAY - timedelta(days=ago)}T08:00:00+00:00"}
        for ago in range(60, -1, -1) for n in range(10)
    ]  # fmt: skip
    (papers := tmp_path / "papers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    values, output = watch(desk, store, tmp_path, str(papers))
    assert promise(values)["verdict"] == verdict and words in " ".join(output.split())
    assert "10.0% of" in (tmp_path / "page.html").read_text(encoding="utf-8")
    papers.write_text('{"task": "t-1"}\n')
    with pytest.raises(InputError, match="row 1 is no reading"):
        watch(desk, store, tmp_path, str(papers))


def test_a_job_draws_the_reads_that_are_planned(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(20, -1, -1):
        desk.day(ago, 0.12)
    values, _ = watch(desk, store, tmp_path, policy="find_loss = 0.1\nfind_days = 14\nmost_read = 1")
    (tmp_path / "key").write_text("0123456789abcdef")
    behind = ReadBehind.read(str(tmp_path / "page.json"), tmp_path / "key")
    share = values["read_behind"]["t-1"]
    picked = sum(behind.picks("t-1@" + CALIBRATED, str(n), SCORED) for n in range(14 * 1000))
    assert behind.share_of("t-1@" + CALIBRATED) == behind.share_of("another") == share
    assert picked == pytest.approx(14 * 1000 * share, rel=0.1)
    # As many reads find the loss in about half of 14 days.
    reads, random = round(share * 100), np.random.default_rng(3)
    errors = (random.random((34 * reads, 400)) < np.repeat([0.12, 0.25], [20 * reads, 14 * reads])[:, None]).astype(
        float
    )
    found = (error_detector(errors, 0.15)[20 * reads :] >= 182 * reads / 0.05 * 2).any(axis=0).mean()
    assert 0.35 < found < 0.65, (share, found)


def test_a_promise_about_errors_of_two_levels_alone_has_reads_and_a_curve(store: Path, tmp_path: Path) -> None:
    alone = replace(DECISION, threshold=replace(THRESHOLD, exact=None))
    (store / "packages" / CALIBRATED / "decision.json").write_bytes(alone.to_json())
    desk = Desk()
    for ago in range(10, -1, -1):
        desk.day(ago, 0.12)
    values, _ = watch(desk, store, tmp_path)
    assert 0 < values["read_behind"]["t-1"] <= 0.3
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "t-1: share of errors of two levels or more by week. Line: observed. Dashes" in page


def test_reads_are_planned_for_days_without_rows_and_for_many_rows(store: Path, tmp_path: Path) -> None:
    """Reads are a number a day: the share of them is what the rows of a day on the calendar are."""
    daily, weekly = Desk(), Desk()
    for ago in range(63, -1, -1):
        daily.day(ago, 0.12)
        if ago % 7 == 0:
            weekly.day(ago, 0.12)
    shares = [watch(desk, store, tmp_path)[0]["read_behind"]["t-1"] for desk in (daily, weekly)]
    assert shares[0] < shares[1] == 0.3, "most_read"
    assert "With 30% at most (most_read in [watch]) it is later: t-1 in " in (tmp_path / "page.html").read_text()
    task = watched_task(DECISION, [TODAY.isoformat()] * 1_000_000)
    assert planned_reads(find([task], WatchPolicy(), TODAY.isoformat()), WatchPolicy())["t-1"].share == 0.0001
    (tmp_path / "none.json").write_text('{"read_behind": {}}')
    with pytest.raises(InputError, match="no task with a promise"):
        ReadBehind.read(str(tmp_path / "none.json"), tmp_path / "none.json")


def test_equal_ids_of_administrations_are_picked_apart() -> None:
    behind = ReadBehind(0.2, b"0123456789abcdef")
    picked = [behind.picks("t-1", "7", SCORED, str(school)) for school in range(1000)]
    assert 150 < sum(picked) < 250
    assert behind.picks("t-1", "7", SCORED, "") == behind.picks("t-1", "7", SCORED)


def test_late_reads_are_listed(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    desk.day(20, 0.1)
    for row in desk.rows[:3]:
        row.update(status="PENDING", decided_by="", first_level=None)
    values, output = watch(desk, store, tmp_path)
    assert promise(values)["late"] == 3 and promise(values)["reads"] == 7
    assert "with a promise; 3 picked rows not read in time" in output


def test_equal_texts_count_once_a_day_and_a_student_once_an_administration(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in (3, 2):
        desk.day(ago, 0.0)
    for row in desk.rows[:5]:
        row["decision"] = 7
    for row in desk.rows[5:8]:
        row["student"] = "the same"
    values, _ = watch(desk, store, tmp_path)
    assert promise(values)["reads"] == 20 - 4 - 2


def test_errors_are_those_of_the_first_reader_and_only_final_rows_are_final(store: Path, tmp_path: Path) -> None:
    """Two people read all rows: what they settle is nearer to the machine than the person of whom a promise is."""
    desk = Desk()
    for ago in range(60, -1, -1):
        before = len(desk.rows)
        desk.day(ago, 0.05)
        for row in desk.rows[before : before + 10]:
            wrong = desk.random.random() < (0.35 if ago < 30 else 0.12)
            row |= {"first_level": 0 if wrong else 1, "decided_by": "adjudication" if wrong else "agreement"}
        for row in desk.rows[before + 10 :]:
            row["first_level"] = None
        desk.rows[-1] |= {"status": "UNKNOWN_TASK", "machine_level": -1, "decided_by": "", "level": -1, "route": ""}
    values, output = watch(desk, store, tmp_path)
    line = promise(values)
    assert line["alarm_since"] is not None and line["observed"] > 0.2
    assert line["last_28_days"]["above"] == line["last_28_days"]["errors"] and line["last_28_days"]["reads"] == 280
    assert [(week["week"], week["reads"]) for week in line["weeks"]][:2] == [(0, 70), (1, 70)]
    assert {(day["in"], day["final"]) for day in values["rows"]} == {(100, 99)}
    assert "scoremux tasks hold t-1 --by NAME --store" in output
    assert "<polyline" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_help_names_the_table_of_the_policy() -> None:
    assert "[watch]" in CliRunner().invoke(build(["watch"]), ["watch", "--help"]).output


def nested(depth: int) -> list[Any]:
    """Return lists within lists, which Python reads as JSON and cannot print."""
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize(
    ("change", "folder", "words"),
    [
        (lambda row: row.pop("read_behind"), "store", "row 1: read_behind: Field required; write the file with"),
        (lambda row: row.update(added_at=None), "store", "row 1: added_at: "),
        (
            lambda row: row.update(machine_level="high"),
            "store",
            "row 1: machine_level: Input should be a valid integer",
        ),
        (lambda row: row.update(first_level=1.5), "store", "row 1: first_level: Input should be a valid integer"),
        (lambda row: row.update(confidence="inf"), "store", "row 1: confidence: Input should be a finite number"),
        (lambda row: row.update(version=nested(900)), "store", "row 1: version: Input should be a valid string"),
        (lambda row: row.update(version="ab" * 2500), "store", "row 1: version: String should match"),
        (lambda row: row.update(confidence=-3), "store", "row 1: confidence: Input should be greater"),
        (lambda row: row.update(confidence=1e308), "store", "row 1: confidence: Input should be less"),
        (lambda row: row.update(read_behind=-1), "store", "row 1: read_behind: Input should be greater"),
        (lambda row: row.update(read_behind=2), "store", "row 1: read_behind: Input should be less"),
        (dict.clear, "store", "there are no rows"),
        (dict, "stored", "not a store of tasks"),
    ],
)
def test_bad_input_is_refused(store: Path, tmp_path: Path, change: Any, folder: str, words: str) -> None:
    desk, final = Desk(), tmp_path / "final.jsonl"
    desk.day(0, 0.1)
    change(desk.rows[0])
    final.write_text(json.dumps(desk.rows[0]) + "\n" if desk.rows[0] else "", encoding="utf-8")
    line = ["watch", str(final), "--tasks", str(store.with_name(folder))]
    error = CliRunner().invoke(build(["watch"]), line).exception
    assert isinstance(error, InputError) and words in str(error)


def test_tasks_without_calibration_and_rows_without_confidence(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    desk.day(120, 0.35, task="t-2")
    for ago in range(120, -1, -1):
        desk.day(ago, 0.35)
    for row in desk.rows:
        row.update({"version": "c" * 64} if row["task"] == "t-2" else {"confidence": None})
    values, _ = watch(desk, store, tmp_path)
    assert {line["task"] for line in values["promises"]} == {"t-1"}
    assert "Without a promise that can be watched: t-2." in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert promise(values)["expected"] is None and promise(values)["verdict"] == "machine or people changed"


def test_a_hold_lasts_on_days_whose_rows_all_go_to_people_for_other_reasons(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(40, -1, -1):
        desk.day(ago, 0.5, held=ago < 20)
    for row in desk.rows[-100:]:
        row["route"] = "human:TRUNCATED"
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    assert promise(values)["verdict"] == "on hold" and promise(values)["held"] and values["holds"] == []


def test_an_alarm_ends_with_a_new_calibration_even_without_a_promise(store: Path, tmp_path: Path) -> None:
    (store / "packages" / ("c" * 64)).mkdir()
    (store / "packages" / ("c" * 64) / "decision.json").write_bytes(Decision("p", Conditions()).to_json())
    desk = Desk()
    for ago in range(40, -1, -1):
        desk.day(ago, 0.5)
    assert promise(watch(desk, store, tmp_path)[0])["alarm_since"]
    for row in desk.rows[-100:]:
        row["version"] = "c" * 64
    assert promise(watch(desk, store, tmp_path)[0])["alarm_since"] is None


def test_confidence_sequences_hold_at_all_numbers_of_rows_together() -> None:
    random, missed = np.random.default_rng(1), 0
    for _ in range(200):
        errors = np.cumsum(random.random(300) < 0.12)
        bounds = [confidence_sequence(int(errors[n - 1]), n) for n in range(10, 301, 10)]
        missed += any(not low <= 0.12 <= high for low, high in bounds)
    assert missed / 200 <= 0.05


def test_alarms_of_many_tasks_need_more_evidence_each() -> None:
    values = {f"t-{n}": 0.5 for n in range(26)}
    assert alarms(values | {"bad": 30.0}, 0.05) == set()
    assert alarms(values | {"bad": 600.0}, 0.05) == {"bad"}
    assert alarms(dict.fromkeys(values, 1.0) | {"bad": 30.0}, 2) == {"bad"}, "else 27 of 27 could be false"


def test_detectors_rise_with_a_broken_promise_and_stay_low_otherwise() -> None:
    random = np.random.default_rng(2)
    kept, broken = (error_detector((random.random(400) < share).astype(float), 0.15)[-1] for share in (0.12, 0.3))
    assert kept < 100 < 1e6 < broken
    same, other = (mean_detector(np.clip(random.normal(mean, 0.05, 200), 0, 1), 0.1, 0.14)[-1] for mean in (0.12, 0.25))
    assert same < 1000 < 1e6 < other
    assert np.isfinite(recovery(np.zeros(100), 0.0)) and reads_needed(0.0, 0.0, 0.2, 100.0) < 100
    assert recovery(np.zeros(100), 0.15) > 20 > recovery((random.random(100) < 0.15).astype(float), 0.15)


def test_the_live_version_is_watched_after_a_rollback(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    for ago in range(60, 40, -1):
        desk.day(ago, 0.12)
    for row in desk.rows[1000:]:
        row["version"] = "c" * 64
    (store / "packages" / ("c" * 64)).mkdir()
    (store / "packages" / ("c" * 64) / "decision.json").write_bytes(replace(DECISION, policy="q").to_json())
    for ago in range(30, -1, -1):
        desk.day(ago, 0.5)
    values, _ = watch(desk, store, tmp_path, policy='on_alarm = "hold"')
    assert [line["version"] for line in values["holds"]] == [CALIBRATED]


def test_codes_that_people_give_are_no_errors_and_csv_is_read_as_jsonl(store: Path, tmp_path: Path) -> None:
    desk = Desk()
    desk.day(20, 0.0)
    for row in desk.rows[:4]:
        row.update(first_level=-1, status="CONDITION", code="B")
    values, _ = watch(desk, store, tmp_path)
    line = promise(values)
    assert (line["errors"], line["reads"], line["coded"], line["late"]) == (0, 6, 4, 0)
    table = pa.Table.from_pylist(desk.rows)
    write_rows(tmp_path / "final.csv", [table], table.schema)
    line = ["watch", str(tmp_path / "final.csv"), "--tasks", str(store), "--out", str(tmp_path / "csv.html")]
    assert CliRunner().invoke(build(["watch"]), line).exit_code == 0
    assert json.loads((tmp_path / "csv.json").read_text(encoding="utf-8")) == values
    with pytest.raises(InputError, match=r"page\.json: the page is an \.html file"):  # beside which a .json is written
        watch(desk, store, tmp_path, "--out", str(tmp_path / "page.json"))
