"""Figures for leaders: how raters agree with each other, with known levels, with the machine; risk against coverage.

The statistics and their intervals are those of `scoremux_evidence`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from scoremux_desk.database.schema import BEHIND
from scoremux_desk.machine_weights import Population, weigh
from scoremux_evidence.figures.weighted_columns import figures_by_cell, risk_by_coverage
from scoremux_evidence.rows import population_of

KINDS = {
    "raters": "Raters with each other",
    "validity": "Raters with validity papers",
    "machine": "Raters with the machine",
}
"""What is compared with what a rater gave."""

GROUPINGS = {"all": "All together", "rater": "By rater", "task": "By task", "week": "By week"}
_SHOWN = ("exact", "adjacent", "qwk", "below", "above", "far_below", "far_above", "severity")
_FEW = 10

Pairs = list[tuple[Any, int]]
"""A decision, as `decision_rows.blind_levels` returns it, and the level that it is compared with."""


@dataclass(frozen=True)
class GroupAgreement:
    """The agreement of one group; figures: statistic → value, low and high."""

    group: str
    n: int
    figures: dict[str, Any]

    @property
    def enough(self) -> bool:
        """Whether there are rows enough to show figures."""
        return self.n >= _FEW


@dataclass(frozen=True)
class Curve:
    """Risk against coverage.

    Attributes:
        points: Coverage and risk: the share of all rows that the machine keeps, and the share of those that it misses,
            the latter as value, low and high.
        policy: The point where the routes are now; None without read-behind rows.
    """

    points: list[tuple[float, Any]]
    policy: tuple[float, Any] | None
    n: int


def pairs(levels: Sequence[Any], kind: str, by: str = "all", rater: str = "") -> Pairs:
    """Return ratings, each with the level that it is compared with.

    Two raters are one pair, or one for each of them where they are to be told apart.

    Args:
        rater: Only this person's ratings, or empty for all.
    """
    if kind == "raters":
        compared = _between_raters(levels, both=by == "rater" or bool(rater))
    elif kind == "validity":
        compared = [(d, d.known_level) for d in levels if d.kind == "validity"]
    else:
        # What was decided as one of a group counts once. Rows that were read again are no random choice.
        first = (d for d in levels if (d.kind, d.round, d.lead) == ("first", 1, None))
        compared = [(d, d.machine_level) for d in first if d.machine_level >= 0]
    return [(d, other) for d, other in compared if rater in ("", d.rater)]


def confusion(pairs: Pairs, levels: int) -> list[list[int]]:
    """Return how often each level was given [column] where the other level is [row]; levels: how many there are."""
    counts = [[0] * levels for _ in range(levels)]
    for rating, other in pairs:
        if max(rating.level, other) < levels:
            counts[other][rating.level] += 1
    return counts


def weights_beside_machine(
    levels: Sequence[Any], population: Population, by: str = "all", rater: str = ""
) -> tuple[dict[int, float], str]:
    """Return the weights of pairs with the machine, by row, and which responses figures with them are about."""
    decisions = [d for d, _ in pairs(levels, "machine")]
    weight, routed = weigh(decisions, [(_group(d, by), d.rater if rater else "") for d in decisions], population)
    others = any(d.task not in routed for d in decisions)
    return {d.row: w for d, w in zip(decisions, weight, strict=True)}, population_of(
        routed,
        others,
        weighted=True,
    )


def agreement(pairs: Pairs, by: str, weights: Mapping[int, float] | None = None) -> list[GroupAgreement]:
    """Return the agreement of each group, with intervals. Groups of several tasks, whose scales differ, have no QWK.

    weights: By row; rows that weigh 0 are left out.
    """
    groups = [_group(rating, by) for rating, _ in pairs]
    names = sorted(set(groups))
    if not names:
        return []
    weight = np.array([1.0 if weights is None else weights[rating.row] for rating, _ in pairs])
    cell = np.searchsorted(names, groups)
    counts = np.bincount(cell[weight > 0], minlength=len(names))
    levels = [rating.level for rating, _ in pairs]
    others = [other for _, other in pairs]
    figures = figures_by_cell(_SHOWN, others, levels, weight, cell, len(names))
    tasks = Counter(group for group, _ in {(g, rating.task) for g, (rating, _) in zip(groups, pairs, strict=True)})
    figures["qwk"].value[[tasks[name] > 1 for name in names]] = np.nan
    return [
        GroupAgreement(name, int(counts[n]), {statistic: figures[statistic].at(n) for statistic in _SHOWN})
        for n, name in enumerate(names)
    ]


def curve(levels: Sequence[Any], population: Population) -> Curve:
    """Return risk against coverage from the rows that humans decided blind, weighed as pairs with the machine are."""
    rows = [
        d
        for d in levels
        if (d.kind, d.round, d.lead) == ("first", d.last_round, None)
        and d.machine_level >= 0
        and d.confidence is not None
    ]
    weight = weigh(rows, [""] * len(rows), population)[0]
    rows = [d for d, w in zip(rows, weight, strict=True) if w > 0]
    weight = weight[weight > 0]
    if len(rows) < _FEW:
        return Curve([], None, len(rows))
    right = np.array([d.machine_level == d.level for d in rows])
    points = list(
        risk_by_coverage(
            [float(d.confidence) for d in rows],
            right,
            weight,
            _FEW,
        )
    )
    behind = np.array([d.chosen_by == BEHIND for d in rows])
    if not behind.any():
        return Curve(points, None, len(rows))
    kept = weight * behind
    levels = [d.level for d in rows]
    machine = [d.machine_level for d in rows]
    right_share = figures_by_cell(
        ["exact"],
        levels,
        machine,
        kept,
        np.zeros(len(rows), int),
        1,
    )["exact"].at(0)
    risk = right_share._replace(value=1 - right_share.value, low=1 - right_share.high, high=1 - right_share.low)
    return Curve(points, (float(weight[behind].sum() / weight.sum()), risk), len(rows))


def _between_raters(levels: Sequence[Any], both: bool) -> Pairs:
    first = {(d.row, d.round): d for d in levels if d.kind == "first"}
    compared = []
    for second in levels:
        before = first.get((second.row, second.round)) if second.kind == "second" else None
        if before is not None:
            compared.append((second, before.level))
            if both:
                compared.append((before, second.level))
    return compared


def _group(rating: Any, by: str) -> str:
    """Return a rating's group under one of `GROUPINGS`."""
    if by == "week":
        year, week, _ = datetime.fromtimestamp(rating.at, timezone.utc).isocalendar()
        return f"{year} week {week:02}"
    return str({"rater": rating.rater, "task": rating.task}.get(by, "All"))
