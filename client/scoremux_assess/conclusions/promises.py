"""What a policy promised of the rows that the machine keeps, tested afterwards on rows that people read as well.

People read all of these rows, or a random share of them (read-behind), which then weigh 1 / probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scoremux_assess.conclusions.verdicts import Criterion, Judgement, judge
from scoremux_assess.labels.ratings import Ints, Ratings
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Figures, joined_estimates
from scoremux_assess.statistics.intervals import estimates
from scoremux_decide.policy import AgreementTarget


@dataclass(frozen=True)
class Promises:
    """Promises of a policy: a PASS was kept, a FAIL was broken.

    Attributes:
        figures: Of the rows that the machine keeps, of each task, and after them of all.
    """

    figures: Figures
    judged: dict[Criterion, Judgement]


def measure_promises(
    ratings: Ratings, task: Ints, cells: int, student: Ints | None, target: AgreementTarget | None
) -> Promises | None:
    """Test the promises of a target; None if it has none, or the rows that the machine keeps are unknown.

    Args:
        student: A number for the student who wrote each row, [B]; None if rows are independent.
    """
    kept = ratings.kept == 1
    criteria = [] if target is None else _criteria(target)
    if not criteria or not kept.any():
        return None
    rows, task = ratings.take(kept), task[kept]
    who = None if student is None else student[kept]
    chosen = [BY_NAME[criterion.statistic] for criterion in criteria]
    parts = [estimates(chosen, rows, cell, count, who) for cell, count in ((task, cells), (np.zeros_like(task), 1))]
    # A promise is about errors, which a machine that keeps rows of one level only may well not make.
    figures = {name: replace(joined_estimates([part[name] for part in parts]), one_level=None) for name in parts[0]}
    return Promises(figures, {criterion: judge(criterion, figures[criterion.statistic]) for criterion in criteria})


def _criteria(target: AgreementTarget) -> list[Criterion]:
    limits = {
        "exact": target.exact,
        "adjacent": None if target.critical is None else 1 - target.critical,
        "degradation_exact": None if target.within_of_humans is None else -target.within_of_humans,
    }
    present = {name: limit for name, limit in limits.items() if limit is not None}
    return [Criterion(statistic=name, at_least=limit, source="the policy") for name, limit in present.items()]
