"""Which rows people read: the weight of each, and the population that figures are about.

A row that was chosen with probability p stands for 1 / p rows (Horvitz and Thompson 1952), and figures are those of the
weighted rows (Hájek 1971). The review desk writes how each row was chosen:

    route          all rows that the policy sends to people: p = 1
    read_behind    a random share of those that the machine keeps: p in the column `probability`
    all            all rows of a new task, or of one without a calibration: p = 1
    sample         a random sample of all rows (`scoremux sample`): p in the column `probability`
    validity       papers with a known level, which nobody drew: no part of any figure

Rows of which this is not known count as a sample of all responses, too. Where a task has such a sample, and no
read-behind rows, the sample alone is about all responses: its routed rows stand for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_assess.agreement.ratings import Floats, Mask
from scoremux_files.errors import first_of

ROUTE, READ_BEHIND, ALL, SAMPLE, VALIDITY = "route", "read_behind", "all", "sample", "validity"

_ROUTED = (
    "about the responses that were sent to people, not about all responses: no row of those that the machine keeps was "
    "read with a known probability (read-behind)."
)

ROUTED_ONLY = f"These figures are {_ROUTED}"

_ALL_RESPONSES = (
    "Rows weigh 1 / the probability with which they were chosen to be read: figures are about all responses, n is the "
    "number of rows that were read."
)

_MOST_NAMED = 20


@dataclass(frozen=True)
class Sample:
    """How B rows were chosen to be read.

    Attributes:
        weight: 1 / probability, NaN for rows that stand for no others.
        routed: Rows that were read since they were sent to people.
        behind: Rows that stand for those of the machine.
        sampled: Rows of a sample of all rows.
    """

    weight: Floats
    routed: Mask
    behind: Mask
    sampled: Mask


ROUTED_BESIDE = (
    "responses that were read since they were sent to people are part of no figure: the others are a sample of all "
    "responses, and stand for such responses too."
)

LACKS_SAMPLE = (
    "labelled rows were read since they were sent to people, and none stands for the rows that the machine keeps: "
    "label a random sample, or score with --read-behind and have those rows read"
)

SEEN_BY_START = (
    "the shared start was trained on this task in an earlier run: of responses that it has seen, figures and "
    "predictions are too good, and no calibration may rest on them"
)


def routed_only(chosen_by: Sequence[str | None]) -> bool:
    """Return whether only their route chose rows of a task: they say nothing of what the machine keeps."""
    reasons = set(chosen_by)
    return ROUTE in reasons and reasons <= {ROUTE, VALIDITY}


def routed_beside(chosen_by: Sequence[str | None], versions: Sequence[str | None]) -> Mask:
    """Return which rows of a task were read since they were sent to people, beside a sample of all its responses.

    Args:
        chosen_by: How each was chosen.
        versions: The task version that routed each, None where that is not known. Read-behind rows of a version stand
            for what that version kept, and for nothing that another one did.
    """
    if routed_only(chosen_by):
        return np.zeros(len(chosen_by), bool)
    behind = {v for reason, v in zip(chosen_by, versions, strict=True) if reason == READ_BEHIND}
    return np.array([r == ROUTE and v not in behind for r, v in zip(chosen_by, versions, strict=True)], bool)


def population_of(routed: Sequence[str], others: bool, weighted: bool) -> str:
    """Return what rows figures are about, empty where these are simply the rows that were read.

    Args:
        routed: The tasks of which people read only what was sent to them, see `routed_only`.
        others: Whether there are other tasks.
        weighted: Whether some row stands for others.
    """
    if routed and not others:
        return ROUTED_ONLY
    rest = _ALL_RESPONSES if weighted else ""
    if not routed:
        return rest
    some = f"Figures of {first_of(routed, _MOST_NAMED)}, which are in those of all rows too, are {_ROUTED}"
    return f"{some} Of the other tasks: {rest}" if rest else some


def sample_of(chosen_by: Sequence[str | None], probability: Floats) -> Sample:
    """Return the weights of rows.

    Args:
        chosen_by: How each was chosen, None where that is not known; such rows count as drawn with their probability.
        probability: With which each was chosen; NaN where it was certain to be.
    """
    reasons = np.array([reason or "" for reason in chosen_by], dtype=object)
    has_probability = (probability > 0) & (probability <= 1)
    weight = np.where(has_probability, 1 / np.where(has_probability, probability, 1.0), 1.0)
    routed, drawn = np.asarray(reasons == ROUTE), np.asarray((reasons == READ_BEHIND) | (reasons == SAMPLE))
    unusable = (reasons == VALIDITY) | (drawn & ~has_probability) | (~has_probability & ~np.isnan(probability))
    sampled = ~unusable & ~routed & np.asarray(reasons != READ_BEHIND)
    return Sample(np.where(unusable, np.nan, np.where(routed, 1.0, weight)), routed, drawn & has_probability, sampled)
