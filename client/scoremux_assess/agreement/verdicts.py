"""Criteria from a TOML file, and the verdict of an interval on each: PASS, FAIL or NOT ENOUGH ROWS.

PASS needs the whole 95 % interval inside the limits, FAIL needs it outside one of them; so a criterion that is not met
is passed in 2.5 % of cases at most, and a task, which must pass all criteria, no more often than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.agreement.intervals import Estimates, rows_to_decide
from scoremux_assess.agreement.ratings import Floats
from scoremux_assess.agreement.statistics import BY_NAME
from scoremux_client.errors import InputError
from scoremux_files.settings import read_toml

OF = ("task", "group", "item")
_KEYS = {"statistic", "at_least", "at_most", "of", "source"}


class Verdict(IntEnum):
    """What an interval says of a criterion; the worst of several is the least.

    NOT_MEASURED: there is nothing to judge, such as no second human.
    """

    FAIL = 0
    NOT_ENOUGH_ROWS = 1
    PASS = 2
    NOT_MEASURED = 3

    def __str__(self) -> str:
        return "–" if self is Verdict.NOT_MEASURED else self.name.replace("_", " ")


@dataclass(frozen=True)
class Criterion:
    """A limit on a statistic. of: what it is about, one of `OF`. source: where the limit comes from."""

    statistic: str
    at_least: float | None
    at_most: float | None
    of: str
    source: str

    @property
    def title(self) -> str:
        """Say the criterion in words, such as `QWK ≥ 0.70`."""
        name = "DSM" if self.statistic == "dsm" else BY_NAME[self.statistic].title
        if self.at_least is not None and self.at_most is not None:
            if self.at_least == -self.at_most:
                return f"|{name}| ≤ {_shown(self.at_most)}"
            return f"{_shown(self.at_least)} ≤ {name} ≤ {_shown(self.at_most)}"
        if self.at_least is not None:
            return f"{name} ≥ {_shown(self.at_least)}"
        return f"{name} ≤ {_shown(self.at_most or 0.0)}"


@dataclass(frozen=True)
class Judged:
    """Verdicts of one criterion, by cell. needed: rows that would decide, where there are not enough; else NaN."""

    verdict: npt.NDArray[np.int8]
    needed: Floats


def read_criteria(path: Path | None = None) -> tuple[Criterion, ...]:
    """Read a TOML file of criteria, or those of this package. Raises InputError naming file and criterion."""
    data = read_toml(path or Path(__file__).with_name("criteria.toml"))
    tables = data.get("criterion")
    if set(data) != {"criterion"} or not isinstance(tables, list) or not tables:
        raise InputError(f"{path}: a file of criteria has tables [[criterion]] and nothing else")
    return tuple(_criterion(path, number, table) for number, table in enumerate(tables, start=1))


def judge(criterion: Criterion, found: Estimates) -> Judged:
    """Return the verdict of each cell's interval on a criterion."""
    cells = len(found.value)
    inside, outside, beyond = np.ones(cells, bool), np.zeros(cells, bool), np.zeros(cells, bool)
    to_fail, to_pass = np.full(cells, np.nan), np.zeros(cells)
    with np.errstate(invalid="ignore"):
        for limit, sign in ((criterion.at_least, 1), (criterion.at_most, -1)):
            if limit is None:
                continue
            near, far = (found.low, found.high) if sign > 0 else (found.high, found.low)
            met, past, rows = sign * (near - limit) >= 0, sign * (found.value - limit) < 0, rows_to_decide(found, limit)
            inside, outside, beyond = inside & met, outside | (sign * (far - limit) < 0), beyond | past
            to_fail = np.where(past, rows, to_fail)
            to_pass = np.where(met, to_pass, np.fmax(to_pass, rows))
    verdict = np.where(outside, Verdict.FAIL, np.where(inside, Verdict.PASS, Verdict.NOT_ENOUGH_ROWS))
    verdict = np.where(np.isnan(found.low), Verdict.NOT_ENOUGH_ROWS, verdict)
    verdict = np.where(found.n == 0, Verdict.NOT_MEASURED, verdict).astype(np.int8)
    undecided = (verdict == Verdict.NOT_ENOUGH_ROWS) & ~np.isnan(found.low)
    return Judged(verdict, np.where(undecided, np.where(beyond, to_fail, to_pass), np.nan))


def worst(judged: Iterable[Judged], cells: int) -> Judged:
    """Return the verdict on all criteria together, and the rows that would decide all of them; NaN if none would."""
    verdict, needed = np.full(cells, Verdict.NOT_MEASURED, np.int8), np.zeros(cells)
    for one in judged:
        verdict = np.minimum(verdict, one.verdict)
        needed = np.maximum(needed, np.where(one.verdict == Verdict.NOT_ENOUGH_ROWS, one.needed, 0))
    return Judged(verdict, np.where(verdict == Verdict.NOT_ENOUGH_ROWS, needed, np.nan))


def rows_in_words(needed: float) -> str:
    """Return a number of rows that would decide, in two digits since it is a rough one; empty for none."""
    if math.isnan(needed):
        return ""
    if needed >= 1_000_000:
        return "over 1,000,000"
    step = 10 ** max(0, len(str(int(needed))) - 2)
    return f"{math.ceil(needed / step) * step:,}"


def _criterion(path: Path | None, number: int, table: Mapping[str, Any]) -> Criterion:
    where = f"{path or 'criteria.toml'}, criterion {number}"
    if unknown := sorted(set(table) - _KEYS):
        raise InputError(f"{where}: unknown key {unknown[0]}; the keys are {', '.join(sorted(_KEYS))}")
    of, statistic, source = table.get("of", "task"), table.get("statistic"), table.get("source")
    if of not in OF:
        raise InputError(f"{where}: of is one of {', '.join(OF)}")
    names = ("dsm", *BY_NAME) if of == "group" else tuple(BY_NAME)
    if statistic not in names:
        raise InputError(f"{where}: no statistic {statistic!r}; of = {of!r} has {', '.join(names)}")
    least, most = (_limit(where, table.get(key)) for key in ("at_least", "at_most"))
    if least is None and most is None:
        raise InputError(f"{where}: needs at_least, at_most or both")
    if least is not None and most is not None and least > most:
        raise InputError(f"{where}: at_least is greater than at_most")
    if not isinstance(source, str) or not source.strip():
        raise InputError(f"{where}: source is missing: say where the limit comes from")
    return Criterion(statistic, least, most, of, source)


def _limit(where: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{where}: at_least and at_most are numbers")
    return float(value)


def _shown(limit: float) -> str:
    return (f"{limit:.2f}" if abs(round(limit, 2) - limit) < 1e-9 else f"{limit:.4g}").replace("-", "−")
