"""Criteria from a TOML file, and the verdict of an interval on each: PASS, FAIL, or why there is none.

PASS needs the whole 95 % interval inside the limits, FAIL needs it outside one of them, and both need 10 rows. A task
whose true figure misses a criterion passes it in 5 % of cases at most, as `tests/slow/test_intervals.py` measures, and
passes all criteria together no more often than that.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, model_validator

from scoremux_evidence.figures.agreement import BY_NAME
from scoremux_evidence.figures.estimates import ONLY_MACHINE, PEOPLE, POWER, Estimates, Z, chance_beyond, rows_to_decide
from scoremux_evidence.rows.table import Floats, Values, undefined
from scoremux_files.settings import check, read_toml

MOST_WRONG = 0.05
"""The greatest share of tasks that pass a criterion which their true figure misses."""

_ALPHA = 0.025
"""On each side of a 95 % interval."""

_FEWEST_ROWS = 10
"""Fewer rows have no verdict: machines that meet a criterion would miss it with 2 rows in up to 20 % of cases."""

_QUARTILE = 0.6744897501960817 / (Z + POWER)
"""Of the normal distribution, in units of the distance that is found in 80 % of cases."""

_UNKNOWN = 20
"""A range of rows needed that is wider, greatest by least, says nothing."""

LEAST_ROWS = 30
"""With fewer rows nothing is said of how many would decide: the standard error itself is hardly known."""

GAPS = {"gap_exact": "exact", "gap_qwk": "qwk"}
"""A group's figure minus that of the other students, by the figure's own name."""

OF_GROUPS = (
    "exact", "qwk", "smd", "sd_ratio", "people", "kept_exact", "kept_qwk", "record_exact", "record_qwk",
    "human_exact", "human_qwk", "degradation_qwk", "human_mean", "human_sd", "machine_mean", "machine_sd",
    "below", "above", "far_below", "far_above",
)  # fmt: skip
"""Statistics that every group has."""

_TITLES = {"dsm": "DSM", "gap_exact": "gap in exact agreement", "gap_qwk": "gap in QWK"}

Limit = Annotated[float, Field(allow_inf_nan=False)]


class Verdict(IntEnum):
    """The verdict of an interval on a criterion; the worst of several is the least.

    Attributes:
        NOT_ENOUGH_LEVELS: People gave one level only, so nothing tells whether the machine can.
        NOT_MEASURED: There is nothing to judge, such as no second human, or too many rows were left out.
    """

    FAIL = 0
    NOT_ENOUGH_LEVELS = 1
    NOT_ENOUGH_ROWS = 2
    NOT_MEASURED = 3
    PASS = 4

    def __str__(self) -> str:
        return self.name.replace("_", " ")


class Criterion(BaseModel, extra="forbid", frozen=True, strict=True):
    """A limit on a statistic.

    Attributes:
        at_least, at_most: The limits, one of them or both.
        required: Whether a task cannot pass where it is not measured.
        least_rows: Groups with fewer rows are not judged.
    """

    statistic: str
    at_least: Limit | None = None
    at_most: Limit | None = None
    of: Literal["task", "group", "item"] = "task"
    required: bool = True
    least_rows: Annotated[int, Field(ge=1)] = 1
    source: Annotated[str, Field(pattern=r"\S")]

    @model_validator(mode="after")
    def _consistent(self) -> "Criterion":
        of_parts = {"group": (*GAPS, "dsm", *OF_GROUPS)}
        names = of_parts.get(self.of, tuple(BY_NAME))
        if self.statistic not in names:
            raise ValueError(f"no statistic {self.statistic!r}; of = {self.of!r} has {', '.join(names)}")
        if self.at_least is None and self.at_most is None:
            raise ValueError("needs at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError("at_least is greater than at_most")
        return self

    @property
    def title(self) -> str:
        """Say the criterion in words, such as `QWK ≥ 0.70`."""
        name = _TITLES.get(self.statistic) or BY_NAME[self.statistic].title
        if self.at_least is not None and self.at_most is not None:
            if self.at_least == -self.at_most:
                return f"|{name}| ≤ {_shown(self.at_most)}"
            return f"{_shown(self.at_least)} ≤ {name} ≤ {_shown(self.at_most)}"
        if self.at_least is not None:
            return f"{name} ≥ {_shown(self.at_least)}"
        return f"{name} ≤ {_shown(self.at_most or 0.0)}"


@dataclass(frozen=True)
class Judgement:
    """Verdicts of one criterion, by cell.

    Attributes:
        needed: Rows that would decide, where there are not enough; else NaN.
        p_pass, p_fail: The chance of such figures where the truth just misses the criterion, and just meets it.
    """

    verdict: npt.NDArray[np.int8]
    needed: Floats
    p_pass: Floats
    p_fail: Floats

    def take(self, cells: Values) -> "Judgement":
        """Return the verdicts of some cells."""
        return Judgement(*(column[cells] for column in vars(self).values()))


Judged = dict[Criterion, Judgement]
"""Verdicts by criterion."""


class _CriteriaFile(BaseModel):
    criterion: Annotated[list[Criterion], Field(min_length=1)]


def read_criteria(path: Path | None = None) -> tuple[Criterion, ...]:
    """Read a TOML file of criteria, or those of this package. Raises InputError naming file and criterion."""
    values = read_toml(path or Path(__file__).with_name("criteria.toml"))
    return tuple(check(_CriteriaFile, values, str(path or "criteria.toml")).criterion)


def judge(criterion: Criterion, estimate: Estimates) -> Judgement:
    """Return the verdict of each cell's interval on a criterion."""
    cells = len(estimate.value)
    inside = np.ones(cells, bool)
    outside = np.zeros(cells, bool)
    beyond = np.zeros(cells, bool)
    to_fail = np.full(cells, np.nan)
    to_pass = np.zeros(cells)
    p_pass = np.zeros(cells)
    p_fail = np.ones(cells)
    with undefined():
        for limit, sign in ((criterion.at_least, 1), (criterion.at_most, -1)):
            if limit is None:
                continue
            near, far = (estimate.low, estimate.high) if sign > 0 else (estimate.high, estimate.low)
            met = sign * (near - limit) >= 0
            past = sign * (estimate.value - limit) < 0
            rows = rows_to_decide(estimate, limit)
            inside = inside & met
            outside = outside | (sign * (far - limit) < 0)
            beyond = beyond | past
            to_fail = np.where(past, rows, to_fail)
            to_pass = np.where(met, to_pass, np.fmax(to_pass, rows))
            p_pass = np.maximum(p_pass, chance_beyond(estimate, limit, sign))
            p_fail = np.minimum(p_fail, chance_beyond(estimate, limit, -sign))
    few = estimate.n < _FEWEST_ROWS
    # A machine that gives one level only has no interval that would ever fail it, and can be right by chance alone.
    constant = estimate.one_level == ONLY_MACHINE
    fails = outside | (estimate.by_chance <= _ALPHA)
    has_interval = ~np.isnan(estimate.low)
    by_case = (
        (estimate.n < criterion.least_rows, Verdict.NOT_MEASURED),
        (few, Verdict.NOT_ENOUGH_ROWS),
        (estimate.one_level == PEOPLE, Verdict.NOT_ENOUGH_LEVELS),
        (constant & fails, Verdict.FAIL),
        (constant | ~has_interval, Verdict.NOT_ENOUGH_ROWS),
        (outside, Verdict.FAIL),
        (inside, Verdict.PASS),
    )
    cases, verdicts = zip(*by_case, strict=True)
    verdict = np.select(cases, verdicts, Verdict.NOT_ENOUGH_ROWS).astype(np.int8)
    undecided = (verdict == Verdict.NOT_ENOUGH_ROWS) & has_interval & (estimate.n >= LEAST_ROWS)
    p_fail = np.where(constant, np.minimum(p_fail, estimate.by_chance), p_fail)
    return Judgement(
        verdict=verdict,
        needed=np.where(undecided, np.where(beyond, to_fail, to_pass), np.nan),
        p_pass=np.where(few | constant, 1.0, p_pass),
        p_fail=np.where(few, 1.0, p_fail),
    )


def holm(p: Floats) -> Floats:
    """Return p-values corrected for their number (Holm 1979), [N]: all below α are wrong together in α of cases."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def fewer_fails(judged: Judged, families: Mapping[Criterion, Values] | None = None) -> Judged:
    """Return verdicts of which FAIL is corrected for the number of verdicts.

    Args:
        families: The family of each cell of each criterion, such as its task: verdicts of one family are corrected
            together, whatever the other families are. None: all cells and criteria are one family.
    """
    if not judged:
        return {}
    columns = [judgement.p_fail for judgement in judged.values()]
    p = np.concatenate(columns)
    family = np.zeros(len(p)) if families is None else np.concatenate([families[criterion] for criterion in judged])
    for name in np.unique(family):
        p[family == name] = holm(p[family == name])
    corrected = np.split(p, np.cumsum([len(column) for column in columns])[:-1])
    return {
        criterion: replace(judgement, verdict=_undecided(judgement, Verdict.FAIL, p_fail), p_fail=p_fail)
        for (criterion, judgement), p_fail in zip(judged.items(), corrected, strict=True)
    }


def fewer_passes(judgement: Judgement) -> Judgement:
    """Return verdicts of which PASS is corrected for the number of cells."""
    p_pass = holm(judgement.p_pass)
    return replace(judgement, verdict=_undecided(judgement, Verdict.PASS, p_pass), p_pass=p_pass)


def _undecided(judgement: Judgement, verdict: Verdict, p: Floats) -> npt.NDArray[np.int8]:
    """Return the verdicts, with NOT ENOUGH ROWS in place of `verdict` where chance could explain it."""
    doubtful = (judgement.verdict == verdict) & (p > _ALPHA)
    return np.where(doubtful, Verdict.NOT_ENOUGH_ROWS, judgement.verdict).astype(np.int8)


def worst(judged: Iterable[tuple[Criterion, Judgement]], cells: int) -> Judgement:
    """Return the verdict on all criteria together, and the rows that would decide all of them; NaN if none would.

    A criterion that is not required and was not measured has no part in it; without any other, nothing was measured.
    """
    verdict = np.full(cells, Verdict.PASS, np.int8)
    needed = np.zeros(cells)
    measured = np.zeros(cells, bool)
    p_pass = np.zeros(cells)
    p_fail = np.ones(cells)
    for criterion, judgement in judged:
        counts = np.full(cells, criterion.required) | (judgement.verdict != Verdict.NOT_MEASURED)
        verdict = np.where(counts, np.minimum(verdict, judgement.verdict), verdict)
        needed = np.maximum(needed, np.where(judgement.verdict == Verdict.NOT_ENOUGH_ROWS, judgement.needed, 0))
        measured |= counts
        p_pass = np.maximum(p_pass, np.where(counts, judgement.p_pass, 0))
        p_fail = np.minimum(p_fail, np.where(counts, judgement.p_fail, 1))
    verdict = np.where(measured, verdict, Verdict.NOT_MEASURED).astype(np.int8)
    return Judgement(verdict, np.where(verdict == Verdict.NOT_ENOUGH_ROWS, needed, np.nan), p_pass, p_fail)


def rows_in_words(needed: float, rows: float) -> str:
    """Return a range of how many rows would decide, such as `400 to 1,500`; empty for none.

    The figure that `needed` is for has an error: the range is for the middle half of the likely true figures.

    >>> rows_in_words(300, 100), rows_in_words(300, 5), rows_in_words(math.nan, 100), rows_in_words(0, 100)
    ('150 to 880', 'unknown', '', '')
    """
    if not needed > 0 or math.isnan(rows):
        return ""
    distance = math.sqrt(rows / needed)  # of figure and limit, in units of what would need no more rows
    fewest = max(rows / (distance + _QUARTILE) ** 2, rows + 1)
    most = rows / max(distance - _QUARTILE, 1e-6) ** 2
    if most > _UNKNOWN * fewest:
        return "unknown"
    low, high = (f"{float(f'{end:.2g}'):,.0f}" for end in (fewest, most))
    return low if low == high else f"{low} to {high}"


def _shown(limit: float) -> str:
    digits = 2 if abs(round(limit, 2) - limit) < 1e-9 else 3
    return f"{limit:.{digits}f}".replace("-", "−")
