"""Columns of scored rows, of human levels, and of the rows that have both."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from scoremux_evidence.rows.close_rows import Margins
from scoremux_evidence.rows.ratings import Floats, Ints, Mask, Ratings
from scoremux_evidence.rows.weights import Sample
from scoremux_files.rows.columns import Codes, Ints32

Columns = TypeVar("Columns", "ScoredColumns", "KnownColumns")

EXAMPLES = 5
"""Ids that are named for each reason."""

UNKNOWN_LEVELS = 256
"""How many levels a task has if the output has no probabilities: more than any scale."""


@dataclass(frozen=True)
class LeftOut:
    """Rows that are not compared, or only in part.

    Attributes:
        rows: How many they are.
        examples: Ids of some of them.
    """

    reason: str
    rows: int
    examples: tuple[str, ...]

    @classmethod
    def of(cls, reason: str, ids: Any, rows: Ints) -> "LeftOut":
        """Return why some rows are left out. ids: of all rows; rows: the places of those that are."""
        return cls(reason, len(rows), tuple(map(str, ids.take(rows[:EXAMPLES]).to_pylist())))


@dataclass(frozen=True)
class ScoredColumns:
    """The output of `scoremux score`, B rows.

    Attributes:
        status, version: See `Codes`.
        task: The id of the task, without a pinned digest.
        level: The level that the machine gave, NaN without a score.
        score: Its points, NaN without a score.
        width: How many probabilities a row has.
        expected: The mean level under them.
        confidence: P(level = human's level), or `stated` where the output has none.
        calibrated: Whether the output has confidences.
        stated: The greatest probability, NaN without any.
        to_people: Whether a policy sends the row to people.
        low, high: The range of levels that holds a human's, NaN where there is none.
        seen_by_start: Tasks of predictions whose shared start was trained on them in an earlier run.
        margins: Of all rows of the output, whichever rows of the others are taken.
        administration: None where the output has no such column.
    """

    ids: Any
    status: Codes
    task: Codes
    version: Codes
    level: Floats
    score: Floats
    width: Ints32
    expected: Floats
    confidence: Floats
    calibrated: bool
    stated: Floats
    to_people: Mask
    low: Floats
    high: Floats
    seen_by_start: tuple[str, ...]
    margins: Margins
    administration: Codes | None = None

    @property
    def levels(self) -> Ints32:
        """How many levels each task has: as many as it has probabilities, [T]."""
        code = self.task.code
        named = code >= 0
        most = np.zeros(len(self.task.values), np.int32)
        np.maximum.at(most, code[named], self.width[named])
        most[most == 0] = UNKNOWN_LEVELS
        return np.minimum(most, UNKNOWN_LEVELS)

    @property
    def versions(self) -> Iterator[tuple[str, str]]:
        """The tasks with the versions that scored their rows."""
        for task, version in np.unique(np.stack([self.task.code, self.version.code]), axis=1).T:
            if min(task, version) >= 0:
                yield self.task.values[task], self.version.values[version]


@dataclass(frozen=True)
class KnownColumns:
    """The levels of humans, B rows.

    Attributes:
        task: None where the file has no such column.
        level, second: NaN where there is none.
        groups: The values of each column of groups, by its name.
        student: None if no column names one.
        sample: How the rows were chosen to be read.
        version: Of the task version that scored the row before it was read, where that is known.
        unusable: Whether a row has a level that is not a number.
        length: Of the text, in characters, NaN where there is none; None where all are outputs.
        left_out: Rows without a usable level.
        administration: None where the file has no such column.
    """

    ids: Any
    task: Codes | None
    level: Floats
    second: Floats
    sample: Sample
    version: Codes
    unusable: Mask
    groups: dict[str, Codes] = field(default_factory=dict)
    student: Codes | None = None
    length: Floats | None = None
    left_out: tuple[LeftOut, ...] = ()
    administration: Codes | None = None


@dataclass(frozen=True)
class JoinedColumns:
    """Rows that have both a score and a human's level, B of them.

    Attributes:
        scored: The machine's levels and probabilities.
        truth: The levels of humans.
        output: The place of each row among those of the output, from 0.
        levels: How many levels each task has.
        points: Those of each task's levels, as far as output and truth show them, else NaN or inf, [T, L].
        routes: How many scored rows of each task of the output the machine keeps, and how many were sent to people,
            [T, 2]; None where it keeps all, or has no routes.
        sizes: How many scored rows each task of the output has.
        off_scale: The tasks and human levels of rows that are left out since their level is off the scale.
        dropped: How many scored rows of each task have a human's level that is off the scale or not a number.
        population: Which rows the figures are about, where these are not simply the rows themselves; else empty.
        left_out: Rows that are not compared, and why.
    """

    scored: ScoredColumns
    truth: KnownColumns
    ratings: Ratings
    output: Ints
    levels: Ints32
    routes: Floats | None
    sizes: Ints
    off_scale: tuple[Ints32, Floats]
    dropped: Ints
    population: str
    left_out: tuple[LeftOut, ...]
    points: Floats = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.ratings)


def taken(columns: Columns, rows: Ints) -> Columns:
    """Return some rows; groups stay as they are."""
    parts = {name: column.take(rows) for name, column in vars(columns).items() if hasattr(column, "take")}
    return replace(columns, **parts)
