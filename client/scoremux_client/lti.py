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


class Score(TypedDict, total=False):
    """Ready for `json.dumps`. A score has all of the first four, and scoreGiven never without scoreMaximum."""

    userId: str
    activityProgress: ActivityProgress
    gradingProgress: GradingProgress
    timestamp: str
    scoreGiven: float
    scoreMaximum: float
    comment: str


def score(
    user_id: str,
    status: Status,
    points: float | None,
    *,
    maximum: float | None = None,
    levels: Sequence[float] | None = None,
    timestamp: datetime | None = None,
    activity_progress: ActivityProgress = "Completed",
    needs_review: bool = False,
    comment: str | None = None,
) -> Score:
    """Return the score object of one row; `rows.Scored.to_lti_ags` explains the arguments.

    Raises:
        InputError: the points have no maximum, or LTI has no such points or timestamp.
    """
    if maximum is not None and levels is not None:
        raise InputError("there are score_maximum and levels; give one of them")
    most = max(levels, default=0.0) if levels is not None else maximum
    if most is not None and not (math.isfinite(most) and most > 0):
        raise InputError(f"scoreMaximum is {most}; LTI wants it above 0")
    when = timestamp or datetime.now(timezone.utc)
    if when.tzinfo is None:
        raise InputError("the timestamp has no time zone")
    progress: GradingProgress = "FullyGraded" if status is Status.OK and not needs_review else "PendingManual"
    scored: Score = {
        "userId": user_id,
        "activityProgress": activity_progress,
        "gradingProgress": "Failed" if status in NOBODY_CAN else progress,
        "timestamp": when.isoformat(timespec="milliseconds"),
    }
    if points is not None:
        if most is None:
            raise InputError("a score needs its scoreMaximum: give score_maximum, or the task's levels")
        if points < 0:
            raise InputError(f"the score is {points:g}; LTI has none below 0")
        # The wire has float32, which would show 0.1 as 0.10000000149.
        scored["scoreGiven"], scored["scoreMaximum"] = float(str(np.float32(points))), float(most)
    if comment is not None:
        scored["comment"] = comment
    return scored
