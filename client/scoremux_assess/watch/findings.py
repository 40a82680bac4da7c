"""Watched rows → what is promised, expected and observed of each task, and which promises no longer hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from scoremux_assess.watch.detectors import (
    alarms,
    confidence_sequence,
    error_detector,
    mean_detector,
    reads_needed,
    recovery,
)
from scoremux_assess.watch.watched_rows import Day, WatchedTask, promises_of

RECOVERED = 20.0
"""The e-value from which on reads during a hold say with 95 % confidence that the promise is kept again."""

_BLOCK = 50
"""Rows whose mean is one observation of the expected error: it is about the population, not about single rows."""

LOSSES = (0.05, 0.10, 0.20)


@dataclass(frozen=True)
class AlarmRate:
    """How many false alarms are accepted.

    Attributes:
        alarms: In `days`, over all tasks together: below 1, the chance of any; else their number on average.
        days: Of a term or a year.
    """

    alarms: float = 0.05
    days: int = 182


@dataclass
class Finding:
    """What one promise of one task looks like today.

    Attributes:
        watched: The task and its days.
        promise: Its name: exact or critical.
        promised: The greatest promised share of errors.
        expected: Mean of 1 − confidence of the rows that the machine keeps; None where rows have no confidence.
        errors: How many of the read rows the machine got wrong.
        reads: How many rows were read.
        sequence: The interval of the share of errors since the calibration, or since the last hold began.
        e_values: By day.
        since: The day of the alarm, None without one.
        moved: The day from which on confidences are unlike those of the calibration, None if they are not.
        recovered: The e-value that the promise is kept again, where the task is on hold; else None.
        plan: For each of `LOSSES`, after how many reads half of such losses are found.
    """

    watched: WatchedTask
    promise: str
    promised: float
    expected: float | None
    errors: int
    reads: int
    sequence: tuple[float, float]
    e_values: dict[str, float]
    since: str | None = None
    moved: str | None = None
    recovered: float | None = None
    plan: tuple[int, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether the task is on hold on its last day."""
        return next(reversed(self.watched.days.values())).is_held

    @property
    def verdict(self) -> str:
        """What the rows say of the promise."""
        if self.since:
            return "population changed" if self.moved else "machine or people changed"
        return "kept" if self.reads and self.sequence[1] <= self.promised else "not contradicted"


def find(tasks: Sequence[WatchedTask], rate: AlarmRate, today: str) -> list[Finding]:
    """Return a finding for each promise of each task. An alarm stays until the task is calibrated again.

    Args:
        tasks: The tasks.
        rate: How many false alarms are accepted.
        today: As YYYY-MM-DD.
    """
    findings = [_finding(task, *promise, rate) for task in tasks for promise in promises_of(task.decision)]
    named = {f"{number}": finding for number, finding in enumerate(findings)}
    newest = {finding.watched.task: finding.watched.version for finding in findings}
    current = {name: f for name, f in named.items() if newest[f.watched.task] == f.watched.version}
    days = sorted({day for finding in current.values() for day in finding.e_values if day <= today})
    last = dict.fromkeys(current, 0.0)
    for day in days:
        last |= {name: finding.e_values[day] for name, finding in current.items() if day in finding.e_values}
        for name in alarms(last, min(rate.alarms, 1.0)):
            current[name].since = current[name].since or day
    return findings


def _finding(task: WatchedTask, promise: str, promised: float, least: float, rate: AlarmRate) -> Finding:
    days = _since_hold(task.days)
    errors = {name: np.array([float(error >= least) for error in day.errors]) for name, day in days.items()}
    every = np.concatenate([*errors.values(), np.zeros(0)])
    reached = error_detector(every, promised)
    ends = np.cumsum([len(part) for part in errors.values()])
    term = max(_reads_in(rate.days, len(every), task.days), 1.0)
    e_values = {name: reached[end - 1] / max(term, end) if end else 0.0 for name, end in zip(errors, ends, strict=True)}
    kept, doubt = task.total(lambda day: day.kept), task.total(lambda day: day.doubt)
    now = int(every.sum())
    finding = Finding(
        task, promise, promised, doubt / kept if kept and doubt else None, now, len(every),
        confidence_sequence(now, len(every)), e_values,
    )  # fmt: skip
    finding.moved = _moved(task, rate)
    if finding.is_held:
        finding.recovered = recovery(every, promised)
    if promise == "exact":
        finding.plan = tuple(reads_needed(promised, 0.8 * promised, 0.2 * promised + loss, term) for loss in LOSSES)
    return finding


def _since_hold(days: dict[str, Day]) -> dict[str, Day]:
    """Return the days since the last hold began, or all: what came before the hold has been answered by it."""
    names = list(days)
    begun = [place for place, name in enumerate(names) if days[name].is_held and not days[names[place - 1]].is_held]
    return {name: days[name] for name in names[begun[-1] if begun else 0 :]}


def _moved(task: WatchedTask, rate: AlarmRate) -> str | None:
    """Return the day from which on the expected error is unlike that of the calibration."""
    usual = task.decision.expected if task.decision else None
    if usual is None:
        return None
    values, names = [], []
    for name, day in task.days.items():
        blocks = max(1, day.kept // _BLOCK) if day.kept else 0
        values += [day.doubt / day.kept] * blocks
        names += [name] * blocks
    if not values:
        return None
    margin = 2 * np.sqrt(usual.error * (1 - usual.error) / max(usual.rows, 1))
    least, most = max(usual.error - margin, 0.0), min(usual.error + margin, 1.0)
    reached = mean_detector(np.array(values), least, most)
    term = max(_reads_in(rate.days, len(values), task.days), 1.0)
    above = np.flatnonzero(reached >= term / min(rate.alarms, 1.0))
    return names[above[0]] if len(above) else None


def _reads_in(days: int, count: int, seen: dict[str, Day]) -> float:
    """Return how many observations a term has at the present rate, no fewer than there were."""
    first, last = (date.fromisoformat(name) for name in (min(seen), max(seen)))
    return max(count, count * days / ((last - first) / timedelta(days=1) + 1))
