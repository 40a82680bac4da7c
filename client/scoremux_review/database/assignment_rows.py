"""Who reads what: tasks and quotas of each person and pool, and where a person stands with a task."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select

from scoremux_review.database.schema import (
    assignments,
    decisions,
    inserted,
    people,
    pool_members,
    pools,
    rows,
    standings,
)

_COUNTS = decisions.c.undone.is_(False)


@dataclass(frozen=True)
class Assignment:
    """Whose responses a person reads.

    Attributes:
        tasks: A task's id, or a pattern.
        quota: Most decisions, None for no limit.
    """

    tasks: str
    quota: int | None

    def __str__(self) -> str:
        return self.tasks if self.quota is None else f"{self.tasks} {self.quota}"


@dataclass(frozen=True)
class RaterPool:
    """Raters who share assignments.

    Attributes:
        name: Of the pool.
        assignments: Each member's, besides their own.
        members: Accounts.
    """

    name: str
    assignments: Sequence[Assignment]
    members: Sequence[int]


def assignments_of(connection: Connection, person: int) -> list[Assignment]:
    """Return the assignments that a person has alone."""
    query = select(assignments.c.tasks, assignments.c.quota).where(assignments.c.person == person)
    return [Assignment(row.tasks, row.quota) for row in connection.execute(query.order_by(assignments.c.id))]


def all_assignments_of(connection: Connection, person: int) -> list[Assignment]:
    """Return the assignments that a person has alone, and those of their pools."""
    query = select(pools.c.assignments).join(pool_members, pool_members.c.pool == pools.c.id)
    shared = connection.execute(query.where(pool_members.c.person == person).order_by(pools.c.name)).scalars()
    return [*assignments_of(connection, person), *(line for lines in shared for line in _assignments(lines))]


def all_pools(connection: Connection) -> list[RaterPool]:
    """Return the pools by name."""
    members = members_by_pool(connection)
    return [
        RaterPool(pool.name, _assignments(pool.assignments), members.get(pool.id, []))
        for pool in connection.execute(select(pools).order_by(pools.c.name))
    ]


def members_by_pool(connection: Connection) -> dict[int, list[int]]:
    """Return the accounts in each pool, by the pool's number."""
    members: dict[int, list[int]] = {}
    for member in connection.execute(select(pool_members).order_by(pool_members.c.person)):
        members.setdefault(member.pool, []).append(member.person)
    return members


def _assignments(lines: str) -> list[Assignment]:
    return [Assignment(*line) for line in json.loads(lines)]


def replace_pool(
    connection: Connection, name: str, new: Iterable[tuple[str, int | None]], members: Collection[int]
) -> dict[str, Any]:
    """Replace a pool, or remove it if it has neither assignments nor members; return what the record says of it."""
    number = connection.execute(select(pools.c.id).where(pools.c.name == name)).scalar_one_or_none()
    if number is not None:
        connection.execute(delete(pool_members).where(pool_members.c.pool == number))
        connection.execute(delete(pools).where(pools.c.id == number))
    lines = [list(line) for line in new]
    if lines or members:
        number = inserted(connection, pools, name=name, assignments=json.dumps(lines))
    if members:
        connection.execute(insert(pool_members), [{"pool": number, "person": person} for person in sorted(members)])
    return {"pool": number, "name": name, "assignments": lines, "members": sorted(members)}


def replace_assignments(connection: Connection, person: int, new: Iterable[tuple[str, int | None]]) -> list[list[Any]]:
    """Replace the assignments of a person; return id, tasks and quota of the new ones."""
    connection.execute(delete(assignments).where(assignments.c.person == person))
    values = [{"person": person, "tasks": tasks, "quota": quota} for tasks, quota in new]
    if values:
        connection.execute(insert(assignments), values)
    query = select(assignments.c.id, assignments.c.tasks, assignments.c.quota).where(assignments.c.person == person)
    return [list(row) for row in connection.execute(query.order_by(assignments.c.id))]


def standings_of(connection: Connection, person: int) -> dict[str, Any]:
    """Return where a person stands, by task: state, since, exact, papers."""
    query = select(standings).where(standings.c.person == person)
    return {standing.task: standing for standing in connection.execute(query)}


def set_standing(connection: Connection, **values: Any) -> None:
    """Keep where a person stands with a task: all columns."""
    this = (standings.c.person == values["person"]) & (standings.c.task == values["task"])
    connection.execute(delete(standings).where(this))
    connection.execute(insert(standings).values(**values))


def stopped_raters(connection: Connection) -> int:
    """Return how many raters wait for a leader, each for each task: not qualified, or paused."""
    waiting = select(func.count()).select_from(standings).join(people, people.c.id == standings.c.person)
    waiting = waiting.where(standings.c.state.in_(("failed", "paused")), people.c.active.is_(True))
    return connection.execute(waiting).scalar_one()


def decided_by_task(connection: Connection, person: int) -> dict[str, int]:
    """Return how many decisions of a person count, by task; those of qualification sets do not."""
    query = select(decisions.c.task, func.count()).where(decisions.c.person == person, _COUNTS)
    query = query.where(decisions.c.kind != "qualification").group_by(decisions.c.task)
    return {row[0]: row[1] for row in connection.execute(query)}


def last_decision_id(connection: Connection, person: int) -> int:
    """Return the newest decision of a person, 0 for none."""
    query = select(func.max(decisions.c.id)).where(decisions.c.person == person)
    return connection.execute(query).scalar_one() or 0


def qualification_sets(connection: Connection) -> dict[str, list[int]]:
    """Return the papers of each task's qualification set."""
    query = select(rows.c.task, rows.c.id).where(rows.c.state == "qualification").order_by(rows.c.id)
    sets: dict[str, list[int]] = {}
    for paper in connection.execute(query):
        sets.setdefault(paper.task, []).append(paper.id)
    return sets


def papers_decided(
    connection: Connection, person: int, kind: str, before: float, since: int = 0, task: str = ""
) -> Sequence[Any]:
    """Return what a person decided about papers with a known level, the first one first.

    Args:
        connection: A connection.
        person: Who decided.
        kind: One of `PAPERS`.
        before: Only decisions before this time, in seconds since the epoch.
        since: Only decisions after this one.
        task: Of this task alone, or empty for all.

    Returns:
        The decision's columns, known_level and text of the paper.
    """
    query = (
        select(decisions, rows.c.known_level, rows.c.text)
        .join(rows, rows.c.id == decisions.c.row)
        .where(decisions.c.person == person, decisions.c.kind == kind, _COUNTS)
        .where(decisions.c.at < before, decisions.c.id > since)
        .order_by(decisions.c.id)
    )
    return connection.execute(query.where(decisions.c.task == task) if task else query).all()
