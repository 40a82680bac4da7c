"""`decision.json` of a task version: numbers that turn its scores into a confidence, conditions and a route.

The scorer only applies them. `scoremux calibrate` makes them from labelled responses and a policy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.checked_table import Table
from scoremux_assess.decisions.conditions.rules import Conditions
from scoremux_client.contract import Reason
from scoremux_client.errors import InputError

Floats = npt.NDArray[np.float64]

OWN, POOLED, NONE = "own", "pooled", "none"
SOURCES = (OWN, POOLED, NONE)
"""Where a number comes from: the task's own rows, those of all tasks together, or nowhere."""

MOST_BYTES = 1 << 20
_LEAST_TEMPERATURE = 0.05
"""With less, the powers of all of a row's probabilities could be 0."""

_MOST_CENTRES, _MOST_WIDTH = 64, 1 << 16


@dataclass(frozen=True)
class Temperature:
    """confidence = p[level]^(1/value) / Σ p^(1/value). rows: labelled ones that it was fitted to; source: whose."""

    value: float
    source: str
    rows: int


@dataclass(frozen=True)
class Threshold:
    """A row goes to people if its confidence is below `least`; None: every row does, for `reason`.

    source: whose labelled rows it was chosen on; rows: how many. share: of those rows, how many went to people. exact,
    critical, confidence: what the policy promises of the rows that the machine keeps, None where it promises nothing.
    """

    least: float | None
    reason: str
    source: str
    rows: int
    share: float
    exact: float | None = None
    critical: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class LevelRange:
    """The range of levels around the machine's that holds the human's with this `confidence`.

    It grows by the likelier neighbour until its calibrated probability is above `reach`; 1: to all levels. source:
    whose labelled rows `reach` was chosen on; rows: how many; width: mean number of levels in their ranges.
    """

    reach: float
    confidence: float
    source: str
    rows: int
    width: float

    def around(self, level: int, shares: Sequence[float]) -> tuple[int, int]:
        """Return the lowest and the highest level; shares: what `calibrated` returned."""
        if self.reach >= 1:
            return 0, len(shares) - 1
        ranges = growing(level, shares)
        return next(((low, high) for low, high, held in ranges if held > self.reach), (0, len(shares) - 1))


@dataclass(frozen=True)
class Unusual:
    """A row is unusual if its vector is farther than `limit` from every centre.

    distance(x) = min over centres c of Σ (x − c)² · weights; centres float64 [K, H], weights float64 [H].
    """

    limit: float
    quantile: float
    rows: int
    centres: Floats
    weights: Floats

    def distance(self, pooled: npt.NDArray[np.float32]) -> float:
        """Return the distance of one vector float32 [H]."""
        # Shapes are those of the version alone, so a row's neighbours change no bit.
        apart = self.centres - pooled.astype(np.float64)
        return float(np.add.reduce(apart * apart * self.weights, axis=1).min())


@dataclass(frozen=True)
class Decision:
    """What a policy decides for one task version.

    policy: sha256 of the policy's file. truncated: whether a response that the model did not see whole goes to people.
    read_behind: the share of machine-scored rows that the policy wants people to score too.
    """

    policy: str
    conditions: Conditions
    temperature: Temperature | None = None
    threshold: Threshold | None = None
    level_range: LevelRange | None = None
    unusual: Unusual | None = None
    truncated: bool = False
    read_behind: float = 0.0

    @classmethod
    def parse(cls, data: bytes, where: str) -> Decision:
        """Read the file. Raises InputError naming the key that is wrong."""
        try:
            values = json.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: it is not JSON") from error
        if not isinstance(values, dict):
            raise InputError(f"{where}: it is not a JSON object")
        table = Table(values, where)
        parts = {name: table.table(name) for name in ("temperature", "threshold", "level_range", "unusual")}
        made = cls(
            policy=table.text("policy"),
            conditions=Conditions.of(table.table("conditions") or Table({}, where)),
            temperature=_temperature(parts["temperature"]),
            threshold=_threshold(parts["threshold"]),
            level_range=_level_range(parts["level_range"]),
            unusual=_unusual(parts["unusual"]),
            truncated=table.flag("truncated"),
            read_behind=table.share("read_behind"),
        )
        table.refuse_others()
        if made.threshold is not None and made.threshold.least is not None and made.temperature is None:
            raise InputError(f"{where}: a threshold needs a temperature, which is missing")
        if made.level_range is not None and made.temperature is None:
            raise InputError(f"{where}: a level_range needs a temperature, which is missing")
        return made

    def to_json(self) -> bytes:
        """Return what `parse` reads; equal decisions are equal bytes."""
        values: dict[str, Any] = {"policy": self.policy, "truncated": self.truncated, "read_behind": self.read_behind}
        values["conditions"] = self.conditions.as_json()
        for name in ("temperature", "threshold", "level_range"):
            if (part := getattr(self, name)) is not None:
                values[name] = {key: value for key, value in asdict(part).items() if value is not None}
        if self.unusual is not None:
            numbers = {name: getattr(self.unusual, name) for name in ("limit", "quantile", "rows")}
            arrays = {"centres": self.unusual.centres.tolist(), "weights": self.unusual.weights.tolist()}
            values["unusual"] = {**numbers, **arrays}
        return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def calibrated(probabilities: Sequence[float], temperature: float) -> list[float]:
    """Return p^(1/T) / Σ p^(1/T), of one row's probabilities.

    It is computed number by number, so that a row's neighbours change no bit.
    """
    power = 1.0 / temperature
    scaled = [math.pow(p, power) for p in probabilities]
    total = sum(scaled)
    return [one / total for one in scaled]


def growing(level: int, shares: Sequence[float]) -> Iterator[tuple[int, int, float]]:
    """Yield ranges of levels from the machine's alone to all: the lowest, the highest, and their probability together.

    Each is the one before and its likelier neighbour, the lower one on a tie. shares: what `calibrated` returned.
    """
    low = high = level
    held = shares[level]
    yield low, high, held
    while high - low + 1 < len(shares):
        if low > 0 and (high + 1 == len(shares) or shares[low - 1] >= shares[high + 1]):
            low -= 1
            held += shares[low]
        else:
            high += 1
            held += shares[high]
        yield low, high, held


def _temperature(table: Table | None) -> Temperature | None:
    if table is None:
        return None
    made = Temperature(
        table.number("value", _LEAST_TEMPERATURE, 100), table.choice("source", SOURCES), table.whole("rows", 0, 1 << 40)
    )
    table.refuse_others()
    return made


def _threshold(table: Table | None) -> Threshold | None:
    if table is None:
        return None
    reasons = (Reason.LOW_CONFIDENCE.value, Reason.NEW_TASK.value)
    made = Threshold(
        least=table.optional_share("least"),
        reason=table.choice("reason", reasons),
        source=table.choice("source", SOURCES),
        rows=table.whole("rows", 0, 1 << 40),
        share=table.share("share"),
        **{key: table.optional_share(key) for key in ("exact", "critical", "confidence")},
    )
    table.refuse_others()
    return made


def _level_range(table: Table | None) -> LevelRange | None:
    if table is None:
        return None
    made = LevelRange(
        reach=table.share("reach"),
        confidence=table.share("confidence"),
        source=table.choice("source", SOURCES),
        rows=table.whole("rows", 0, 1 << 40),
        width=table.number("width", 0, 1 << 20),
    )
    table.refuse_others()
    return made


def _unusual(table: Table | None) -> Unusual | None:
    if table is None:
        return None
    centres, weights = table.matrix("centres", _MOST_CENTRES, _MOST_WIDTH), table.matrix("weights", 0, _MOST_WIDTH)
    if centres.shape[1] != len(weights) or (weights < 0).any():
        raise InputError(f"{table.where}: centres are as wide as weights, and no weight is below 0")
    made = Unusual(
        table.number("limit", 0, 1e300), table.share("quantile"), table.whole("rows", 0, 1 << 40), centres, weights
    )
    table.refuse_others()
    return made
