"""Watched rows → promised, expected and observed errors of each task, and which promises no longer hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import numpy as np

from scoremux_decide.policy import WatchPolicy
from scoremux_evidence.watch.detectors import (
    LEAST_CLUSTERS,
    alarms,
    cluster_detector,
    confidence_sequence,
    error_detector,
    mean_detector,
    reads_needed,
    recovery,
    share_detector,
    spread_between_days,
)
from scoremux_evidence.watch.observations import Named, Observations, cluster_means, single_rows
from scoremux_evidence.watch.watched_rows import Day, Papers, WatchedTask, promises_of, usual_shares

RECOVERED = 20.0
"""The least e-value of reads during a hold that says, with 95 % confidence, that the promise is kept again."""

_BLOCK = 50
"""Consecutive rows whose mean is one observation of the expected error: it is about the population, not single rows."""

_FIRST_ROWS = 500
"""What codes are compared with: labelled rows do not have those with a code."""

_RECENT_DAYS, _FIRST_DAYS, _NO_NEWS = 14, 28, 0.02
"""A share that is off by less is ignored; the spread of shares between days is that of the first ones."""


@dataclass
class Finding:
    """One promise of one task, as it is today.

    Attributes:
        promise: "exact", or "critical" for errors of two levels and more.
        least: How many levels off an error is at least.
        expected: Mean of 1 − confidence of the rows that the machine keeps; None where rows have no confidence.
        errors: How many of the read rows the machine got wrong.
        sequence: The interval of the share of errors since the calibration, or since the last hold began.
        since: The day of the alarm, None without one.
        moved: The day on which confidences were first unlike those of the calibration, None if they never were.
        recovered: The e-value that the promise is kept again, where the task is on hold; else None.
        observations: What the detector read: single reads, or means of clusters.
        term: How many observations a term has.
        recent: The share of errors in the last 28 days with rows; None where nothing was read in them.
        papers: Raters' levels of validity papers of the task.
    """

    watched: WatchedTask
    promise: str
    promised: float
    least: float
    expected: float | None
    errors: int
    reads: int
    sequence: tuple[float, float]
    e_values: dict[str, float]
    observations: Observations
    term: float
    recent: float | None = None
    since: str | None = None
    moved: str | None = None
    recovered: float | None = None
    papers: Papers = field(default_factory=Papers)

    @property
    def leads(self) -> bool:
        """Whether it is the first promise of its task: reads are planned, and a curve is drawn, for that one alone."""
        return self.promise == next(promises_of(self.watched.decision))[0]

    @property
    def is_held(self) -> bool:
        """Whether the task is on hold on its last day."""
        return next(reversed(self.watched.days.values())).on_hold > 0

    @property
    def has_few_clusters(self) -> bool:
        """Whether the rows come from so few clusters that no alarm can be told from chance."""
        return self.watched.has_clusters and self.term < LEAST_CLUSTERS

    @property
    def verdict(self) -> str:
        """The verdict of the rows on the promise."""
        if self.is_held:
            return "on hold"
        if self.since:
            return self.cause
        if self.has_few_clusters:
            return "cannot tell: too few clusters"
        is_kept = self.reads and self.sequence[1] <= self.promised and (self.recent or 0.0) <= self.promised
        return "kept" if is_kept else "not contradicted"

    @property
    def cause(self) -> str:
        """What changed, as far as confidences and validity papers tell.

        The machine is named only where raters' papers exclude that people alone explain the errors beyond the promise.
        """
        if self.moved:
            return "population changed"
        increase = self.papers.increase()
        if increase is None or self.recent is None:
            return "machine or people changed"
        if increase[0] > 0:
            return "people changed"
        return "machine changed" if increase[1] < self.recent - self.promised else "machine or people changed"


@dataclass
class Shift:
    """A share of rows that needs no labels, and differs from that at the calibration.

    Attributes:
        usual: The share among the calibrated rows.
        recent: The share on the last days.
        since: The day of the warning.
    """

    task: str
    name: str
    usual: float
    recent: float
    e_values: dict[str, float]
    since: str | None = None


def find(
    tasks: Sequence[WatchedTask], rules: WatchPolicy, today: str, papers: Mapping[str, Papers] | None = None
) -> list[Finding]:
    """Return a finding for each promise of each task. An alarm stays until the task is calibrated again or held.

    papers: Raters' levels of validity papers, by task.
    """
    findings = []
    for task in tasks:
        if promises := list(promises_of(task.decision)):
            moved = _moved(task, rules)
            readings = (papers or {}).get(task.task, Papers())
            findings += [_finding(task, *promise, rules, moved, readings) for promise in promises]
    _raise_alarms(_current(findings, tasks), rules, today)
    return findings


def keep_alarms(
    findings: Sequence[Finding], tasks: Sequence[WatchedTask], before: Mapping[tuple[str, str, str], str]
) -> None:
    """Keep the alarms of an earlier run about live calibrations, unless a hold has answered them since.

    before: The day of each alarm, empty without one, by task, version and promise.
    """
    for finding in _current(findings, tasks):
        watched = finding.watched
        day = before.get((watched.task, watched.version, finding.promise))
        last_held = max((name for name, of_day in watched.days.items() if of_day.on_hold), default="")
        if day and day > last_held:
            finding.since = min(day, finding.since or day)


def _lone_alarm(current: Sequence[Finding], rules: WatchPolicy) -> float:
    """Return the e-value from which a promise has an alarm, if no other one is broken."""
    return max(len(current) / rules.false_alarms, 1.0)


def _reads_for(promised: float, loss: float, until_false: float) -> int:
    """Return after how many reads half of such losses are found. until_false: reads with one false alarm."""
    return reads_needed(promised, 0.8 * promised, 0.2 * promised + loss, until_false)


def find_shifts(tasks: Sequence[WatchedTask], rules: WatchPolicy, today: str) -> list[Shift]:
    """Return shares of live versions that are no longer usual: warnings, of which `rules` bound the false ones too."""
    shifts = []
    for task in _newest(tasks).values():
        usual = usual_shares(task.decision) if task.decision else {}
        names = {name for day in task.days.values() for name in day.shares}
        shifts += [shift for name in sorted(names) if (shift := _shift(task, name, usual.get(name), rules))]
    _raise_alarms(shifts, rules, today)
    return [shift for shift in shifts if shift.since]


def _newest(tasks: Sequence[WatchedTask]) -> dict[str, WatchedTask]:
    """Return the version of each task that has the newest rows."""
    return {task.task: task for task in sorted(tasks, key=lambda task: max(task.days)) if task.decision}


def _current(findings: Sequence[Finding], tasks: Sequence[WatchedTask]) -> list[Finding]:
    """Return the findings about the newest version of each task."""
    newest = _newest(tasks)
    return [finding for finding in findings if finding.watched is newest[finding.watched.task]]


def _raise_alarms(watched: Sequence[Finding | Shift], rules: WatchPolicy, today: str) -> None:
    """Set the day of the first alarm of each, judged together on each day."""
    last = dict.fromkeys(range(len(watched)), 0.0)
    days = {day for one in watched for day in one.e_values if day <= today}
    for day in sorted(days):
        for number, one in enumerate(watched):
            last[number] = one.e_values.get(day, last[number])
        for number in alarms(last, rules.false_alarms):
            watched[number].since = watched[number].since or day


def _shift(task: WatchedTask, name: str, usual: float | None, rules: WatchPolicy) -> Shift | None:
    """Return the change of a share; None while its first rows are all there is to compare it with."""
    days = {day: of_day.shares[name] for day, of_day in task.days.items() if name in of_day.shares}
    return (
        _cluster_shift(task, name, usual, days, rules)
        if task.has_clusters
        else _day_shift(task, name, usual, days, rules)
    )


def _day_shift(
    task: WatchedTask, name: str, usual: float | None, days: Mapping[str, Sequence[Named]], rules: WatchPolicy
) -> Shift | None:
    """Return the change of a share of rows that name no cluster: a day's rows are one observation."""
    counts = np.array([(sum(has_it for _, has_it in rows), len(rows)) for rows in days.values()], float)
    first = 0
    rows = task.decision.expected.rows if task.decision and task.decision.expected else 1
    if usual is None:
        first = int(np.searchsorted(np.cumsum(counts[:, 1]), _FIRST_ROWS)) + 1
        rows = max(int(counts[:first, 1].sum()), 1)
        usual = float(counts[:first, 0].sum() / rows)
    if first >= len(days):
        return None
    spread = spread_between_days(counts[:_FIRST_DAYS])
    reached = share_detector(counts[first:], *_around(usual, rows, _NO_NEWS), spread)
    recent = counts[-_RECENT_DAYS:].sum(axis=0)
    e_values = dict(zip([*days][first:], reached / max(len(days), rules.days), strict=True))
    return Shift(task.task, name, usual, float(recent[0] / recent[1]), e_values)


def _cluster_shift(
    task: WatchedTask, name: str, usual: float | None, days: Mapping[str, Sequence[Named]], rules: WatchPolicy
) -> Shift | None:
    """Return the change of a share between clusters; None while too few tell it."""
    clusters = cluster_means(days)
    first = 0
    rows = float(task.decision.expected.rows) if task.decision and task.decision.expected else 1.0
    if usual is None:
        first = int(np.searchsorted(np.cumsum(clusters.rows), _FIRST_ROWS)) + 1
        before = clusters.take(slice(first))
        rows = max(before.independent_rows(), 1.0)
        usual = before.mean()
    later = clusters.take(slice(first, None))
    term = _reads_in(rules.days, len(later), days)
    if not len(later) or term < LEAST_CLUSTERS:
        return None
    reached = mean_detector(later.values, *_around(usual, rows, _NO_NEWS))
    e_values = {day: float(reached[end - 1]) / term for day in days if (end := later.until(day))}
    last_days = [*days][-_RECENT_DAYS:]
    recent = [has_it for day in last_days for _, has_it in days[day]]
    return Shift(task.task, name, usual, float(np.mean(recent)), e_values)


def _finding(
    task: WatchedTask,
    promise: str,
    promised: float,
    least: float,
    rules: WatchPolicy,
    moved: str | None,
    papers: Papers,
) -> Finding:
    days = _since_hold(task.days)
    named = {day: [(c, float(abs(error) >= least)) for c, error in of_day.errors] for day, of_day in days.items()}
    observed = cluster_means(named) if task.has_clusters else single_rows(named)
    detector = cluster_detector if task.has_clusters else error_detector
    reached = detector(observed.values, promised)
    # A hold has answered alarms up to its last day; what was read during it still counts.
    last_held = max((name for name, day in task.days.items() if day.on_hold), default="")
    e_values: dict[str, float] = {}
    term = 1.0
    for day in days:
        end = observed.until(day)
        # A day is judged by the reads of a term at the rate that was known then, so that no alarm goes by later reads.
        term = max(_reads_in(rules.days, end, [min(days), day]), 1.0)
        if day > last_held:
            e_values[day] = float(reached[end - 1]) / term if end else 0.0
    if task.has_clusters and term < LEAST_CLUSTERS:
        e_values = dict.fromkeys(e_values, 0.0)
    every = np.array([error for of_day in named.values() for _, error in of_day])
    reads = len(every)
    tells = observed.independent_rows() / reads if reads and task.has_clusters else 1.0
    doubts = [doubt for day in task.days.values() for _, doubt in day.doubts]
    last_28 = (date.fromisoformat(max(days)) - timedelta(days=27)).isoformat()
    recent = [error for day, of_day in named.items() if day >= last_28 for _, error in of_day]
    finding = Finding(
        watched=task,
        promise=promise,
        promised=promised,
        least=least,
        expected=float(np.mean(doubts)) if doubts else None,
        errors=int(every.sum()),
        reads=reads,
        sequence=confidence_sequence(float(every.sum()) * tells, reads * tells),
        e_values=e_values,
        observations=observed,
        term=term,
        recent=float(np.mean(recent)) if recent else None,
        moved=moved,
        papers=papers,
    )
    if finding.is_held:
        finding.recovered = recovery(observed.values, promised, task.has_clusters)
    return finding


@dataclass(frozen=True)
class PlannedReads:
    """The rows that people are to read of those that the machine keeps of a task.

    Attributes:
        share: Of these rows; the policy's `most_read` at most.
        a_day: How many rows a day.
        days: In how many days half of the losses of `find_loss` are found.
    """

    share: float
    a_day: float
    days: float


def planned_reads(findings: Sequence[Finding], rules: WatchPolicy) -> dict[str, PlannedReads]:
    """Return the reads of each task that find a loss as `rules` wants it, or fewer where its cap is lower."""
    planned = {}
    current = _current(findings, [finding.watched for finding in findings])
    term = rules.days * _lone_alarm(current, rules)
    for finding in current:
        days = dict(list(finding.watched.days.items())[-_RECENT_DAYS:])
        kept_a_day = sum(day.kept for day in days.values()) / calendar_days(days)
        if not finding.leads or not kept_a_day:
            continue
        # Reads of one cluster tell less than as many independent ones.
        told = finding.observations.independent_rows() / finding.reads if finding.watched.has_clusters else 1.0
        reads = 10.0
        for _ in range(3):  # with more reads, there are more that must raise no alarm
            reads = _reads_for(finding.promised, rules.find_loss, term * reads) / rules.find_days / (told or 1.0)
        share = min(rules.most_read, math.ceil(reads / kept_a_day * 1e4) / 1e4)
        a_day = share * kept_a_day
        days_needed = float(rules.find_days)
        if share == rules.most_read:  # fewer reads must raise no alarm, so fewer are needed
            days_needed = _reads_for(finding.promised, rules.find_loss, term * a_day) / a_day
        planned[finding.watched.task] = PlannedReads(share, a_day, days_needed)
    return planned


def _since_hold(days: dict[str, Day]) -> dict[str, Day]:
    """Return the days since the last hold began, or all: the hold has answered the days before it."""
    on_hold = [False, *(day.on_hold > 0 for day in days.values())]
    first = max((place for place, step in enumerate(pairwise(on_hold)) if step == (False, True)), default=0)
    return dict(list(days.items())[first:])


def _moved(task: WatchedTask, rules: WatchPolicy) -> str | None:
    """Return the day on which the expected error was first unlike that of the calibration."""
    usual = task.decision.expected if task.decision else None
    doubts = {day: of_day.doubts for day, of_day in task.days.items()}
    if task.has_clusters:
        observed = cluster_means(doubts)
    else:
        rows = single_rows(doubts)
        blocks = len(rows) // _BLOCK
        means = rows.values[: blocks * _BLOCK].reshape(blocks, _BLOCK).mean(axis=1)
        ends = rows.days[_BLOCK - 1 :: _BLOCK]
        observed = Observations(means, np.full(blocks, float(_BLOCK)), ends[:blocks])
    if usual is None or not len(observed):
        return None
    term = _reads_in(rules.days, len(observed), task.days)
    reached = mean_detector(observed.values, *_around(usual.error, usual.rows))
    above = np.flatnonzero(reached >= term / min(rules.false_alarms, 1.0))
    return observed.days[above[0]] if len(above) else None


def _around(share: float, rows: float, more: float = 0.0) -> tuple[float, float]:
    """Return the shares within two standard errors of one that so many rows have, and `more` on each side."""
    margin = more + 2 * np.sqrt(share * (1 - share) / max(rows, 1))
    return max(share - margin, 0.0), min(share + margin, 1.0)


def _reads_in(term: int, count: int, days: Iterable[str]) -> float:
    """Return how many observations a term of that many days has at the rate of `days`, no fewer than `count`."""
    return max(count, count * term / calendar_days(days))


def calendar_days(days: Iterable[str]) -> int:
    """Return how many days there are from the first to the last, with those that have no rows."""
    names = sorted(days)
    return (date.fromisoformat(names[-1]) - date.fromisoformat(names[0])).days + 1
