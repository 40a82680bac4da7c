"""What comes back: a scored response."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scoremux_client import lti
from scoremux_client.contract import Status
from scoremux_client.response import Response


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's outcome.

    level: ordinal class index 0…L−1, −1 without a score.
    score: the points the level stands for, NaN without a score.
    probabilities: float32 values of the task's own L levels, empty without a score.
    status: ``Status.OK``, or why there is no score.
    version: sha256 digest of the task package that scored the row, empty without a score.
    tokens: tokens the backbone saw, special tokens included.
    truncated: whether the text had more tokens than the backbone takes.
    """

    task: str
    level: int
    score: float
    probabilities: tuple[float, ...]
    status: Status
    version: str
    tokens: int
    truncated: bool
    id: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the row has a score."""
        return self.status is Status.OK

    def with_id(self, id: str | None) -> Scored:
        """Return the same outcome for an identical row of another id."""
        values = (self.level, self.score, self.probabilities, self.status, self.version, self.tokens, self.truncated)
        return Scored(self.task, *values, id)

    @classmethod
    def without_score(cls, response: Response, status: Status) -> Scored:
        """Return the outcome of a row that no server scored."""
        return cls(response.task, -1, math.nan, (), status, "", 0, False, response.id)

    def to_lti_ags(
        self,
        user_id: str,
        *,
        score_maximum: float | None = None,
        levels: Sequence[float] | None = None,
        timestamp: datetime | None = None,
        activity_progress: lti.ActivityProgress = "Completed",
        needs_review: bool = False,
        comment: str | None = None,
    ) -> lti.Score:
        """Return the score as LTI Assignment and Grade Services 2.0 posts it to a line item's ``/scores``.

        user_id: the platform's id of the student. score_maximum: points of a full score, or `levels`: the task's own
        (`task.json`), whose largest it is; an outcome does not know them, so one of the two is needed where there is a
        score. timestamp: when it was scored, with a time zone; now if None. needs_review: a person has yet to confirm
        it, which platforms show as PendingManual.

        Without a score there is no scoreGiven; gradingProgress says PendingManual where a person can still grade the
        answer, and Failed where the task or the text's encoding is at fault. Raises InputError.

        >>> scored = Scored("t-1", 3, 0.75, (0.1, 0.1, 0.1, 0.6, 0.1), Status.OK, "", 9, False)
        >>> when = datetime.fromisoformat("2026-01-05T10:00:00+00:00")
        >>> score = scored.to_lti_ags("student-7", levels=[0, 0.25, 0.5, 0.75, 1], timestamp=when)
        >>> score["scoreGiven"], score["scoreMaximum"], score["gradingProgress"], score["timestamp"]
        (0.75, 1.0, 'FullyGraded', '2026-01-05T10:00:00.000+00:00')
        """
        maximum = lti.maximum(score_maximum, levels)
        progress = lti.grading_progress(self.status, needs_review)
        given = lti.points(self.score, maximum) if self.ok else None
        return lti.score(user_id, given, maximum, timestamp, activity_progress, progress, comment)
