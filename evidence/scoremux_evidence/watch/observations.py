"""Values of days → independent observations: single rows, or the means of clusters.

Rows of one class or school err together. What a detector bets on must be independent, so where rows name their cluster
an observation is the mean of what one cluster brought within a week of its first row. A cluster that comes again later
is a new observation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from scoremux_evidence.watch.detectors import Floats

Named = tuple[str, float]
"""The cluster of a row, and its value."""

_SPAN_DAYS = 7


@dataclass(frozen=True)
class Observations:
    """Independent values in the order of their first days.

    Attributes:
        values, rows: The mean of each observation, and of how many rows it is, [U].
        days: The first day of each, as YYYY-MM-DD, in order, [U].
    """

    values: Floats
    rows: Floats
    days: list[str]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, part: slice) -> "Observations":
        """Return some of them, in the same order."""
        return Observations(self.values[part], self.rows[part], self.days[part])

    def until(self, day: str) -> int:
        """Return how many observations began on that day or before it."""
        return int(np.searchsorted(self.days, day, side="right"))

    def mean(self) -> float:
        """Return the mean of all rows."""
        return float(np.average(self.values, weights=self.rows)) if len(self) else 0.0

    def independent_rows(self) -> float:
        """Return how many independent rows tell as much about a share as these do; all rows at most."""
        mean = self.mean()
        rows = float(self.rows.sum())
        if len(self) < 2 or not 0 < mean < 1:
            return rows
        off = float((self.rows**2 * (self.values - mean) ** 2).sum()) * len(self) / (len(self) - 1)
        return min(rows, mean * (1 - mean) * rows**2 / max(off, 1e-9))


def single_rows(days: Mapping[str, Sequence[Named]]) -> Observations:
    """Return each value as an observation of its own. days: in order."""
    values = [value for named in days.values() for _, value in named]
    names = [day for day, named in days.items() for _ in named]
    return Observations(np.array(values, float), np.ones(len(values)), names)


def cluster_means(days: Mapping[str, Sequence[Named]]) -> Observations:
    """Return the mean of each cluster's values within a week of its first. Rows without a cluster are one a day."""
    first: dict[str, date] = {}
    sums: dict[tuple[str, date], list[float]] = {}
    for name, named in days.items():
        day = date.fromisoformat(name)
        for cluster, value in named:
            begun = first.get(cluster)
            if begun is None or (day - begun).days >= _SPAN_DAYS or not cluster:
                first[cluster] = begun = day
            total = sums.setdefault((cluster, begun), [0.0, 0.0])
            total[0] += value
            total[1] += 1
    of_day = sorted(sums.items(), key=lambda item: item[0][1])
    rows = np.array([count for _, (_, count) in of_day], float)
    values = np.array([total for _, (total, _) in of_day], float) / np.maximum(rows, 1)
    return Observations(values, rows, [begun.isoformat() for (_, begun), _ in of_day])
