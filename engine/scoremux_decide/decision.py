"""`decision.json` of a task version: numbers that turn its scores into a confidence, a condition and a route.

`fit` makes them from labelled responses and a policy, `apply` decides about rows with them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, GetPydanticSchema, StrictBool
from pydantic_core import core_schema

from scoremux_client.contract import Reason
from scoremux_client.errors import InputError
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.records import CheckedRecord, number, one_of, parse_record, whole
from scoremux_files.settings import parse_object

Floats = npt.NDArray[np.float64]

FORMAT = 1
OWN, POOLED, NONE = "own", "pooled", "none"
"""Where a number comes from: the task's own rows, those of several tasks together, or nowhere."""

LEAST_TEMPERATURE = 0.05
"""With less, the powers of all of a row's probabilities could be 0."""

_Share = Annotated[float, number(0, 1)]
_Count = Annotated[int, whole(0, 1 << 40)]
_Source = Annotated[str, one_of(OWN, POOLED, NONE)]
_Reason = Annotated[str, one_of(Reason.LOW_CONFIDENCE.value, Reason.NEW_TASK.value)]
_Row = Annotated[list[Annotated[float, number(-1e100, 1e100)]], Field(min_length=1, max_length=1 << 16)]
_Rows = Annotated[list[_Row], Field(min_length=1, max_length=64)]


def _as_array(lists: Any) -> GetPydanticSchema:
    """Return the schema of lists of this type that become an array."""
    return GetPydanticSchema(lambda _, schema: core_schema.no_info_after_validator_function(np.array, schema(lists)))


@dataclass(frozen=True)
class Temperature(CheckedRecord):
    """confidence = p[level]^(1/value) / Σ p^(1/value).

    Attributes:
        source: Whose labelled rows it was fitted to; `NONE`: a fitted one was worse on these rows, so it is 1.
        rows: Number of rows that it was fitted on.
    """

    value: Annotated[float, number(LEAST_TEMPERATURE, 100)]
    source: _Source
    rows: _Count


@dataclass(frozen=True)
class Threshold(CheckedRecord):
    """A row goes to people if its confidence is below `least`.

    Attributes:
        least: None sends every row to people, for `reason`.
        source: Whose labelled rows it was chosen on.
        rows: Number of rows that it was chosen on.
        share: The share of the task's labelled rows that would go to people for their confidence.
        tasks: How many tasks the promise was tested on together; it holds for them together.
        exact: Least exact agreement promised of the rows that the machine keeps; None: not promised.
        critical: Greatest promised share of levels that are two or more off; None: not promised.
        within_of_humans: How much less exact agreement than that of two humans is promised; None: not promised.
        total_share, total_within: Least promised share of totals that are so many points from a person's at most; None:
            not promised.
        confidence: Confidence of the promise; None without one.
    """

    reason: _Reason
    source: _Source
    rows: _Count
    share: _Share
    least: _Share | None = None
    exact: _Share | None = None
    critical: _Share | None = None
    within_of_humans: _Share | None = None
    total_share: _Share | None = None
    total_within: Annotated[float, number(0, 1e100)] | None = None
    confidence: _Share | None = None
    tasks: _Count = 1


NEW_TASK = Threshold(Reason.NEW_TASK.value, NONE, 0, 1.0)
"""Sends every row to people: no labelled row of the task is known."""

UNCALIBRATED = Threshold(Reason.UNCALIBRATED.value, NONE, 0, 1.0)
"""Sends every row to people: the version has no `decision.json`."""


@dataclass(frozen=True)
class LevelRange(CheckedRecord):
    """The range of levels around the machine's that holds the human's with this `confidence`.

    Attributes:
        reach: A range grows by the likelier neighbour until its calibrated probability is above this; 1: to all levels.
        confidence: The share of rows to come whose range holds the human's level, at least.
        source: Whose labelled rows `reach` was chosen on: the task's, or also those of others.
        rows: Number of the task's own rows.
        width: Mean number of levels in their ranges.
        by_level: `reach` by the machine's level, so that the confidence holds for each; None: `reach` is for all.
    """

    reach: _Share
    confidence: _Share
    source: _Source
    rows: _Count
    width: Annotated[float, number(0, 1 << 20)]
    by_level: tuple[_Share, ...] | None = None

    def reach_of(self, level: int) -> float:
        """Return the `reach` of ranges around a machine's level; 1 for a level without a fitted one."""
        if self.by_level is None:
            return self.reach
        return self.by_level[level] if level < len(self.by_level) else 1.0


@dataclass(frozen=True)
class Unusual(CheckedRecord):
    """A row is unusual if its vector x is farther than `limit` from every centre c: Σ (x − c)² · weights.

    Attributes:
        limit: The greatest distance at which a response still counts as usual.
        quantile: The share of the labelled rows that is usual.
        rows: Number of labelled rows that it was fitted to.
        centres: The mean vector of each group of calibration rows, float64 [K, H].
        weights: The weight of a difference in each dimension, float64 [H].
    """

    limit: Annotated[float, number(0, 1e300)]
    quantile: _Share
    rows: _Count
    centres: Annotated[Floats, _as_array(_Rows)]
    weights: Annotated[Floats, _as_array(_Row)]

    def __post_init__(self) -> None:
        if self.centres.shape[1] != len(self.weights) or (self.weights < 0).any():
            raise ValueError("centres must be as wide as weights, and no weight below 0")


@dataclass(frozen=True)
class Expected(CheckedRecord):
    """The expectation of responses to come, from the labelled rows.

    Attributes:
        error: Mean of 1 − confidence over the rows that the threshold leaves to the machine.
        rows: How many these rows count as.
        levels: The share of each of the machine's levels among all rows; None where it was not recorded.
    """

    error: _Share
    rows: _Count
    levels: tuple[_Share, ...] | None = None


@dataclass(frozen=True)
class Look(CheckedRecord):
    """One test of a promise: with each, the next one has to say more (`fit`).

    Attributes:
        date: Day of the test, as YYYY-MM-DD.
        target: The promise, with its confidence.
        rows: How many labelled rows it was tested on.
        population: How many of these came from which file, and how they were chosen.
        digest: Digest of the rows; a test on the same rows is not another look.
    """

    date: str
    target: str
    rows: _Count
    population: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class TraitDecision(CheckedRecord):
    """What each trait of an item has of its own; attributes as those of `Decision`."""

    temperature: Temperature | None = None
    level_range: LevelRange | None = None
    expected: Expected | None = None


@dataclass(frozen=True)
class Decision(CheckedRecord):
    """The decision of a policy for one task version.

    Attributes:
        policy: sha256 of the policy's file.
        conditions: Rules for responses that are not attempts.
        truncated: Whether a response that the model did not see whole goes to people.
        temperature: None: rows have no confidence.
        threshold: None: no row goes to people for its confidence.
        level_range: None: rows have no range of levels.
        unusual: None: no row goes to people for its vector.
        arithmetic: Of the engine whose scores it was fitted to; None: predictions of training.
        expected: The errors to expect, by the rows that it was fitted to; None where it was not recorded.
        looks: The tests of the task's promises so far, in order.
        held: The digest of the version that is on hold: people get what the machine would keep; None: not on hold.
        traits: Of an item with traits, by name. A response goes to people for the least of its traits' confidences.
    """

    policy: str
    conditions: Conditions
    truncated: StrictBool = False
    temperature: Temperature | None = None
    threshold: Threshold | None = None
    level_range: LevelRange | None = None
    unusual: Unusual | None = None
    arithmetic: str | None = None
    expected: Expected | None = None
    looks: tuple[Look, ...] = ()
    held: str | None = None
    traits: dict[str, TraitDecision] | None = None

    def __post_init__(self) -> None:
        thresholded = self.threshold is not None and self.threshold.least is not None
        for one in self.traits.values() if self.traits else (self,):
            if one.temperature is None and (thresholded or one.level_range is not None):
                raise ValueError("a threshold or a level_range needs a temperature, which is missing")

    def of(self, trait: str) -> "Decision":
        """Return the decision of a trait; this one where it is not of an item with that trait."""
        own = (self.traits or {}).get(trait)
        return replace(self, **vars(own), traits=None) if own else self

    @classmethod
    def joined(cls, traits: "Mapping[str, Decision]") -> "Decision":
        """Return the decision of an item from those of its traits, which differ in what `TraitDecision` has.

        People get all responses where they get those of one trait.
        """
        first, *others = traits.values()
        thresholds = [one.threshold for one in (first, *others) if one.threshold]
        strictest = next((one for one in thresholds if one.least is None), first.threshold)
        own = {name: TraitDecision(one.temperature, one.level_range, one.expected) for name, one in traits.items()}
        none = vars(TraitDecision())
        return replace(first, threshold=strictest, traits=own, **none)

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Decision":
        """Read the file. Raises InputError naming the key that is wrong."""
        try:
            values = parse_object(data)
            if values.pop("format", None) != FORMAT:
                raise ValueError(f"it has not format {FORMAT}; run `scoremux calibrate` again to write it")
            return parse_record(cls, values)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error

    def to_json(self) -> bytes:
        """Return the file that `parse` reads; equal decisions are equal bytes."""
        stated = asdict(self, dict_factory=lambda items: {key: value for key, value in items if value is not None})
        values = {"format": FORMAT, **stated}
        shown = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, default=np.ndarray.tolist)
        return f"{shown}\n".encode()
