"""Decisions applied to rows: the confidence, condition, range of levels and route of each row.

Every step is per row, number by number, so that a row's neighbours change no bit. numpy is all that it needs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scoremux_client.contract import MACHINE, NO_RANGE, Reason
from scoremux_client.errors import InputError
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.conditions.finder import Finder, ResponseCondition
from scoremux_decide.decision import UNCALIBRATED, Decision, LevelRange, Unusual

_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # the first times a whole number below 2**20 is exact
_PER_LN2, _ROOT_HALF = 1.4426950408889634, 0.7071067811865476
_ARTANH = tuple(2 / (2 * n + 1) for n in range(9, -1, -1))
_EXP = tuple(1 / math.factorial(n) for n in range(13, -1, -1))


class RowDecision(NamedTuple):
    """The decision about a row: NaN and `NO_RANGE` where its version has no calibration."""

    confidence: float
    condition: str
    route: str
    level_range: tuple[int, int]


@dataclass(frozen=True)
class Decider:
    """Decides about rows of one version."""

    decision: Decision
    finder: Finder

    @classmethod
    def parse(cls, data: bytes, where: str, question: str, reference: str, language: str, width: int) -> "Decider":
        """Read `decision.json` of a task, for a backbone whose vectors have `width` numbers.

        Raises InputError, which names the file `where`, where a key is wrong, or the rules need what is not installed.
        """
        decision = Decision.parse(data, where)
        unusual = decision.unusual
        if unusual is not None and len(unusual.weights) != width:
            weights = len(unusual.weights)
            raise InputError(f"{where}: unusual has {weights} weights, the backbone's vectors have {width} numbers")
        return cls(decision, Finder(decision.conditions, question, reference, [language], where=where))

    @property
    def needs_pooled(self) -> bool:
        """Whether it asks for the vector that the head read."""
        return self.decision.unusual is not None

    def trait(self, name: str) -> "Decider":
        """Return the decider of a trait, or of the total, of this item."""
        return replace(self, decision=self.decision.of(name))

    def decide(
        self,
        level: int,
        probabilities: Sequence[float],
        condition: ResponseCondition | None,
        truncated: bool,
        pooled: npt.NDArray[np.float32] | None,
        least: float | None = None,
    ) -> RowDecision:
        """Decide about a scored row.

        Args:
            probabilities: Probabilities of the task's levels; NaN where the head gives none.
            condition: The condition that `finder` found in the response.
            truncated: Whether the model did not see all of the response.
            pooled: The vector that the head read, float32 [H], where the decision needs it.
            least: The least confidence of the response's traits, which decides the route of each.
        """
        confidence, level_range = math.nan, NO_RANGE
        temperature = self.decision.temperature
        if temperature is not None and not math.isnan(probabilities[level]):
            shares = calibrated(probabilities, temperature.value)
            confidence = float(np.float32(shares[level]))
            if self.decision.level_range is not None:
                level_range = range_around(level, shares, self.decision.level_range)
        route = self._route(confidence if least is None else least, condition, truncated, pooled)
        return RowDecision(confidence, condition.code if condition else "", route, level_range)

    def _route(
        self,
        confidence: float,
        condition: ResponseCondition | None,
        truncated: bool,
        pooled: npt.NDArray[np.float32] | None,
    ) -> str:
        threshold, unusual = self.decision.threshold, self.decision.unusual
        if condition is not None:
            return Reason.CONDITION.route
        if threshold is not None and threshold.least is None:
            return Reason(threshold.reason).route
        if self.decision.truncated and truncated:
            return Reason.TRUNCATED.route
        if unusual is not None and pooled is not None and not distance(unusual, pooled) <= unusual.limit:
            return Reason.UNUSUAL.route
        if threshold is not None and threshold.least is not None and not confidence >= threshold.least:
            return Reason.LOW_CONFIDENCE.route
        return Reason.HELD.route if self.decision.held else MACHINE


UNDECIDED = Decider(Decision("", Conditions(), threshold=UNCALIBRATED), Finder(Conditions()))
"""Of versions without a `decision.json`: no confidence, no conditions, every row to people."""


def calibrated(probabilities: Sequence[float], temperature: float) -> list[float]:
    """Return p^(1/T) / Σ p^(1/T), of one row's probabilities."""
    power = 1.0 / temperature
    scaled = [_power(p, power) for p in probabilities]
    total = 0.0
    for value in scaled:  # `sum` adds in another way since Python 3.12
        total += value
    return [value / total for value in scaled]


def _power(p: float, power: float) -> float:
    """Return p**power for 0 ≤ p ≤ 1, power > 0, in operations of IEEE 754: `math.pow` differs between processors.

    ln p = k · ln 2 + 2 artanh((m − 1) / (m + 1)) for p = m · 2**k; e**x = e**r · 2**n.
    """
    if not p:
        return 0.0
    m, k = math.frexp(p)
    if m < _ROOT_HALF:
        m, k = 2 * m, k - 1
    s = (m - 1) / (m + 1)
    series, square = 0.0, s * s
    for coefficient in _ARTANH:
        series = series * square + coefficient
    x = power * (k * _LN2[0] + (s * series + k * _LN2[1]))
    if x < -800.0:
        return 0.0
    n = round(x * _PER_LN2)
    r, value = (x - n * _LN2[0]) - n * _LN2[1], 0.0
    for coefficient in _EXP:
        value = value * r + coefficient
    return math.ldexp(value, n)


def range_around(level: int, shares: Sequence[float], level_range: LevelRange) -> tuple[int, int]:
    """Return the lowest and the highest level of a row's range; shares: calibrated probabilities."""
    everything = 0, len(shares) - 1
    reach = level_range.reach_of(level)
    if reach >= 1:
        return everything
    return next(((low, high) for low, high, sum_ in growing(level, shares) if sum_ > reach), everything)


def growing(level: int, shares: Sequence[float]) -> Iterator[tuple[int, int, float]]:
    """Yield ranges of levels from the machine's alone to all: the lowest, the highest, and their probability together.

    Each is the previous one and its likelier neighbour, the lower one on a tie. shares: calibrated probabilities.
    """
    low = high = level
    probability = shares[level]
    yield low, high, probability
    while high - low + 1 < len(shares):
        if low > 0 and (high + 1 == len(shares) or shares[low - 1] >= shares[high + 1]):
            low -= 1
            probability += shares[low]
        else:
            high += 1
            probability += shares[high]
        yield low, high, probability


def distance(unusual: Unusual, pooled: npt.NDArray[np.float32]) -> float:
    """Return min over centres c of Σ (x − c)² · weights, for one vector x: float32 [H]."""
    # Shapes are those of the version alone, so a row's neighbours change no bit.
    difference = unusual.centres - pooled.astype(np.float64)
    return float(np.add.reduce(difference * difference * unusual.weights, axis=1).min())
