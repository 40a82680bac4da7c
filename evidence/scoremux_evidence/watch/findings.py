"""Watched rows → promised, expected and observed errors of each task, and which promises no longer hold."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from scoremux_decide.policy import WatchPolicy
from scoremux_evidence.rows.table import Floats, Rows
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
from scoremux_evidence.watch.observations import Observations, cluster_means, single_rows
from scoremux_evidence.watch.watched_rows import Papers, Share, WatchedTask, days_of

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
        promise: "exact", "critical" for errors of two levels and more, or "total" for those of an item's total.
        least: How many levels, or points of a total, off an error is at least.
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
        return self.promise == next(self.watched.promises())[0]

    @property
    def wrong(self) -> str:
        """What the promise counts, in words."""
        words = {"exact": "errors", "critical": "errors of two levels or more"}
        return words.get(self.promise, f"totals more than {self.least:g} points off")

    @property
    def is_held(self) -> bool:
        """Whether the task is on hold on its last day."""
        return self.watched.days[-1:] == self.watched.held_days[-1:]

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
        if promises := list(task.promises()):
            parts = [one for one in tasks if task.is_total and one.version == task.version]  # traits have confidences
            moved = min(filter(None, (_moved(one, rules) for one in (task, *parts))), default=None)
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
        if day and day > max(watched.held_days, default=""):
            finding.since = min(day, finding.since or day)


def _reads_for(promised: float, loss: float, until_false: float) -> int:
    """Return after how many reads half of such losses are found. until_false: reads with one false alarm."""
    return reads_needed(promised, 0.8 * promised, 0.2 * promised + loss, until_false)


def find_shifts(tasks: Sequence[WatchedTask], rules: WatchPolicy, today: str) -> list[Shift]:
    """Return shares of live versions that are no longer usual: warnings, of which `rules` bound the false ones too."""
    shifts = []
    for task in _newest(tasks).values():
        for share in sorted(task.shares(), key=lambda share: share.name):
            if shift := _shift(task, share, rules):
                shifts.append(shift)
    _raise_alarms(shifts, rules, today)
    return [shift for shift in shifts if shift.since]


def _newest(tasks: Sequence[WatchedTask]) -> dict[str, WatchedTask]:
    """Return the version of each task that has the newest rows."""
    return {task.task: task for task in sorted(tasks, key=lambda task: task.days[-1]) if task.decision}


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


def _shift(task: WatchedTask, share: Share, rules: WatchPolicy) -> Shift | None:
    """Return the change of a share; None while its first rows are all there is to compare it with, or too few tell it.

    Of rows that name no cluster, those of a day are one observation.
    """
    is_about = ~np.isnan(share.has_it)
    rows, has_it = task.rows.where(is_about), share.has_it[is_about]
    days = days_of(rows)
    observed = cluster_means(rows, has_it)
    usual, known_from, first = share.usual, float(share.rows), 0
    if usual is None:
        first = int(np.searchsorted(np.cumsum(observed.rows), _FIRST_ROWS)) + 1
        before = observed.take(slice(first))
        usual = before.mean()
        known_from = before.independent_rows() if task.has_clusters else before.rows.sum()
    later = observed.take(slice(first, None))
    if not len(later):
        return None
    limits = _around(usual, known_from, _NO_NEWS)
    if task.has_clusters:
        term = _reads_in(rules.days, len(later), days)
        if term < LEAST_CLUSTERS:
            return None
        reached = mean_detector(later.values, *limits)
    else:
        term = max(len(days), rules.days)
        spread = spread_between_days(observed.take(slice(_FIRST_DAYS)).counts())
        reached = share_detector(later.counts(), *limits, spread)
    e_values = {day: float(reached[end - 1]) / term for day in days if (end := later.until(day))}
    recent = has_it[rows.day >= days[-_RECENT_DAYS:][0]]
    return Shift(task.task, share.name, usual, float(recent.mean()), e_values)


def _observed(task: WatchedTask, rows: Rows, values: Floats) -> Observations:
    """Return independent observations of some rows of a task. values: of the rows, [B]."""
    return (cluster_means if task.has_clusters else single_rows)(rows, values)


def _finding(
    task: WatchedTask,
    promise: str,
    promised: float,
    least: float,
    rules: WatchPolicy,
    moved: str | None,
    papers: Papers,
) -> Finding:
    since_hold = task.since_hold()
    days = days_of(since_hold)
    read = since_hold.where(~np.isnan(since_hold.error))
    wrong = (np.abs(read.error) >= least).astype(float)
    observed = _observed(task, read, wrong)
    detector = cluster_detector if task.has_clusters else error_detector
    reached = detector(observed.values, promised)
    # A hold has answered alarms up to its last day; what was read during it still counts.
    last_held = max(task.held_days, default="")
    e_values: dict[str, float] = {}
    term = 1.0
    for day in days:
        end = observed.until(day)
        # A day is judged by the reads of a term at the rate that was known then, so that no alarm goes by later reads.
        term = max(_reads_in(rules.days, end, [days[0], day]), 1.0)
        if day > last_held:
            e_values[day] = float(reached[end - 1]) / term if end else 0.0
    if task.has_clusters and term < LEAST_CLUSTERS:
        e_values = dict.fromkeys(e_values, 0.0)
    errors, reads = float(wrong.sum()), len(read)
    tells = observed.independent_rows() / reads if reads and task.has_clusters else 1.0
    doubts = task.rows.doubt[~np.isnan(task.rows.doubt)]
    recent = wrong[read.day >= four_weeks_before(days[-1])]
    finding = Finding(
        watched=task,
        promise=promise,
        promised=promised,
        least=least,
        expected=float(doubts.mean()) if len(doubts) else None,
        errors=int(errors),
        reads=reads,
        sequence=confidence_sequence(errors * tells, reads * tells),
        e_values=e_values,
        observations=observed,
        term=term,
        recent=float(recent.mean()) if len(recent) else None,
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
    # The e-value from which a promise has an alarm, if no other one is broken.
    term = rules.days * max(len(current) / rules.false_alarms, 1.0)
    for finding in current:
        days, rows = finding.watched.days[-_RECENT_DAYS:], finding.watched.rows
        kept_a_day = int(rows.kept[rows.day >= days[0]].sum()) / calendar_days(days)
        if not finding.leads or not kept_a_day:
            continue
        # Reads of one cluster tell less than as many independent ones.
        told = finding.observations.independent_rows() / max(finding.reads, 1) if finding.watched.has_clusters else 1.0
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


def _moved(task: WatchedTask, rules: WatchPolicy) -> str | None:
    """Return the day on which the expected error was first unlike that of the calibration."""
    usual = task.decision.expected if task.decision else None
    rows = task.rows.where(~np.isnan(task.rows.doubt))
    observed = _observed(task, rows, rows.doubt)
    if not task.has_clusters:
        blocks = len(observed) // _BLOCK
        sums = observed.sums[: blocks * _BLOCK].reshape(blocks, _BLOCK).sum(axis=1)
        ends = observed.days[_BLOCK - 1 :: _BLOCK]
        observed = Observations(sums, np.full(blocks, float(_BLOCK)), ends[:blocks])
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


def four_weeks_before(day: str) -> str:
    """Return the first of the 28 days that end on a day."""
    return (date.fromisoformat(day) - timedelta(days=27)).isoformat()
