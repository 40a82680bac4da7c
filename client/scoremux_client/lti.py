"""The score object of LTI Assignment and Grade Services 2.0 (https://www.imsglobal.org/spec/lti-ags/v2p0)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Literal, TypedDict

import numpy as np

from scoremux_client.contract import NOBODY_CAN, Status
from scoremux_client.errors import InputError

MEDIA_TYPE = "application/vnd.ims.lis.v1.score+json"
"""Content type of the POST."""

ActivityProgress = Literal["Initialized", "Started", "InProgress", "Submitted", "Completed"]
GradingProgress = Literal["FullyGraded", "PendingManual", "Failed"]


class _Required(TypedDict):
    userId: str
    activityProgress: ActivityProgress
    gradingProgress: GradingProgress
    timestamp: str


class Score(_Required, total=False):
    """Ready for `json.dumps`. scoreGiven is never there without scoreMaximum."""

    scoreGiven: float
    scoreMaximum: float
    comment: str


def grading_progress(status: Status, needs_review: bool) -> GradingProgress:
    """Return what a row's status means to the platform."""
    if status in NOBODY_CAN:
        return "Failed"
    return "FullyGraded" if status is Status.OK and not needs_review else "PendingManual"


def maximum(score_maximum: float | None, levels: Sequence[float] | None) -> float | None:
    """Return scoreMaximum, positive; None if it was not given. Raises InputError."""
    if score_maximum is not None and levels is not None:
        raise InputError("there are score_maximum and levels; give one of them")
    value = max(levels, default=0.0) if levels is not None else score_maximum
    if value is not None and not (math.isfinite(value) and value > 0):
        raise InputError(f"scoreMaximum is {value}; LTI wants it above 0")
    return None if value is None else float(value)


def points(score: float, score_maximum: float | None) -> float:
    """Return scoreGiven. Raises InputError if LTI has no such score."""
    if score_maximum is None:
        raise InputError("a score needs its scoreMaximum: give score_maximum, or the task's levels")
    if score < 0:
        raise InputError(f"the score is {score:g}; LTI has none below 0")
    # The wire has float32, which would show 0.1 as 0.10000000149.
    return float(str(np.float32(score)))


def score(
    user_id: str,
    given: float | None,
    score_maximum: float | None,
    timestamp: datetime | None,
    activity_progress: ActivityProgress,
    progress: GradingProgress,
    comment: str | None,
) -> Score:
    """Return the object. Raises InputError for a timestamp without a time zone."""
    when = timestamp or datetime.now(timezone.utc)
    if when.tzinfo is None:
        raise InputError("the timestamp has no time zone")
    made: Score = {
        "userId": user_id,
        "activityProgress": activity_progress,
        "gradingProgress": progress,
        "timestamp": when.isoformat(timespec="milliseconds"),
    }
    if given is not None and score_maximum is not None:
        made["scoreGiven"], made["scoreMaximum"] = given, score_maximum
    if comment is not None:
        made["comment"] = comment
    return made
