"""Figures for leaders: how raters agree with each other, with known levels, with the machine; risk against coverage.

The statistics and their intervals are those of `scoremux_assess`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from scoremux_assess.agreement.estimates import Figure
from scoremux_assess.agreement.intervals import estimates
from scoremux_assess.agreement.ratings import MACHINE, Floats, Ratings, Sums
from scoremux_assess.agreement.statistics import BY_NAME, Statistic

KINDS = {
    "raters": "Raters with each other",
    "validity": "Raters with validity papers",
    "machine": "Raters with the machine",
}
"""What is compared with what a rater gave."""

GROUPINGS = {"all": "All together", "rater": "By rater", "task": "By task", "week": "By week"}


def _mean_difference(t: Sums) -> Floats:
    p = t.of(MACHINE)
    return np.divide(p.y - p.x, p.n, out=np.full_like(p.n, np.nan), where=p.n > 0)


_SEVERITY = Statistic(
    "severity", "severity", _mean_difference, "difference", lambda t: np.ones_like(t.of(MACHINE).n), (MACHINE,)
)
_SHOWN = (*(BY_NAME[name] for name in ("exact", "adjacent", "qwk")), _SEVERITY)
_FEW = 10
_MOST_POINTS = 200

Pairs = list[tuple[Any, int]]
"""A decision, as `decision_rows.blind_levels` returns it, and the level that it is compared with."""


@dataclass(frozen=True)
class GroupAgreement:
    """The agreement of one group.

    Attributes:
        group: Its name.
        n: Pairs of levels.
        figures: Statistic → value and interval.
    """

    group: str
    n: int
    figures: dict[str, Figure]

    @property
    def enough(self) -> bool:
        """Whether there are rows enough to show figures."""
        return self.n >= _FEW


@dataclass(frozen=True)
class Curve:
    """Risk against coverage.

    Attributes:
        points: Coverage and risk: the share of all rows that the machine keeps, and the share of those that it misses.
        policy: The point where the routes are now; None without read-behind rows.
        n: Rows it rests on.
    """

    points: list[tuple[float, float]]
    policy: tuple[float, float] | None
    n: int


def pairs(levels: Sequence[Any], kind: str, by: str = "all", rater: str = "") -> Pairs:
    """Return ratings, each with the level that it is compared with.

    Two raters are one pair, or one for each of them where they are to be told apart.

    Args:
        levels: What `decision_rows.blind_levels` returns.
        kind: One of `KINDS`.
        by: One of `GROUPINGS`.
        rater: Only this person's ratings, or empty for all.
    """
    if kind == "raters":
        compared = _between_raters(levels, both=by == "rater" or bool(rater))
    elif kind == "validity":
        compared = [(d, d.known_level) for d in levels if d.kind == "validity"]
    else:
        # What was decided as one of a group counts once.
        compared = [
            (d, d.machine_level) for d in levels if d.kind == "first" and d.lead is None and d.machine_level >= 0
        ]
    return [(d, other) for d, other in compared if rater in ("", d.rater)]


def confusion(pairs: Pairs, levels: int) -> list[list[int]]:
    """Return how often each level was given [column] where the other level is [row]; levels: how many there are."""
    counts = [[0] * levels for _ in range(levels)]
    for rating, other in pairs:
        if max(rating.level, other) < levels:
            counts[other][rating.level] += 1
    return counts


def agreement(pairs: Pairs, by: str) -> list[GroupAgreement]:
    """Return the agreement of each group, with intervals."""
    groups = [_group(rating, by) for rating, _ in pairs]
    names = sorted(set(groups))
    if not names:
        return []
    cell = np.searchsorted(names, groups)
    ratings = Ratings.of([other for _, other in pairs], [rating.level for rating, _ in pairs])
    figures = estimates(_SHOWN, ratings, cell, len(names))
    counts = np.bincount(cell, minlength=len(names))
    return [
        GroupAgreement(name, int(counts[n]), {statistic.name: figures[statistic.name].at(n) for statistic in _SHOWN})
        for n, name in enumerate(names)
    ]


def curve(levels: Sequence[Any]) -> Curve:
    """Return risk against coverage from the rows that humans decided blind.

    A read-behind row stands for one over its probability of being picked; a routed row for itself. Rows that
    `scoremux sample` drew stand for both, and are left out.
    """
    rows = [
        d for d in levels
        if d.kind == "first" and d.round == d.last_round and d.machine_level >= 0 and d.confidence is not None
        and d.chosen_by != "sample"
    ]  # fmt: skip
    if len(rows) < _FEW:
        return Curve([], None, len(rows))
    weight = np.array([1 / d.read_behind if d.read_behind else 1.0 for d in rows])
    wrong = weight * np.array([d.machine_level != d.level for d in rows])
    order = np.argsort([-d.confidence for d in rows], kind="stable")
    kept, missed = weight[order].cumsum(), wrong[order].cumsum()
    places = [*range(_FEW - 1, len(rows), max(1, len(rows) // _MOST_POINTS)), len(rows) - 1]
    points = [(float(kept[n] / kept[-1]), float(missed[n] / kept[n])) for n in places]
    behind = np.array([d.chosen_by == "read_behind" for d in rows])
    if not behind.any():
        return Curve(points, None, len(rows))
    of_machine = weight[behind].sum()
    place = (float(of_machine / weight.sum()), float(wrong[behind].sum() / of_machine))
    return Curve(points, place, len(rows))


def _between_raters(levels: Sequence[Any], both: bool) -> Pairs:
    first = {(d.row, d.round): d for d in levels if d.kind == "first"}
    found = []
    for second in levels:
        before = first.get((second.row, second.round)) if second.kind == "second" else None
        if before is not None:
            found.append((second, before.level))
            if both:
                found.append((before, second.level))
    return found


def _group(rating: Any, by: str) -> str:
    """Return a rating's group under one of `GROUPINGS`."""
    if by == "week":
        year, week, _ = datetime.fromtimestamp(rating.at, timezone.utc).isocalendar()
        return f"{year} week {week:02}"
    return str({"rater": rating.rater, "task": rating.task}.get(by, "All"))
