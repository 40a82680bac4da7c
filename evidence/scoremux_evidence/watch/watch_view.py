"""The findings of `scoremux watch`, as the values of its page and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from scoremux_client.contract import HUMAN, MACHINE, Status
from scoremux_decide.policy import WatchPolicy
from scoremux_evidence.rows.table import Mask, Rows
from scoremux_evidence.watch.findings import (
    RECOVERED,
    Finding,
    PlannedReads,
    Shift,
    calendar_days,
    four_weeks_before,
)
from scoremux_evidence.watch.watched_rows import LEAST_PAPERS, WatchedTask, days_of
from scoremux_files.errors import first_of

_SHOWN_DAYS = 14
"""Days on the page."""

_CAUSES = {
    "people changed": "raters are wrong more often on validity papers: retrain raters, and do not recalibrate",
    "machine changed": "raters' validity papers exclude that people alone explain it: the machine has changed, so "
    "calibrate on new labels",
    "machine or people changed": "raters' validity papers cannot tell whether the machine or people have changed: let "
    "people read more of them before you calibrate again",
}
_STATES = ("in", "machine", "to people", "final", "pending", "held")
_PENDING = ("PENDING",)


@dataclass(frozen=True)
class Morning:
    """The findings of one day.

    Attributes:
        drawn: The reads that `scoremux score --read-behind` draws of each task.
        store: The store, for the commands that act.
    """

    tasks: Sequence[WatchedTask]
    findings: Sequence[Finding]
    shifts: Sequence[Shift]
    drawn: Mapping[str, PlannedReads]
    rules: WatchPolicy
    today: str
    store: str


def as_json(morning: Morning) -> dict[str, Any]:
    """Return everything that the page says; holds: tasks with an alarm, for `scoremux tasks hold --from`."""
    return {
        "rows": [dict(zip(("day", *_STATES), row, strict=True)) for row in _rows(morning.tasks)],
        "read_behind": {task: reads.share for task, reads in morning.drawn.items()},
        "warnings": [
            {"task": s.task, "share": s.name, "usual": s.usual, "recent": s.recent, "since": s.since,}
            for s in morning.shifts
        ],
        "promises": [
            {
                "task": finding.watched.task, "version": finding.watched.version, "promise": finding.promise,
                "counts": finding.wrong, "promised": finding.promised, "expected": finding.expected,
                "observed": _observed(finding),
                "errors": finding.errors, "reads": finding.reads, "weeks": weeks(finding),
                "last_28_days": recent(finding, morning.today),
                "coded": int(finding.watched.rows.coded.sum()), "interval": list(finding.sequence),
                "late": _late(finding.watched), "since": finding.watched.days[0], "verdict": finding.verdict,
                "alarm_since": finding.since, "population_changed_since": finding.moved, "held": finding.is_held,
                "recovered": finding.recovered,
                "papers_before": finding.papers.before.tolist(), "papers_recent": finding.papers.recent.tolist(),
                "clusters": len(finding.observations) if finding.watched.has_clusters else None,
            }
            for finding in morning.findings
        ],
        "holds": [
            {"task": f.watched.task, "version": f.watched.version, "promise": f.promise, "since": f.since}
            for f in morning.findings
            if f.since and not f.is_held and morning.rules.on_alarm == "hold"
        ],
    }  # fmt: skip


def page_values(morning: Morning) -> dict[str, Any]:
    """Return the values of the template `morning.html` beside those of `as_json`."""
    tasks = morning.tasks
    findings = morning.findings
    today = morning.today
    alarms = [finding for finding in findings if finding.since or finding.is_held]
    late = sum(_late(task) for task in tasks)
    waiting = [day for task in tasks for day in days_of(task.rows.where(task.rows.status.among(_PENDING)))]
    unwatched = sorted({task.task for task in tasks} - {finding.watched.task for finding in findings})
    raised = sum(f.since is not None for f in findings)
    on_hold = len({f.watched.task for f in findings if f.is_held})
    count = f"{raised or 'No'} alarm{'s' if raised > 1 else ''}"
    count += f", {on_hold} on hold," if on_hold else ""
    return {
        "summary": f"{count} in {len({f.watched.task for f in findings}):,} tasks with a promise; "
        f"{late:,} picked rows not read in time.",
        "rate": _rate(morning),
        "alarms": [{"task": f.watched.task, "words": _alarm(f, morning)} for f in alarms],
        "states": _STATES,
        "shown_days": _SHOWN_DAYS,
        "oldest": f"The oldest unread row came on {min(waiting)}." if waiting else "No row waits for people.",
        "least_papers": LEAST_PAPERS,
        "charts": [_chart(finding) for finding in findings if finding.leads and finding.reads],
        "unwatched": f"Without a promise that can be watched: {', '.join(unwatched)}." if unwatched else "",
        "plans": list(_plans(morning)),
        "planned": _planned(morning),
        "today": today,
    }


def _rows(tasks: Sequence[WatchedTask]) -> list[tuple[Any, ...]]:
    """Return a line for each day: its name, and rows by `_STATES`."""
    rows = Rows.joined([task.rows.only(("day", "route", "status", "on_hold")) for task in tasks])
    days, place = np.unique(rows.day, return_inverse=True)
    states = (
        np.ones(len(rows)),
        rows.route.among([MACHINE]),
        rows.route.among(route for route in rows.route.values if route.startswith(HUMAN)),
        rows.status.among((Status.OK.value, Status.CONDITION.value)),
        rows.status.among(_PENDING),
        rows.on_hold,
    )
    columns = [np.bincount(place, state).astype(int).tolist() for state in states]
    return [*zip(days.tolist(), *columns, strict=True)]


def _observed(finding: Finding) -> float | None:
    return finding.errors / finding.reads if finding.reads else None


def _late(task: WatchedTask) -> int:
    return int(task.rows.late.sum())


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _rate(morning: Morning) -> str:
    """Say how often alarms are false, and which rows are taken as independent."""
    rules = morning.rules
    most = rules.false_alarms
    count = f"a {most:.0%} chance of any false alarm" if most < 1 else f"{most:g} false alarms"
    rate = f"Alarms are set for at most {count} in {rules.days} days, over all tasks together."
    without = [task.task for task in morning.tasks if not task.has_clusters]
    if without:
        return (
            f"{rate} Rows of {first_of(sorted({*without}))} name no cluster, such as a class or a school: each row is "
            "taken as independent. If classes or schools come one after the other, most half years have a false alarm."
        )
    return f"{rate} Rows of one cluster within a week count as one observation."


def _alarm(finding: Finding, morning: Morning) -> str:
    today = morning.today
    owner = morning.rules.owner
    age = (date.fromisoformat(today) - date.fromisoformat(finding.since or today)).days
    why = (
        f"confidences have changed since {finding.moved}, so the responses are others: calibrate on new labels"
        if finding.moved
        else f"confidences have not changed; {_CAUSES[finding.cause]}"
    )
    words = f"{_percent(_observed(finding))} {finding.wrong} where at most {finding.promised:.1%} are promised"
    if finding.recovered is not None:
        ready = "" if finding.recovered >= RECOVERED else "not yet "
        words += f". On hold: {finding.reads} reads since say {ready}that the promise is kept again "
        return words + f"(e = {finding.recovered:.3g}, {RECOVERED:g} is needed)."
    words += f"; {why}. Since {finding.since} ({age} days), owner: {owner or 'none is named in the policy'}. "
    hold = f"scoremux tasks hold {finding.watched.task} --by NAME --store {morning.store}"
    return f"{words}To send its responses to people: {hold}"


def recent(finding: Finding, today: str) -> dict[str, Any]:
    """Return errors, reads and the expected error of the last 28 days."""
    return _sums(finding, finding.watched.rows.day >= four_weeks_before(today))


def weeks(finding: Finding) -> list[dict[str, Any]]:
    """Return errors, reads and the expected error of each week since the calibration."""
    day = finding.watched.rows.day.astype("datetime64[D]")
    week = (day - day[0]).astype(int) // 7
    return [{"week": number, **_sums(finding, week == number)} for number in np.unique(week).tolist()]


def _sums(finding: Finding, chosen: Mask) -> dict[str, Any]:
    rows = finding.watched.rows.only(("error", "doubt")).where(chosen)
    doubts = rows.doubt[~np.isnan(rows.doubt)].tolist()
    errors = rows.error[np.abs(rows.error) >= finding.least]
    return {
        "errors": len(errors),
        "above": int((errors > 0).sum()),
        "reads": int((~np.isnan(rows.error)).sum()),
        "expected": sum(doubts) / len(doubts) if doubts else None,
    }


def _chart(finding: Finding) -> dict[str, Any]:
    """Return polylines of the share of errors by week, expected and observed, in a box of 300 by 100."""
    of_weeks = weeks(finding)
    last = max(of_weeks[-1]["week"], 1)
    observed = [(w["week"], w["errors"] / w["reads"]) for w in of_weeks if w["reads"]]
    is_exact = finding.promise == "exact"  # confidences say nothing of how far off a level is
    expected = [(w["week"], w["expected"]) for w in of_weeks if is_exact and w["expected"] is not None]
    most = max(finding.promised, *(share for _, share in (*observed, *expected)))

    def line(points: Sequence[tuple[int, float]]) -> str:
        return " ".join(f"{300 * week / last:.0f},{100 - 100 * share / most:.0f}" for week, share in points)

    height = 100 - 100 * finding.promised / most
    lines = {"observed": line(observed), "expected": line(expected), "promised": f"{height:.0f}"}
    return {
        "task": finding.watched.task,
        "errors": finding.wrong,
        "most": _percent(most),
        "promise": _percent(finding.promised),
        "first": finding.watched.days[0],
        "last": finding.watched.days[-1],
        **lines,
    }


def _planned(morning: Morning) -> str:
    """Say which losses the planned reads find, how many they are, and where the cap holds."""
    rules = morning.rules
    drawn = morning.drawn
    capped = [f"{task} in {reads.days:.0f}" for task, reads in drawn.items() if reads.share >= rules.most_read]
    cap = f"With {rules.most_read:.0%} at most (most_read in [watch]) it is later: {first_of(capped)} days. "
    return (
        f"The share drawn finds losses of {rules.find_loss:.0%} in {rules.find_days} days (half of them). "
        f"{cap if capped else ''}"
        f"In all {sum(reads.a_day for reads in drawn.values()):,.0f} reads a day are planned; give the JSON file "
        "beside this page to scoremux score --read-behind."
    )


def _plans(morning: Morning) -> Iterator[dict[str, Any]]:
    for finding in morning.findings:
        planned = morning.drawn.get(finding.watched.task)
        if planned and finding.leads:
            reads = finding.reads / calendar_days(finding.watched.days)
            numbers = [f"{reads:.1f}", f"{planned.a_day:.1f}", _percent(planned.share), f"{planned.days:.0f}"]
            yield {"task": finding.watched.task, "cells": numbers}
