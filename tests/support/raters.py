"""Made-up raters and calibrations whose truth is known."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_decide.policy import ScoringPolicy
from scoremux_evidence.promise.fit import fit
from scoremux_evidence.promise.temperature import at_temperature
from scoremux_evidence.rows.table import Floats, Ints, Rows, rated

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Raters:
    """Raters whose levels are a latent ability with errors, cut into levels.

    levels: how many there are. machine, human: correlations of their latent scores with the ability. shift: of the
    machine's, in standard deviations. skew: how far the cuts are from the middle. spread: standard deviation of the
    machine's latent score.
    """

    levels: int
    machine: float
    human: float = 1.0
    shift: float = 0.0
    skew: float = 0.0
    spread: float = 1.0

    def table(self) -> Table:
        """Return the probability of each pair of levels, float64 [L, L], human first."""
        return self.triples().sum(axis=1)

    def triples(self) -> Table:
        """Return the probability of the levels of two humans and the machine, float64 [L, L, L]."""
        grid = np.linspace(-5, 5, 1001)
        density = np.exp(-(grid**2) / 2)
        human, machine = (
            self._given(grid, self.human, 0.0, 1.0),
            self._given(grid, self.machine, self.shift, self.spread),
        )
        table: Table = np.einsum("g,gi,gj,gk->ijk", density, human, human, machine, optimize=True)
        return table / table.sum()

    def _given(self, ability: Table, correlation: float, shift: float, spread: float) -> Table:
        """Return the probability of each level at each ability, [G, L]."""
        cuts = np.linspace(-1.2, 1.2, self.levels - 1) + self.skew if self.levels > 2 else np.array([self.skew])
        rest = max(spread * math.sqrt(1 - correlation**2), 1e-9)
        below = np.vectorize(NormalDist().cdf)((cuts - shift - spread * correlation * ability[:, None]) / rest)
        return np.diff(below, axis=1, prepend=0, append=1)


def one_sided(levels: int, wrong: float, upwards: float = 1.0) -> Table:
    """Return a machine that is wrong in a share of rows, by one level, mostly upwards; human levels are uniform."""
    table = np.zeros((levels, levels))
    for level in range(levels):
        up = wrong * upwards if level < levels - 1 else 0.0
        down = wrong * (1 - upwards) if level > 0 else 0.0
        table[level, level] = 1 - up - down
        if up:
            table[level, level + 1] = up
        if down:
            table[level, level - 1] = down
    return table / table.sum()


def draws(table: Table, rows: int, times: int, seed: int) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Return `times` draws of so many rows, and the draw that each row belongs to."""
    counts = np.random.default_rng(seed).multinomial(rows, table.ravel(), size=times)
    kind = np.repeat(np.tile(np.arange(table.size), times), counts.ravel())
    return _rows(table, kind), np.repeat(np.arange(times), rows)


def truth(table: Table) -> Rows:
    """Return the distribution itself, as a very large draw."""
    kind = np.tile(np.arange(table.size), 1 + 200_000 // table.size)
    return _rows(table, kind).plus(weight=table.ravel()[kind])


def _rows(table: Table, kind: npt.NDArray[np.int64]) -> Rows:
    human, *second, machine = np.unravel_index(kind, table.shape)
    return rated(human, machine, second[0] if second else None)


TABLES = {
    "five levels, close": Raters(5, 0.9).table(),
    "five levels, generous": Raters(5, 0.8, shift=0.2).table(),
    "four levels, skewed": Raters(4, 0.7, shift=0.1, skew=0.5).table(),
    "three levels": Raters(3, 0.85, skew=-0.5).table(),
    "six levels, close": Raters(6, 0.95, shift=0.1).table(),
    "five levels, cautious": Raters(5, 0.6, skew=0.8, spread=0.8).table(),
    "four levels, very close": Raters(4, 0.97).table(),
    "two levels": Raters(2, 0.8, skew=0.3).table(),
    "five levels, rare ones": Raters(5, 0.85, shift=0.15, skew=1.0).table(),
    "three levels, wrong upwards": one_sided(3, 0.18),
    "four levels, mostly upwards": one_sided(4, 0.1, 0.7),
    "five levels, mostly upwards": one_sided(5, 0.25, 0.9),
}
"""Distributions like those of short-answer tasks, easy and hard ones."""


def labelled_scores(probabilities: Floats, level: Ints, human: Ints, **others: Any) -> Rows:
    """Return rows of which only what is given is known, as a fit reads them. level: the machine's."""
    rows = len(human)
    unknown: dict[str, Any] = {"second": np.full(rows, np.nan), "weight": np.ones(rows)}
    unknown |= {"student": np.full(rows, -1), "text": np.full(rows, -1)}
    return Rows.of(probabilities=probabilities, machine=level, human=human, **unknown | others)


HUMANS = 0.88
"""How often two humans agree."""


@dataclass(frozen=True)
class MadeTask:
    """A task of three levels. right: how often the machine gives the human's; None: as often as it is confident."""

    right: float | None = None
    sure: float = 0.9

    def draw(self, rows: int, random: np.random.Generator, double: float = 1.0) -> Rows:
        """Return rows. double: the share of them that a second human reads."""
        confidence = np.clip(random.beta(self.sure * 12, (1 - self.sure) * 12, rows), 0.4, 0.999)
        level = random.integers(0, 3, rows)
        rest = (1 - confidence)[:, None] / 2
        probabilities = np.where(np.arange(3) == level[:, None], confidence[:, None], rest)
        chance = confidence if self.right is None else self.right
        human = _another(level, random.random(rows) >= chance, random)
        second = _another(human, random.random(rows) >= HUMANS, random).astype(np.float64)
        second[random.random(rows) >= double] = np.nan
        return labelled_scores(probabilities, level, human, second=second)


GOOD_AND_BAD = {**{f"good {n}": MadeTask() for n in range(19)}, "bad": MadeTask(right=0.5)}
OF_ALL_SORTS = {f"sure {n}": MadeTask(sure=float(sure)) for n, sure in enumerate(np.linspace(0.7, 0.95, 20))}


def _another(level: Ints, where: npt.NDArray[np.bool_], random: np.random.Generator) -> Ints:
    """Return levels that are others at some places."""
    return np.where(where, (level + random.integers(1, 3, len(level))) % 3, level)


@dataclass(frozen=True)
class Outcome:
    """Of some replications of a calibration.

    Attributes:
        kept: By task, the mean share of new rows that the machine keeps.
        broken: The share of tasks, in all replications, that keep rows and break the promise.
        together: The share of replications in which the rows of all tasks together break it.
    """

    kept: dict[str, float]
    broken: float
    together: float


def replicate(
    tasks: Mapping[str, MadeTask], rows: int, seeds: Sequence[int], double: float = 1.0, later: int = 10_000
) -> Outcome:
    """Fit a policy to new labelled rows of each task, for each seed, and count on rows that nobody labels.

    Args:
        tasks: Share a threshold.
        rows: How many labelled rows each has.
        seeds: Of the replications.
        double: The share of the rows that a second human reads.
        later: How many rows of each task are counted.
    """
    within = 0.05
    policy = ScoringPolicy.model_validate({"target": {"within_of_humans": within}, "rows": {"own": rows + 1}})
    new = {name: task.draw(later, np.random.default_rng(10**6 + n)) for n, (name, task) in enumerate(tasks.items())}
    kept, lost = np.zeros((2, len(seeds), len(tasks)))
    for place, seed in enumerate(seeds):
        random = np.random.default_rng(seed)
        decisions = fit(policy, {name: task.draw(rows, random, double) for name, task in tasks.items()}).decisions
        for column, (name, scores) in enumerate(new.items()):
            threshold, temperature = decisions[name].threshold, decisions[name].temperature
            assert threshold and temperature and scores.second is not None
            confidence = at_temperature(scores, temperature.value)[np.arange(later), scores.machine]
            keeps = confidence >= (2.0 if threshold.least is None else threshold.least)
            kept[place, column] = keeps.mean()
            lost[place, column] = (
                (scores.second == scores.human)[keeps] * 1.0 - (scores.machine == scores.human)[keeps]
            ).sum()
    excess = lost - within * kept * later
    shares = dict(zip(tasks, kept.mean(axis=0).tolist(), strict=True))
    return Outcome(shares, float((excess > 0).mean()), float((excess.sum(axis=1) > 0).mean()))
