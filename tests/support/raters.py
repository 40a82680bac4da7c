"""Made-up raters: joint distributions of the levels of a human and a machine, and draws from them."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.labels.ratings import Ratings

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


def draws(table: Table, rows: int, times: int, seed: int) -> tuple[Ratings, npt.NDArray[np.int64]]:
    """Return `times` draws of so many rows, as kinds of rows, and the draw that each kind belongs to."""
    counts = np.random.default_rng(seed).multinomial(rows, table.ravel(), size=times)
    draw, kind = np.nonzero(counts)
    return _kinds(table, kind, counts[draw, kind]), draw


def truth(table: Table) -> Ratings:
    """Return the distribution itself, as if it were a very large draw."""
    return _kinds(table, np.arange(table.size), table.ravel() * 1e12)


def _kinds(table: Table, kind: npt.NDArray[np.int64], rows: npt.NDArray[Any]) -> Ratings:
    human, *second, machine = np.unravel_index(kind, table.shape)
    return Ratings.of(human, machine, second[0] if second else None, rows=rows)


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
