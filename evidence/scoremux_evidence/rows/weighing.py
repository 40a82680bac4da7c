"""Which rows people read: the weight of each, and the population that figures are about.

A row that was chosen with probability p stands for 1 / p rows (Horvitz and Thompson 1952), and figures are those of the
weighted rows (Hájek 1971). The review desk writes how each row was chosen:

    route          all rows that the policy sends to people: p = 1
    read_behind    a random share of those that the machine keeps: p in the column `probability`
    all            all rows of a new task, or of one without a calibration: p = 1
    sample         a random sample of all rows (`scoremux sample`): p in the column `probability`
    validity       papers with a known level, not drawn: no part of any figure

Weights are then scaled so that, in each task, rows sent to people and rows that the machine keeps have the shares that
they have in the output (post-stratification, Holt and Smith 1979): these are known, and need no estimate.

Rows of which this is not known count as a sample of all responses, too, unless far more or fewer of them were sent to
people than of the output. Where a task has such a sample, and no
read-behind rows, the sample alone is about all responses: its routed rows stand for all of them.
"""

from collections.abc import Sequence

import numpy as np

from scoremux_evidence.rows.table import Floats, Mask, Rows, Values, by_cell, undefined
from scoremux_files.errors import first_of

CHOSEN_BY = ROUTE, READ_BEHIND, ALL, SAMPLE, VALIDITY = "route", "read_behind", "all", "sample", "validity"
"""Values of the column `chosen_by`, in this order."""

_ROUTED = (
    "about the responses that were sent to people, not about all responses: no row of those that the machine keeps was "
    "read with a known probability (read-behind)."
)

ROUTED_ONLY = f"These figures are {_ROUTED}"

_ALL_RESPONSES = (
    "Rows weigh 1 / the probability with which they were chosen to be read, scaled so that as many rows of a task were "
    "sent to people as in the output: figures are about all responses, n is the number of rows that were read."
)

_FEWEST = 5
"""With fewer rows that were sent to people, or that were not, a task's weights are not scaled: one would count most."""

_FAR, _ERRORS = 0.05, 4.0
"""How far a share of routed rows is from the output's, and how many standard errors, if the rows are not a sample."""

_MOST_WEIGHT = 0.1
"""From this share of a task's weight on, one row decides a figure, and the report names it."""


ROUTED_BESIDE = (
    "responses that were read since they were sent to people are part of no figure: the others are a sample of all "
    "responses, and stand for such responses too."
)

LACKS_SAMPLE = (
    "labelled rows were read since they were sent to people, and none stands for the rows that the machine keeps: "
    "label a random sample, or score with --read-behind and have those rows read"
)


def weighed(rows: Rows) -> Rows:
    """Return rows with the columns weight and stated.

    weight: 1 / probability, NaN for rows that stand for no others. stated: the file says how they were chosen; other
    rows count as drawn with their probability.
    """
    probability = rows.probability
    has_probability = (probability > 0) & (probability <= 1)
    weight = np.where(has_probability, 1 / np.where(has_probability, probability, 1.0), 1.0)
    routed = chosen(rows, ROUTE)
    drawn = chosen(rows, READ_BEHIND, SAMPLE)
    unusable = chosen(rows, VALIDITY) | (drawn & ~has_probability) | (~has_probability & ~np.isnan(probability))
    return rows.plus(
        weight=np.where(unusable, np.nan, np.where(routed, 1.0, weight)),
        stated=(rows.chosen_by.code >= 0) | has_probability,
    )


def chosen(rows: Rows, *reasons: str) -> Mask:
    """Return which rows were chosen to be read for one of some reasons, see `CHOSEN_BY`."""
    return np.asarray(rows.chosen_by.among(reasons))


def routed_only(rows: Rows) -> bool:
    """Return whether only their route chose rows of a task: they say nothing of the rows that the machine keeps."""
    return bool(chosen(rows, ROUTE).any() and chosen(rows, ROUTE, VALIDITY).all())


def routed_beside(rows: Rows) -> Mask:
    """Return which rows were read since they were sent to people, beside a sample of all responses of their task.

    Read-behind rows of a version stand for the rows that this version kept, and for no row that another one kept.
    """
    task = rows.task.code.astype(np.int64)
    version = task * (len(rows.version.values) + 1) + rows.version.code
    has_others = np.isin(task, task[~chosen(rows, ROUTE, VALIDITY)])
    has_behind = np.isin(version, version[chosen(rows, READ_BEHIND)])
    return np.asarray(chosen(rows, ROUTE) & has_others & ~has_behind)


def population_of(routed: Sequence[str], others: bool, weighted: bool) -> str:
    """Return which rows figures are about, empty where these are simply the rows that were read.

    Args:
        routed: The tasks of which people read only the rows that were sent to them, see `routed_only`.
        others: Whether there are other tasks.
        weighted: Whether some row stands for others.
    """
    if routed and not others:
        return ROUTED_ONLY
    rest = _ALL_RESPONSES if weighted else ""
    if not routed:
        return rest
    some = f"Figures of {first_of(routed)}, which are in those of all rows too, are {_ROUTED}"
    return f"{some} Of the other tasks: {rest}" if rest else some


def to_routes(
    task: Values, people: Mask, weight: Floats, stated: Mask, output: Floats
) -> tuple[Floats, dict[int, str]]:
    """Scale weights to an output's routes; also return tasks whose rows are not a sample of it, with both shares.

    Args:
        task: The task of each row that was read, from 0, [B].
        people: Whether it was sent to people, [B].
        weight: 1 / the probability with which it was chosen, [B].
        stated: Whether the file says how it was chosen, [B]; tasks with such rows are a sample.
        output: How many rows of each task the machine keeps, and how many were sent to people, [T, 2].
    """
    place = 2 * task.astype(np.int64) + people
    columns = (np.ones(len(place)), stated.astype(np.float64), weight, weight**2)
    rows, stated_rows, read, squares = (by_cell(place, column, output.size).reshape(-1, 2) for column in columns)
    total, of_output = (table.sum(axis=1, keepdims=True) for table in (read, output))
    with undefined():
        share = read / total
        output_share = output / of_output
        scale = output * total / (read * of_output)
        error = np.sqrt(output_share * (1 - output_share) * squares.sum(axis=1, keepdims=True)) / total
    far = (np.abs(share - output_share) > np.fmax(_FAR, _ERRORS * error))[:, 1] & ~stated_rows.any(axis=1)
    scale = np.where(((rows >= _FEWEST) | (output == 0)).all(axis=1, keepdims=True), scale, 1.0)
    shares = {int(t): f"{share[t, 1]:.2f}, in the output {output_share[t, 1]:.2f}" for t in np.flatnonzero(far)}
    return weight * scale.ravel()[place], shares


def heavy_rows(ids: Sequence[str], task: Values, tasks: Sequence[str], weight: Floats) -> str:
    """Say which tasks have a row with more than `_MOST_WEIGHT` of the weight; empty for none."""
    rows, total = (by_cell(task, values, len(tasks)) for values in (np.ones(len(task)), weight))
    heavy = np.flatnonzero((weight > _MOST_WEIGHT * total[task]) & (rows[task] >= 1 / _MOST_WEIGHT))
    if not len(heavy):
        return ""
    names = [f"{ids[row]} of {tasks[task[row]]} ({weight[row] / total[task[row]]:.0%})" for row in heavy]
    some = f"Rows with more than {_MOST_WEIGHT:.0%} of the weight of their task: {first_of(names)}."
    return f"{some} The task's figures depend on this row, and its intervals are too narrow."
