"""Tasks that two humans read, with a known truth: how often a shared threshold of `within_of_humans` is broken."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scoremux_assess.calibration.fit import fit
from scoremux_assess.calibration.labelled_scores import Ints, LabelledScores
from scoremux_decide.policy import ScoringPolicy

HUMANS = 0.88
"""How often two humans agree."""


@dataclass(frozen=True)
class MadeTask:
    """A task of three levels. right: how often the machine gives the human's; None: as often as it is confident."""

    right: float | None = None
    sure: float = 0.9

    def draw(self, rows: int, random: np.random.Generator, double: float = 1.0) -> LabelledScores:
        """Return rows. double: the share of them that a second human reads."""
        confidence = np.clip(random.beta(self.sure * 12, (1 - self.sure) * 12, rows), 0.4, 0.999)
        level = random.integers(0, 3, rows)
        rest = (1 - confidence)[:, None] / 2
        probabilities = np.where(np.arange(3) == level[:, None], confidence[:, None], rest)
        chance = confidence if self.right is None else self.right
        human = _another(level, random.random(rows) >= chance, random)
        second = _another(human, random.random(rows) >= HUMANS, random).astype(np.float64)
        second[random.random(rows) >= double] = np.nan
        return LabelledScores(probabilities, level, human, second)


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
            confidence = scores.calibrated(temperature.value)[np.arange(later), scores.level]
            keeps = confidence >= (2.0 if threshold.least is None else threshold.least)
            kept[place, column] = keeps.mean()
            lost[place, column] = ((scores.second == scores.human)[keeps] * 1.0 - (scores.distance == 0)[keeps]).sum()
    excess = lost - within * kept * later
    shares = dict(zip(tasks, kept.mean(axis=0).tolist(), strict=True))
    return Outcome(shares, float((excess > 0).mean()), float((excess.sum(axis=1) > 0).mean()))
