"""95 % intervals of every statistic, in closed form: no resampling, no seed, the same bits every time.

A delete-one jackknife gives the standard error: each row (or all rows of a student) is left out in turn. Then, by the
kind of the statistic:

share: Wilson's interval; with students, of the number of independent rows that the jackknife finds, fewer where few
    students tell it (Korn and Graubard 1998).
correlation: Student's t on Fisher's z = artanh, which is nearly normal for QWK (a concordance correlation) and r.
ratio: Student's t on the logarithm.
difference: on each side the wider of Student's t and Hall's (1992) interval, which corrects for skewness: a machine
    that is seldom wrong, but always in one direction, would otherwise seem unbiased too often.
size: the same, and never below 0.

If no row changes the figure since two raters agree throughout, the jackknife knows nothing. Then 1 − 0.025^(1/n) is the
largest share of rows that could be one level off without any being seen, with 97.5 % confidence on each side, and the
interval is as wide as that share would move the figure.

A machine that gives one level throughout may be a good one by chance. A good machine (QWK 0.7 and more) finds at least
half of the rows to which people give another level: it finds none of m in 0.5^m of samples at most.
`tests/slow/test_intervals.py` measures the coverage.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_evidence.figures.agreement import BY_NAME, Statistic, dsm, pairs_of, x_spread, y_spread
from scoremux_evidence.figures.estimates import (
    ONLY_MACHINE,
    PEOPLE,
    Ends,
    Estimates,
    Figures,
    straight,
    student_t,
    wilson,
    within,
)
from scoremux_evidence.figures.sums import Pair, PairSums, Sums, balanced, of_rows, slices, sums
from scoremux_evidence.rows.table import Floats, Mask, Rows, Values, by_cell, own_numbers, rated, undefined, units_of


def estimates(chosen: Iterable[Statistic | str], ratings: Rows, cell: Values, cells: int) -> Figures:
    """Return statistics with their 95 % intervals, by name.

    Args:
        chosen: Statistics, or names of some.
        cell: Which cell a row is in, from 0, [B].
    """
    statistics = [BY_NAME[one] if isinstance(one, str) else one for one in chosen]
    ratings = balanced(ratings, cell, cells)
    pairs = pairs_of(statistics)
    whole = sums(ratings, cell, cells, pairs)
    pulls = {statistic.name: _Pulls(statistic.value(whole), statistic.scale) for statistic in statistics}
    for units in _units(ratings, cell, pairs):
        left = whole.take(units.cell).without(units.sums)
        for statistic in statistics:
            about = units.sums.of(statistic.pairs[0]).rows > 0
            pulls[statistic.name].add(units, statistic.value(left), about)
    return {statistic.name: _estimate(pulls[statistic.name], whole, statistic) for statistic in statistics}


def estimates_of_tasks(chosen: Iterable[Statistic | str], tasks: Sequence[Rows]) -> Figures:
    """Return statistics of tasks with their 95 % intervals, one task a cell.

    Args:
        tasks: With the columns human, machine, second, weight and student (a number, −1 where it is not known).
    """
    rows = Rows.joined([task.only(("human", "machine", "second", "weight", "student")) for task in tasks])
    student = own_numbers(rows.student) if (rows.student >= 0).any() else None
    ratings = rated(rows.human, rows.machine, rows.second, weight=rows.weight, student=student)
    place = np.repeat(np.arange(len(tasks)), [len(task) for task in tasks])
    return estimates(chosen, ratings, place, len(tasks))


def dsm_estimates(ratings: Rows, cell: Values, member: Mask, cells: int) -> Estimates:
    """Return the difference of standardised means of groups, one a cell, with 95 % intervals.

    Args:
        ratings: The rows of each group's whole (its task), so that a task's rows come once for each of its groups.
        cell: Which group a row is here for, from 0, [B].
        member: Whether the row is in that group, [B].
    """
    ratings = balanced(ratings, cell, cells)
    group = ratings.plus(human=np.where(member, ratings.human, np.nan))
    whole, inside = (sums(part, cell, cells, [Pair.MACHINE]) for part in (ratings, group))
    pulls = _Pulls(dsm(whole, inside), "difference")
    parts = (_units(part, cell, [Pair.MACHINE]) for part in (ratings, group))
    for units, of_group in zip(*parts, strict=True):
        rest = inside.take(units.cell).without(of_group.sums)
        pulls.add(units, dsm(whole.take(units.cell).without(units.sums), rest), of_group.sums.of(Pair.MACHINE).rows > 0)
    return _estimate(pulls, whole, BY_NAME["smd"], inside.of(Pair.MACHINE))


@dataclass(frozen=True)
class _Units:
    """Units that are drawn independently of each other: rows, or the rows of one student in one cell.

    Attributes:
        cell: The cell that each is in, [U].
        student: Who wrote the rows of each, [U]; None if rows are independent.
    """

    cell: Values
    sums: Sums
    student: Values | None = None


def _units(ratings: Rows, cell: Values, pairs: Sequence[Pair]) -> Iterator[_Units]:
    """Yield the units of all rows, a block at a time."""
    student = units_of(ratings)
    if student is None:
        for rows in slices(len(ratings)):
            yield _Units(cell[rows], of_rows(ratings.where(rows), pairs))
        return
    order = np.lexsort((student, cell))
    new = np.flatnonzero(np.diff(cell[order], prepend=-1) | np.diff(student[order], prepend=-1))
    edges = np.append(new, len(order))
    for units in slices(len(new)):
        starts = edges[units.start : min(units.stop, len(new)) + 1]
        rows = order[starts[0] : starts[-1]]
        place = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        first = order[starts[:-1]]
        of_units = of_rows(ratings.where(rows), pairs).total(place, len(first))
        yield _Units(cell[first], of_units, student[first])


class _Pulls:
    """How a statistic moves, on its scale, as each unit is left out.

    Attributes:
        moments: How many units each cell has, and the sums of their pulls to the powers 1 to 4, [5, C].
        units: How many of them the statistic is about.
        lost: The sum of how much less the value is without each unit.
    """

    def __init__(self, value: Floats, scale: str) -> None:
        self.value = value
        self.scale = scale
        self._moved: list[tuple[Values, Values, npt.NDArray[np.float32]]] = []
        self.middle = straight(value, scale)
        self.moments = np.zeros((5, len(value)))
        self.units = np.zeros(len(value))
        self.lost = np.zeros(len(value))

    def add(self, units: _Units, left: Floats, about: Mask) -> None:
        """Take in units: the value without each, and whether the statistic is about it."""
        if self.scale == "correlation":  # r without the only row of another level: 0, as QWK is
            left = np.nan_to_num(left)
        with undefined():
            pull = self.middle[units.cell] - straight(left, self.scale)
        # Rounding must not pass for a difference.
        pull[np.abs(pull) < 1e-13] = 0.0
        self.lost += self._by_cell(units, np.nan_to_num(self.value[units.cell] - left))
        self.moments += [self._by_cell(units, pull**power) for power in range(5)]
        self.units += self._by_cell(units, about)
        if units.student is not None and len(self.value) > 1:
            slope = {"correlation": 1 - self.value**2, "ratio": self.value}.get(self.scale, np.ones(len(self.value)))
            with undefined():
                moved = pull * slope[units.cell]
            moved = np.where(np.isfinite(moved), moved, 0).astype(np.float32)
            self._moved.append((units.student, units.cell, moved))

    def _by_cell(self, units: _Units, values: Values) -> Floats:
        return by_cell(units.cell, values, len(self.value))

    def shared(self) -> Floats:
        """Return `Estimates.shared`; of a cell that no student moves, in how many cells its students are, [C]."""
        if not self._moved:
            return np.ones(len(self.value))
        student, cell, moved = (np.concatenate(column) for column in zip(*self._moved, strict=True))
        of_student = np.bincount(student, moved)
        in_cells = np.bincount(student)
        columns = (moved * moved, moved * of_student[student], in_cells[student], np.ones(len(cell)))
        alone, with_others, places, units = (by_cell(cell, column, len(self.value)) for column in columns)
        moves = alone > 0
        return np.asarray(np.where(moves, with_others, places) / np.where(moves, alone, np.maximum(units, 1)))

    def error(self) -> Floats:
        """Return the standard error, [C]."""
        n, first, second, *_ = self.moments
        return np.asarray(np.sqrt((n - 1) / n * np.maximum(second - first**2 / n, 0)))


def _estimate(pulls: _Pulls, whole: Sums, statistic: Statistic, rated: PairSums | None = None) -> Estimates:
    """Return a statistic with its interval. rated: the sums of the rows that it is about; of its first pair if None."""
    rated = rated or whole.of(statistic.pairs[0])
    with undefined():
        independent = np.minimum(rated.rows, rated.n**2 / rated.ww)
        if pulls.scale == "share":
            ends = _share_interval(pulls, rated.rows, independent)
        else:
            ends = _interval(pulls, independent, statistic.step(whole.of(Pair.MACHINE), rated))
        low, high = within(pulls.scale, np.array(ends))
    nowhere = np.isnan(pulls.value) | np.isnan(low) | np.isnan(high)
    units = pulls.moments[0]
    one_level, by_chance = _constant(whole, statistic.pairs, pulls.units)
    return Estimates(
        value=pulls.value,
        low=np.where(nowhere, np.nan, low),
        high=np.where(nowhere, np.nan, high),
        n=rated.rows,
        scale=pulls.scale,
        one_level=one_level,
        by_chance=by_chance,
        shared=pulls.shared(),
        bias=-(units - 1) / np.maximum(units, 1) * pulls.lost,
    )


def _constant(whole: Sums, pairs: Sequence[Pair], units: Floats) -> tuple[Values, Floats]:
    """Return `Estimates.one_level` and `by_chance`; pairs: the raters that a statistic compares."""
    first = whole.of(pairs[0])
    people = x_spread(first) == 0
    machine = np.zeros_like(people)
    by_chance = np.ones(len(people))
    if pairs[0] == Pair.ROUTES:
        return machine.astype(np.int8), by_chance
    if Pair.HUMANS in pairs:
        people |= y_spread(first) == 0
    for pair in set(pairs) - {Pair.HUMANS}:
        p = whole.of(pair)
        constant = y_spread(p) == 0
        machine |= constant
        with undefined():
            other = (1 - p.same / p.n) * np.minimum(p.n**2 / p.ww, units)
        by_chance = np.where(constant, np.fmin(by_chance, 0.5**other), by_chance)
    one_level = np.where(people, PEOPLE, np.where(machine, ONLY_MACHINE, 0))
    return one_level.astype(np.int8), by_chance


def _interval(pulls: _Pulls, independent: Floats, step: Floats) -> Ends:
    """Return the interval of anything but a share. independent: how many rows of equal weight tell as much."""
    value = pulls.value
    reach = (1 - 0.025 ** (1 / np.maximum(independent, 1))) * step
    # The jackknife knows nothing where no unit moves the figure.
    blind = still = pulls.error() == 0
    low, high = _skewed(pulls) if pulls.scale in ("difference", "size") else _student(pulls)
    if pulls.scale == "correlation":
        # A machine that gives one level throughout has a QWK of 0 without any movement, and nothing bounds what it
        # would do with another row.
        low, high = (np.where(still, np.nan, end) for end in (low, high))
        blind = 1 - np.abs(value) < 1e-12
    elif pulls.scale == "ratio":
        reach = value * np.expm1(reach)
    return np.where(blind, value - reach, low), np.where(blind, value + reach, high)


def _student(pulls: _Pulls) -> Ends:
    half = student_t(pulls.units - 1) * pulls.error()
    back = np.tanh if pulls.scale == "correlation" else np.exp
    return back(pulls.middle - half), back(pulls.middle + half)


def _skewed(pulls: _Pulls) -> Ends:
    """Return the wider of Student's t and Hall's monotone transformation of it, on each side."""
    mean, second, third = pulls.moments[1:4] / pulls.moments[0]
    skewness = (third - 3 * mean * second + 2 * mean**3) / (second - mean**2) ** 1.5  # of the influence function
    g = skewness / np.sqrt(pulls.units)
    t = student_t(pulls.units - 1)

    def hall(x: Floats) -> Floats:
        root = np.cbrt(1 + g * (x - g / 6))
        return np.where(np.abs(g) < 1e-6, x, 3 / g * (root - 1))

    below = np.fmax(t, hall(t))
    above = np.fmin(-t, hall(-t))
    error = pulls.error()
    return pulls.value - error * below, pulls.value - error * above


def _share_interval(pulls: _Pulls, rows: Floats, independent: Floats) -> Ends:
    """Return Wilson's interval for as many independent rows as explain the jackknife's standard error.

    Args:
        independent: How many of equal weight tell as much, where the jackknife finds no error.
    """
    share = pulls.value
    units = pulls.units
    error = pulls.error()
    explaining = share * (1 - share) / (error**2 * (units - 1) / units)
    size = np.where(error > 0, np.minimum(rows, explaining), np.minimum(independent, units))
    # Degrees of freedom of the standard error, few where few units bring most of it; coverage needs the factor 2.
    freedom = np.fmin(units - 1, 2 * pulls.moments[2] ** 2 / pulls.moments[4] - 1)
    return wilson(share, size, rows, units, freedom)
