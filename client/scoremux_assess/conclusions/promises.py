"""What a policy promised of the rows that the machine keeps, tested afterwards on rows that people read as well.

People read all of these rows, or a random share of them (read-behind), which then weigh 1 / probability.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scoremux_assess.calibration.fit import people_of
from scoremux_assess.calibration.labelled_scores import LabelledScores
from scoremux_assess.conclusions.verdicts import Criterion, Judgement, judge
from scoremux_assess.labels.joined_columns import JoinedColumns
from scoremux_assess.labels.ratings import Floats, Ints, Ratings
from scoremux_assess.labels.similar_texts import fold
from scoremux_assess.statistics.agreement import BY_NAME
from scoremux_assess.statistics.estimates import Figures, joined_estimates
from scoremux_assess.statistics.intervals import estimates
from scoremux_client.errors import InputError
from scoremux_decide.policy import AgreementTarget, ScoringPolicy
from scoremux_files.rows.columns import number_lists


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


def measure_people(joined: JoinedColumns, task: Ints, cells: int, policy: ScoringPolicy | None) -> Floats:
    """Return what would go to people if `calibrate` chose thresholds on these rows: see `people_of`, [C + 1, 3].

    Rows with a condition have no part in it, as in `calibrate`. NaN without a policy, and where the rows do not say it.
    """
    figures = np.full((cells + 1, 3), np.nan)
    labelled = {} if policy is None else _labelled(joined, task)
    if policy is None or not labelled:
        return figures
    try:
        people = people_of(policy, labelled)
    except InputError:  # it compares with two humans, and these rows have one
        return figures
    weight = {cell: rows.weights.sum() for cell, rows in labelled.items()}
    for name, values in people.items():
        figures[int(name)] = values
    if people:
        shares = [people[name][0] if name in people else 0.0 for name in weight]  # no threshold: the machine's
        figures[-1, 0] = np.average(shares, weights=list(weight.values()))
    return figures


def _labelled(joined: JoinedColumns, task: Ints) -> dict[str, LabelledScores]:
    """Return the rows of each task that `calibrate` would take, by the task's number."""
    scored, truth, labelled = joined.scored, joined.truth, dict[str, LabelledScores]()
    if scored.probabilities is None:
        return labelled
    numbers, width = number_lists(scored.probabilities)
    starts, human = np.cumsum(width) - width, joined.ratings.human
    usable = (width > 0) & ~scored.flagged & (human >= 0) & (human % 1 == 0)
    texts = None if truth.text is None else truth.text.to_pylist()
    for cell in np.unique(task[usable]).tolist():
        rows = np.flatnonzero(usable & (task == cell))
        rows = rows[width[rows] == width[rows].max()]
        shown = [str(row) if texts is None or texts[row] is None else f"{fold(texts[row])}\0" for row in rows]
        labelled[str(cell)] = LabelledScores(
            numbers[starts[rows][:, None] + np.arange(width[rows[0]])].astype(np.float32).astype(np.float64),
            scored.level[rows].astype(np.int64),
            human[rows].astype(np.int64),
            joined.ratings.second[rows],
            weight=truth.sample.weight[rows],
            student=None if truth.student is None else truth.student.code[rows].astype(np.int64),
            text=np.unique(shown, return_inverse=True)[1].reshape(-1),
        )
    return labelled


def _criteria(target: AgreementTarget) -> list[Criterion]:
    limits = {
        "exact": target.exact,
        "adjacent": None if target.critical is None else 1 - target.critical,
        "degradation_exact": None if target.within_of_humans is None else -target.within_of_humans,
    }
    present = {name: limit for name, limit in limits.items() if limit is not None}
    return [Criterion(statistic=name, at_least=limit, source="the policy") for name, limit in present.items()]
