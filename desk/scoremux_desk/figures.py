"""Figures for leaders: how raters agree with each other and with known levels.

The statistics and their intervals are those of `scoremux_evidence`. `scoremux watch` and `scoremux report` compare the
machine with people.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scoremux_evidence.figures.level_columns import figures_by_cell

KINDS = {"raters": "Raters with each other", "validity": "Raters with validity papers"}
"""What is compared with what a rater gave."""

GROUPINGS = {"all": "All together", "rater": "By rater", "task": "By task"}
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


def pairs(levels: Sequence[Any], kind: str, by: str = "all", rater: str = "") -> Pairs:
    """Return ratings, each with the level that it is compared with.

    Two raters are one pair, or one for each of them where they are to be told apart.

    Args:
        rater: Only this person's ratings, or empty for all.
    """
    if kind == "raters":
        compared = _between_raters(levels, both=by == "rater" or bool(rater))
    else:
        compared = [(d, d.known_level) for d in levels if d.kind == "validity"]
    return [(d, other) for d, other in compared if rater in ("", d.rater)]


def agreement(pairs: Pairs, by: str) -> list[GroupAgreement]:
    """Return the agreement of each group, with intervals. Groups of several tasks, whose scales differ, have no QWK."""
    groups = ["All" if by == "all" else str(getattr(rating, by)) for rating, _ in pairs]
    names = sorted(set(groups))
    if not names:
        return []
    cell = np.searchsorted(names, groups)
    counts = np.bincount(cell, minlength=len(names))
    levels = [rating.level for rating, _ in pairs]
    others = [other for _, other in pairs]
    figures = figures_by_cell(_SHOWN, others, levels, cell, len(names))
    tasks = Counter(group for group, _ in {(g, rating.task) for g, (rating, _) in zip(groups, pairs, strict=True)})
    figures["qwk"].value[[tasks[name] > 1 for name in names]] = np.nan
    return [
        GroupAgreement(name, int(counts[n]), {statistic: figures[statistic].at(n) for statistic in _SHOWN})
        for n, name in enumerate(names)
    ]


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
