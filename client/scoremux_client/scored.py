"""What comes back: a scored response."""

from __future__ import annotations

from dataclasses import dataclass

from scoremux_client.contract import Status


@dataclass(frozen=True)
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
