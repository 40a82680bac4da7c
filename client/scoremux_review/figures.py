"""Figures for leaders: progress, and how raters agree with each other, with known scores, with the machine.

The statistics and their intervals are those of `scoremux_assess`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, select

from scoremux_assess.agreement.intervals import Figure, estimates
from scoremux_assess.agreement.ratings import Ratings
from scoremux_assess.agreement.statistics import BY_NAME
from scoremux_review.database.schema import decisions, people, reads, rows

KINDS = {
    "raters": "Raters with each other",
    "validity": "Raters with validity papers",
    "machine": "Raters with the machine",
}
"""What is compared with what a rater gave."""

GROUPINGS = {"all": "All together", "rater": "By rater", "task": "By task", "week": "By week"}

_SHOWN = ("exact", "adjacent", "qwk", "smd")
_FEW = 10


@dataclass(frozen=True)
class Line:
    """The agreement of one group. enough: whether there are rows enough to show figures."""

    group: str
    n: int
    figures: dict[str, Figure]

    @property
    def enough(self) -> bool:
        return self.n >= _FEW


@dataclass(frozen=True)
class Pair:
    """What a rater gave a response, and what it is compared with."""

    rater: str
    task: str
    at: float
    given: int
    other: int

    def group(self, by: str) -> str:
        """Return the pair's group under one of `GROUPINGS`."""
        if by == "week":
            year, week, _ = datetime.fromtimestamp(self.at, timezone.utc).isocalendar()
            return f"{year} week {week:02}"
        return {"rater": self.rater, "task": self.task}.get(by, "All")


@dataclass(frozen=True)
class Place:
    """A point of a risk–coverage curve. coverage, risk: shares of all rows, and of the rows kept."""

    coverage: float
    risk: float


@dataclass(frozen=True)
class Curve:
    """Risk against coverage. policy: where the routes are now, None without read-behind. n: rows it rests on."""

    points: list[Place]
    policy: Place | None
    n: int


def pairs(connection: Connection, kind: str, by: str = "all") -> list[Pair]:
    """Return what raters gave, with what it is compared with: one of `KINDS`. Blind decisions alone.

    Two raters are one pair, or one for each of them where they are to be told apart (`by` is rater).
    """
    given = (
        select(decisions.c.row, decisions.c.level, decisions.c.at, decisions.c.task, people.c.name.label("rater"))
        .join(people, people.c.id == decisions.c.person)
        .where(decisions.c.undone.is_(False), decisions.c.level.is_not(None), decisions.c.saw == "blind")
    )
    if kind == "raters":
        return _between_raters(connection, given, both=by == "rater")
    other = rows.c.known_level if kind == "validity" else rows.c.level
    query = given.join(rows, rows.c.id == decisions.c.row).add_columns(other.label("other")).where(other >= 0)
    wanted = "validity" if kind == "validity" else "first"
    # What was decided as one of a group counts once.
    query = query.where(decisions.c.kind == wanted, decisions.c.lead.is_(None))
    return [Pair(f.rater, f.task, f.at, f.level, f.other) for f in connection.execute(query)]


def agreement(found: Sequence[Pair], by: str) -> list[Line]:
    """Return the agreement of each group, with intervals."""
    names = sorted({pair.group(by) for pair in found})
    if not names:
        return []
    number = {name: place for place, name in enumerate(names)}
    cell = np.array([number[pair.group(by)] for pair in found])
    ratings = Ratings.of([pair.other for pair in found], [pair.given for pair in found])
    made = estimates([BY_NAME[name] for name in _SHOWN], ratings, cell, len(names))
    counts = np.bincount(cell, minlength=len(names))
    return [
        Line(
            name,
            int(counts[n]),
            {s: made[s].at(n) for s in _SHOWN},
        )
        for n, name in enumerate(names)
    ]


def states(connection: Connection) -> dict[str, int]:
    """Return how many rows are in each state: machine, waiting, second, adjudication, done."""
    query = select(rows.c.state, func.count().label("n")).where(rows.c.state != "validity").group_by(rows.c.state)
    return {found.state: found.n for found in connection.execute(query)}


def by_rater(connection: Connection) -> list[Any]:
    """Return what each person decided: id, name, n, spent_s, levels (not codes), newest."""
    query = (
        select(
            people.c.id,
            people.c.name,
            func.count().label("n"),
            func.sum(decisions.c.spent_s).label("spent_s"),
            func.count(decisions.c.level).label("levels"),
            func.max(decisions.c.at).label("newest"),
        )
        .join(decisions, decisions.c.person == people.c.id)
        .where(decisions.c.undone.is_(False))
        .group_by(people.c.id, people.c.name)
        .order_by(people.c.name)
    )
    return list(connection.execute(query))


def curve(connection: Connection, task: str = "") -> Curve:
    """Return risk against coverage from the rows that humans decided blind.

    A read-behind row stands for one over its probability of being picked; a routed row for itself.
    """
    query = (
        select(rows.c.level, rows.c.confidence, rows.c.read_behind, rows.c.chosen_by, decisions.c.level.label("human"))
        .join(decisions, decisions.c.row == rows.c.id)
        .join(reads, (reads.c.id == decisions.c.read) & (reads.c.round == rows.c.round))
        .where(decisions.c.kind == "first", decisions.c.undone.is_(False), decisions.c.saw == "blind")
        .where(decisions.c.level.is_not(None), rows.c.level >= 0, rows.c.confidence.is_not(None))
    )
    found = list(connection.execute(query.where(rows.c.task == task) if task else query))
    if len(found) < _FEW:
        return Curve([], None, len(found))
    confidence = np.array([f.confidence for f in found])
    weight = np.array([1 / f.read_behind if f.read_behind else 1.0 for f in found])
    wrong = np.array([f.level != f.human for f in found], np.float64)
    order = np.argsort(-confidence, kind="stable")
    kept, missed = weight[order].cumsum(), (weight * wrong)[order].cumsum()
    every = max(1, len(found) // 200)
    points = [Place(float(kept[n] / kept[-1]), float(missed[n] / kept[n])) for n in range(_FEW - 1, len(found), every)]
    points.append(Place(1.0, float(missed[-1] / kept[-1])))
    behind = np.array([f.chosen_by == "read_behind" for f in found])
    if not behind.any():
        return Curve(points, None, len(found))
    of_machine = weight[behind].sum()
    place = Place(float(of_machine / weight.sum()), float((weight * wrong)[behind].sum() / of_machine))
    return Curve(points, place, len(found))


def _between_raters(connection: Connection, given: Select[Any], both: bool) -> list[Pair]:
    first: dict[int, Any] = {}
    query = given.add_columns(decisions.c.kind).where(decisions.c.kind.in_(("first", "second")))
    made = []
    for one in connection.execute(query.order_by(decisions.c.row, decisions.c.id)):
        if one.kind == "first":
            first[one.row] = one
        elif one.row in first:
            before = first.pop(one.row)
            made.append(Pair(one.rater, one.task, one.at, one.level, before.level))
            if both:
                made.append(Pair(before.rater, one.task, before.at, before.level, one.level))
    return made
