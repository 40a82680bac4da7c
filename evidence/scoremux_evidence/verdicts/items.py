"""Items with several traits: the total beside people's, and whether traits tell more than the total does."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_client.contract import TOTAL
from scoremux_decide.total import Total
from scoremux_evidence.figures.estimates import Figure, Figures, student_t
from scoremux_evidence.figures.intervals import estimates
from scoremux_evidence.rows.matching import Matched
from scoremux_evidence.rows.table import Floats, Ints, Rows, own_numbers, rated, undefined, units_of
from scoremux_evidence.verdicts.totals import in_points
from scoremux_files.rows.columns import encode

OF_TOTAL = {"QWK": "qwk", "SMD": "smd", "r": "r", "Within 1": "adjacent", "Error of a person": "sem"}
"""Figures of totals by title. `sem` is the standard error of one person's total: the errors that a reader makes in
several traits are related, so those of the traits cannot be added."""

MOST_HALO, RANGE = 0.1, 0.95
"""The difference of correlations above which the machine has a halo; the share of responses whose total by a person is
within the range."""

_LEAST, _PARTS = 30, 100


@dataclass(frozen=True)
class ItemFigures:
    """Figures of an item, about the responses that have a level of each trait.

    Attributes:
        figures: Those of `OF_TOTAL`; one cell.
        reach: How far a person's total is from the machine's, at most, in a share `RANGE` of responses to come (split
            conformal, by student); NaN where there are too few.
        halo: Means of the correlations of two traits, of the responses that two people read: `people` (both traits by
            one person), `across` (each by another person), `machine`, and `difference` (machine minus across). Empty
            with fewer than 30.
        gains: By trait, r² of the machine's trait and the person's, minus r² of the machine's total and that; a trait
            tells more than the total where it is above 0 (PRMSE, Haberman 2008, which divides both by reliability).
    """

    item: str
    figures: Figures
    reach: float
    halo: dict[str, Figure]
    gains: dict[str, Figure]

    @property
    def has_halo(self) -> bool:
        return bool(self.halo) and self.halo["difference"].low > MOST_HALO


def measure_items(matched: Matched) -> list[ItemFigures]:
    """Return the figures of each item of an output; the total is the sum of its traits where no rule is known."""
    rows = matched.rows
    points = in_points(matched)
    return [
        _measure(item, [rows.task.values[code] for code in codes], *_side_by_side(rows, points, codes), matched)
        for item, codes in _items(rows)
    ]


def _items(rows: Rows) -> Iterator[tuple[str, list[int]]]:
    """Yield each item with the codes of its traits: tasks that one version scored."""
    by_version = defaultdict[int, list[int]](list)
    for version, task in np.unique(np.stack([rows.version.code, rows.task.code]), axis=1).T.tolist():
        if not rows.task.values[task].endswith(f".{TOTAL}"):
            by_version[version].append(task)
    items = defaultdict[str, set[int]](set)
    for version, codes in by_version.items():
        if version >= 0 and len(codes) > 1:
            items[rows.task.values[codes[0]].rpartition(".")[0]].update(codes)
    yield from ((item, sorted(codes)) for item, codes in sorted(items.items()))


def _side_by_side(rows: Rows, points: Floats, codes: Sequence[int]) -> tuple[Floats, Floats, Ints]:
    """Return points of machine, people and second people, [3, K, N], and weight and student, [N], of N responses."""
    chosen = np.flatnonzero(np.isin(rows.task.code, codes))
    rows, points = rows.where(chosen), points[:, chosen]
    which = rows.administration.code if "administration" in rows else np.zeros(len(rows))
    keys = np.stack([encode(rows.id).code, which])
    _, first, place = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    table = np.full((3, len(codes), len(first)), np.nan)
    table[:, np.searchsorted(codes, rows.task.code), place.ravel()] = points
    weight = np.zeros(len(first))
    np.maximum.at(weight, place.ravel(), rows.weight)  # all traits are read with the least of their probabilities
    whole = ~np.isnan(table[:2]).any(axis=(0, 1))
    units = units_of(rows)
    student = np.full(len(rows), -1) if units is None else units
    return table[:, :, whole], weight[whole], own_numbers(student[first][whole])


def _measure(
    item: str, tasks: Sequence[str], table: Floats, weight: Floats, student: Ints, matched: Matched
) -> ItemFigures:
    names = [task.removeprefix(f"{item}.") for task in tasks]
    machine, human, second = totals = totals_of(table, names, matched.totals.get(item))
    ratings = rated(human, machine, second, weight=weight, student=student)
    figures = estimates(OF_TOTAL.values(), ratings, np.zeros(len(human), np.int64), 1)
    twice = ~np.isnan(table[2]).any(axis=0)
    halo = dict[str, Figure]()
    if twice.sum() >= _LEAST:
        columns = ("people", "across", "machine", "difference")
        halo = dict(zip(columns, _jackknife(_halo, table[:, :, twice], weight[twice], student[twice]), strict=True))
    with_total = np.concatenate([table[:2], np.stack(totals[:2])[:, None]], axis=1)
    gains = _jackknife(_gains, with_total, weight, student) if len(human) >= _LEAST else []
    return ItemFigures(
        item, figures, _reach(np.abs(human - machine), weight, student), halo, dict(zip(names, gains, strict=False))
    )


def totals_of(table: Floats, names: Sequence[str], rule: Total | None) -> list[Floats]:
    """Return the totals of each scorer, [N], from points of traits, [S, K, N], of which NaN are not known."""
    if rule is None:
        return [*table.sum(axis=1)]
    rated_once, place = np.unique(table.transpose(0, 2, 1).reshape(-1, len(names)), axis=0, return_inverse=True)
    of_points = (dict(zip(names, points, strict=True)) for points in rated_once.tolist())
    found = [rule.of({name: None if p != p else p for name, p in points.items()}) for points in of_points]
    return [*np.array(found, np.float64)[place.ravel()].reshape(len(table), -1)]


def _reach(distance: Floats, weight: Floats, student: Ints) -> float:
    """Return the least distance up to which there is a share `RANGE` of the students and of one student more."""
    weight = weight / np.bincount(student)[student]
    order = np.argsort(distance)
    enough = np.cumsum(weight[order]) >= RANGE * (weight.sum() + weight.max(initial=0)) * (1 - 1e-12)
    return float(distance[order][enough.argmax()]) if enough.any() else np.nan


def _halo(table: Floats, weight: Floats) -> Floats:
    """Return the mean correlations of two traits: one person's, across two people, the machine's, and a difference."""
    traits = table.shape[1]
    r = _correlations(table.reshape(3 * traits, -1), weight).reshape(3, traits, 3, traits)
    other = ~np.eye(traits, dtype=bool)
    machine, first, second, across = (r[a, :, b][other].mean() for a, b in ((0, 0), (1, 1), (2, 2), (1, 2)))
    return np.array([(first + second) / 2, across, machine, machine - across])


def _gains(table: Floats, weight: Floats) -> Floats:
    """Return by how much a machine's trait predicts the person's better than its total does. table: total last."""
    size = table.shape[1]
    r = _correlations(table.reshape(2 * size, -1), weight)[:size, size:-1] ** 2
    return np.asarray(np.diag(r) - r[-1])


def _correlations(columns: Floats, weight: Floats) -> Floats:
    with undefined():
        covariance = np.cov(columns, aweights=weight)
        deviation = np.sqrt(np.diag(covariance))
        return np.asarray(covariance / deviation / deviation[:, None])


def _jackknife(
    statistic: Callable[[Floats, Floats], Floats], table: Floats, weight: Floats, student: Ints
) -> list[Figure]:
    """Return statistics with 95 % intervals: a hundredth of the students is left out in turn."""
    part = np.unique(student, return_inverse=True)[1] % _PARTS
    left = np.stack([statistic(table[..., part != one], weight[part != one]) for one in np.unique(part)])
    parts = len(left)
    error = np.sqrt((parts - 1) / parts * ((left - left.mean(axis=0)) ** 2).sum(axis=0))
    half = error * student_t(np.array([parts - 1.0]))
    return [Figure(v, v - h, v + h) for v, h in zip(statistic(table, weight).tolist(), half.tolist(), strict=True)]
