"""Values of rows → independent observations: single rows, or the means of clusters.

Rows of one class or school err together. What a detector bets on must be independent, so where rows name their cluster
an observation is the mean of what one cluster brought within a week of its first row. A cluster that comes again later
is a new observation.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np

from scoremux_evidence.rows.table import Floats, Rows

_SPAN_DAYS = 7


@dataclass(frozen=True)
class Observations:
    """Independent values in the order of their first days.

    Attributes:
        sums, rows: The sum of each observation's values, and of how many rows it is, [U].
        days: The first day of each, as YYYY-MM-DD, in order, [U].
    """

    sums: Floats
    rows: Floats
    days: list[str]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> Floats:
        """The mean of each observation, [U]."""
        return self.sums / self.rows

    def counts(self) -> Floats:
        """Return how many rows of each observation have something, and how many rows there are, [U, 2]."""
        return np.stack([self.sums, self.rows], axis=1)

    def take(self, part: slice) -> "Observations":
        """Return some of them, in the same order."""
        return Observations(self.sums[part], self.rows[part], self.days[part])

    def until(self, day: str) -> int:
        """Return how many observations began on that day or before it."""
        return int(np.searchsorted(self.days, day, side="right"))

    def mean(self) -> float:
        """Return the mean of all rows."""
        return float(self.sums.sum() / self.rows.sum()) if len(self) else 0.0

    def independent_rows(self) -> float:
        """Return how many independent rows tell as much about a share as these do; all rows at most."""
        mean = self.mean()
        rows = float(self.rows.sum())
        if len(self) < 2 or not 0 < mean < 1:
            return rows
        off = float((self.rows**2 * (self.values - mean) ** 2).sum()) * len(self) / (len(self) - 1)
        return min(rows, mean * (1 - mean) * rows**2 / max(off, 1e-9))


def single_rows(rows: Rows, values: Floats) -> Observations:
    """Return the value of each row as an observation of its own. rows: in the order of their days."""
    return Observations(values, np.ones(len(values)), rows.day.tolist())


def cluster_means(rows: Rows, values: Floats) -> Observations:
    """Return the mean of each cluster's values within a week of its first. Rows without a cluster are one a day."""
    first: dict[int, date] = {}
    sums: dict[tuple[int, date], list[float]] = {}
    for name, cluster, value in zip(rows.day.tolist(), rows.cluster.code.tolist(), values.tolist(), strict=True):
        day = date.fromisoformat(name)
        begun = first.get(cluster)
        if begun is None or (day - begun).days >= _SPAN_DAYS or cluster < 0:
            first[cluster] = begun = day
        total = sums.setdefault((cluster, begun), [0.0, 0.0])
        total[0] += value
        total[1] += 1
    of_day = sorted(sums.items(), key=lambda item: item[0][1])
    total, count = np.array([both for _, both in of_day], float).reshape(-1, 2).T
    return Observations(total, count, [begun.isoformat() for (_, begun), _ in of_day])
