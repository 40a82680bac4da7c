"""`Scored.to_lti_ags` against the fields of LTI AGS 2.0's score object."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from scoremux_client import InputError, Response, Scored, Status

WHEN = datetime(2026, 1, 5, 10, 0, 0, 123456, timezone(timedelta(hours=1)))
OK = Scored("t-1", 1, 0.10000000149011612, (0.2, 0.8), Status.OK, "a" * 64, 9, False, "r1")

FIELDS: dict[str, tuple[type, ...]] = {
    "timestamp": (str,),
    "scoreGiven": (int, float),
    "scoreMaximum": (int, float),
    "comment": (str,),
    "activityProgress": (str,),
    "gradingProgress": (str,),
    "userId": (str,),
}
"""Properties of the score object in the published service (imsglobal.org/spec/lti-ags/v2p0, Score publish service)."""
REQUIRED = {"timestamp", "activityProgress", "gradingProgress", "userId"}
ACTIVITY = {"Initialized", "Started", "InProgress", "Submitted", "Completed"}
GRADING = {"FullyGraded", "Pending", "PendingManual", "Failed", "NotReady"}


def conforms(score: dict[str, Any]) -> None:
    assert set(score) >= REQUIRED
    for name, value in score.items():
        assert isinstance(value, FIELDS[name])
    assert score["activityProgress"] in ACTIVITY
    assert score["gradingProgress"] in GRADING
    assert datetime.fromisoformat(score["timestamp"]).tzinfo is not None
    assert "." in score["timestamp"]  # at least subsecond precision is asked for
    if "scoreGiven" in score:
        assert score["scoreGiven"] >= 0
        assert score["scoreMaximum"] > 0
    assert json.loads(json.dumps(score, allow_nan=False)) == score


def test_a_score_is_fully_graded_in_the_points_of_the_task() -> None:
    score = OK.to_lti_ags("student-7", levels=[0, 0.1, 0.5], timestamp=WHEN, comment="seen")
    conforms(dict(score))
    assert score == {
        "userId": "student-7",
        "activityProgress": "Completed",
        "gradingProgress": "FullyGraded",
        "timestamp": "2026-01-05T10:00:00.123+01:00",
        "scoreGiven": 0.1,
        "scoreMaximum": 0.5,
        "comment": "seen",
    }


def test_a_score_that_a_person_has_yet_to_confirm_is_pending() -> None:
    score = OK.to_lti_ags("s", score_maximum=4, needs_review=True, activity_progress="Submitted")
    conforms(dict(score))
    assert (score["gradingProgress"], score["activityProgress"]) == ("PendingManual", "Submitted")
    assert (score["scoreGiven"], score["scoreMaximum"]) == (0.1, 4)


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.OK])
@pytest.mark.parametrize("maximum", [None, 1.0])
def test_no_score_is_no_score_given(status: Status, maximum: float | None) -> None:
    scored = Scored.without_score(Response("t-1", "x", "r1"), status)
    score = scored.to_lti_ags("s", score_maximum=maximum)
    conforms(dict(score))
    assert "scoreGiven" not in score and "scoreMaximum" not in score
    nobody = status in (Status.UNKNOWN_TASK, Status.INVALID_TASK, Status.INVALID_TEXT, Status.FORBIDDEN_TASK)
    assert score["gradingProgress"] == ("Failed" if nobody else "PendingManual")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "give score_maximum, or the task's levels"),
        ({"score_maximum": 1, "levels": [0, 1]}, "give one of them"),
        ({"score_maximum": 0}, "scoreMaximum is 0"),
        ({"score_maximum": math.nan}, "scoreMaximum is nan"),
        ({"levels": []}, "scoreMaximum is 0"),
        ({"score_maximum": 1, "timestamp": datetime(2026, 1, 5)}, "no time zone"),
    ],
)
def test_what_lti_cannot_say_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        OK.to_lti_ags("s", **options)
    with pytest.raises(InputError, match="the score is -1"):
        Scored("t-1", 0, -1.0, (1.0,), Status.OK, "", 1, False).to_lti_ags("s", levels=[-1, 1])
