"""Thresholds that tasks share under `within_of_humans`: whether each task's own rows have their say."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from proofs import Result, Scaled
from two_humans import GOOD_AND_BAD, OF_ALL_SORTS, MadeTask, replicate

REPLICATIONS = 200


@pytest.mark.parametrize(("rows", "double"), [(60, 1.0), (90, 0.3)])
@pytest.mark.parametrize(
    ("name", "tasks"), [("19 good tasks and a bad one", GOOD_AND_BAD), ("20 tasks of all sorts", OF_ALL_SORTS)]
)
def test_promises_of_tasks_that_share_a_threshold(
    name: str, tasks: Mapping[str, MadeTask], rows: int, double: float, scaled: Scaled, result: Result
) -> None:
    outcome = replicate(tasks, rows, range(scaled(REPLICATIONS)), double)
    bad = outcome.kept.pop("bad", None)
    good = f"tasks keep {sum(outcome.kept.values()) / len(outcome.kept):.1%} of their rows"
    kept = good if bad is None else f"the bad one keeps {bad:.1%}, good {good}"
    found = f"found and broken by task {outcome.broken:.3f}, by all tasks together {outcome.together:.3f}"
    result(f"within_of_humans, {name}, {rows} rows each, {double:.0%} read twice", f"{kept}; {found}")
    assert bad is None or bad <= 0.05
    assert outcome.broken <= 0.07 and outcome.together <= 0.07
