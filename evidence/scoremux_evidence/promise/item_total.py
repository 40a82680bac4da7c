"""The total of an item under test: how near it is to a person's, and how near confidences let one expect it to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_decide.total import Total
from scoremux_evidence.promise.temperature import at_temperature
from scoremux_evidence.rows.table import Floats, Rows, own_numbers
from scoremux_evidence.verdicts.items import totals_of

_DRAWS = 64


@dataclass(frozen=True)
class ItemTotal:
    """The rule of an item's total; points: of the levels of each of its traits, by the trait's task."""

    rule: Total
    points: Mapping[str, Sequence[float]]

    def under_test(
        self, tasks: Mapping[str, Rows], temperatures: Mapping[str, Floats], same: Rows, within: float
    ) -> Rows:
        """Return the responses of `same` with the errors of the total, and the confidence that it has none.

        An error is a total more than `within` points from a person's. The confidence is a share of drawn people. In
        every second draw a person is as severe in all traits, as the errors of one reader are related. It decides
        which cut is tested first, and nothing else.

        Args:
            tasks: The rows of the traits, with the columns of `scored.as_columns`.
            same: The responses that all traits have (`of_same_responses`).
        """
        draws = np.random.default_rng(0).random((_DRAWS, len(self.points), len(same)))
        draws[::2] = draws[::2, :1]
        table = np.empty((2 + _DRAWS, len(self.points), len(same)))
        for trait, (name, worth) in enumerate(self.points.items()):
            rows, points = tasks[name], np.array(worth)
            numbers, first, text = np.unique(own_numbers(rows.text), return_index=True, return_inverse=True)
            place = np.searchsorted(numbers, same.text)
            human = np.bincount(text, rows.weight * rows.human) / np.bincount(text, rows.weight)
            below = at_temperature(rows, temperatures[name])[first][place].cumsum(axis=1)[:, :-1]
            drawn = (below < draws[:, trait, :, None]).sum(axis=-1)
            table[:, trait] = points[np.stack([rows.machine[first][place], np.rint(human[place]).astype(int), *drawn])]
        names = [name.rpartition(".")[2] for name in self.points]
        machine, *people = totals_of(table, names, self.rule)
        wrong = np.abs(np.stack(people) - machine) > within + 1e-9
        return same.plus(errors=wrong[0].astype(float), confidence=1 - wrong[1:].mean(axis=0))
