"""Watched rows → what is promised, expected and observed of each task, and which promises no longer hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from scoremux_assess.watch.detectors import (
    Floats,
    alarms,
    confidence_sequence,
    error_detector,
    mean_detector,
    reads_needed,
    recovery,
)
from scoremux_assess.watch.watched_rows import Day, WatchedTask, promises_of

RECOVERED = 20.0
"""The least e-value of reads during a hold that says, with 95 % confidence, that the promise is kept again."""

_BLOCK = 50
"""Consecutive rows whose mean is one observation of the expected error: it is about the population, not single rows."""

LOSSES = (0.05, 0.10, 0.20)


@dataclass(frozen=True)
class AlarmRate:
    """How many false alarms are accepted in `days`, over all tasks: below 1, the chance of any; else their number."""

    alarms: float = 0.05
    days: int = 182


@dataclass
class Finding:
    """What one promise of one task looks like today.

    Attributes:
        promise: "exact", or "critical" for errors of two levels and more.
        expected: Mean of 1 − confidence of the rows that the machine keeps; None where rows have no confidence.
        errors: How many of the read rows the machine got wrong.
        sequence: The interval of the share of errors since the calibration, or since the last hold began.
        since: The day of the alarm, None without one.
        moved: The day on which confidences were first unlike those of the calibration, None if they never were.
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
        return next(reversed(self.watched.days.values())).on_hold > 0

    @property
    def verdict(self) -> str:
        """What the rows say of the promise."""
        if self.is_held:
            return "on hold"
        if self.since:
            return "population changed" if self.moved else "machine or people changed"
        return "kept" if self.reads and self.sequence[1] <= self.promised else "not contradicted"


def find(tasks: Sequence[WatchedTask], rate: AlarmRate, today: str) -> list[Finding]:
    """Return a finding for each promise of each task. An alarm stays until the task is calibrated again or held."""
    findings = []
    for task in tasks:
        if promises := list(promises_of(task.decision)):
            doubts = np.array([doubt for day in task.days.values() for doubt in day.doubts])
            moved = _moved(task, doubts, rate)
            findings += [_finding(task, *promise, rate, doubts, moved) for promise in promises]
    named = {f"{number}": finding for number, finding in enumerate(findings)}
    by_day = sorted(tasks, key=lambda task: max(task.days))
    newest = {task.task: task.version for task in by_day if task.decision}
    current = {name: f for name, f in named.items() if newest[f.watched.task] == f.watched.version}
    days = sorted({day for finding in current.values() for day in finding.e_values if day <= today})
    last = dict.fromkeys(current, 0.0)
    for day in days:
        last |= {name: finding.e_values[day] for name, finding in current.items() if day in finding.e_values}
        for name in alarms(last, rate.alarms):
            current[name].since = current[name].since or day
    return findings


def _finding(
    task: WatchedTask, promise: str, promised: float, least: float, rate: AlarmRate, doubts: Floats, moved: str | None
) -> Finding:
    days = _since_hold(task.days)
    errors = {name: np.array([float(error >= least) for error in day.errors]) for name, day in days.items()}
    every = np.concatenate([*errors.values(), np.zeros(0)])
    reached = error_detector(every, promised)
    ends = np.cumsum([len(part) for part in errors.values()])
    term = max(_reads_in(rate.days, len(every), days), 1.0)
    # A hold has answered alarms up to its last day; what was read during it still counts.
    last_held = max((name for name, day in task.days.items() if day.on_hold), default="")
    e_values = {
        name: reached[end - 1] / term if end else 0.0
        for name, end in zip(errors, ends, strict=True)
        if name > last_held
    }
    expected, now = float(doubts.mean()) if len(doubts) else None, int(every.sum())
    sequence = confidence_sequence(now, len(every))
    finding = Finding(task, promise, promised, expected, now, len(every), sequence, e_values, moved=moved)
    if finding.is_held:
        finding.recovered = recovery(every, promised)
    if promise == "exact":
        finding.plan = tuple(reads_needed(promised, 0.8 * promised, 0.2 * promised + loss, term) for loss in LOSSES)
    return finding


def _since_hold(days: dict[str, Day]) -> dict[str, Day]:
    """Return the days since the last hold began, or all: what came before the hold has been answered by it."""
    on_hold = [day.on_hold > 0 for day in days.values()]
    first = max(
        (place for place in range(len(on_hold)) if on_hold[place] and not any(on_hold[place - 1 : place])), default=0
    )
    return dict(list(days.items())[first:])


def _moved(task: WatchedTask, doubts: Floats, rate: AlarmRate) -> str | None:
    """Return the day on which the expected error was first unlike that of the calibration."""
    usual = task.decision.expected if task.decision else None
    blocks = len(doubts) // _BLOCK
    if usual is None or not blocks:
        return None
    values = doubts[: blocks * _BLOCK].reshape(blocks, _BLOCK).mean(axis=1)
    margin = 2 * np.sqrt(usual.error * (1 - usual.error) / max(usual.rows, 1))
    least, most = max(usual.error - margin, 0.0), min(usual.error + margin, 1.0)
    term = _reads_in(rate.days, blocks, task.days)
    above = np.flatnonzero(mean_detector(values, least, most) >= term / min(rate.alarms, 1.0))
    if not len(above):
        return None
    ends = np.cumsum([len(day.doubts) for day in task.days.values()])
    return list(task.days)[int(np.searchsorted(ends, (above[0] + 1) * _BLOCK))]


def _reads_in(term: int, count: int, days: dict[str, Day]) -> float:
    """Return how many observations a term of that many days has at the rate of `days`, no fewer than `count`."""
    first, last = (date.fromisoformat(name) for name in (min(days), max(days)))
    return max(count, count * term / ((last - first) / timedelta(days=1) + 1))
