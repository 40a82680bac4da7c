"""Leaders' decisions about raters: tasks and quotas of each person and pool, and standings.

The connection must be the only writer (`Database.write`) wherever something is changed.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from scoremux_desk.database import accounts, programme
from scoremux_desk.database.schema import (
    ASSIGNMENT,
    DECISION,
    IS_ACTIVE,
    MEMBER,
    PERSON,
    POOL,
    STANDING,
    assignments,
    deleted,
    inserted,
    pool_members,
    pools,
)
from scoremux_desk.errors import ReviewError
from scoremux_desk.reading.task_access import PAUSED, Assignment, RaterStanding, TaskAccess, from_json

ACTIONS = {"qualified": "Let read", "again": "Qualify again", PAUSED: "Pause"}
"""What a leader decides about a rater and a task."""

IS_STOPPED = (PERSON.id == STANDING.person) & IS_ACTIVE & STANDING.state.in_(("failed", "paused"))
"""The condition that a standing has a rater wait for a leader: not qualified, or paused."""

_MOST_ASSIGNMENTS = 100
_QUOTA = re.compile("[0-9]{1,9}")


@dataclass(frozen=True)
class RaterPool:
    """Raters (accounts) who share assignments: each member has them besides their own."""

    name: str
    assignments: Sequence[Assignment]
    members: Sequence[int]


def all_pools(connection: Connection) -> list[RaterPool]:
    members: dict[int, list[int]] = {}
    for member in connection.execute(select(pool_members).order_by(MEMBER.person)):
        members.setdefault(member.pool, []).append(member.person)
    return [
        RaterPool(pool.name, from_json(pool.assignments), members.get(pool.id, []))
        for pool in connection.execute(select(pools).order_by(POOL.name))
    ]


def assign_work(access: TaskAccess, person: Any, lines: str) -> None:
    """Say which tasks a person reads. Raises ReviewError if `lines` cannot be read (`_parse`)."""
    connection = access.connection
    parsed = _parse(lines)
    deleted(connection, assignments, ASSIGNMENT.person == person.id)
    assigned = []
    for assignment in parsed:
        number = inserted(connection, assignments, person=person.id, **assignment._asdict())
        assigned.append([number, *assignment])
    body = {"person": person.id, "name": person.name, "assignments": assigned}
    access.log("work assigned", body)


def change_pool(access: TaskAccess, name: str, lines: str, members: Sequence[str]) -> None:
    """Replace a pool, or add it; without lines and members it is removed.

    Args:
        lines: As for `assign_work`; a quota is each member's.
        members: Names. Members whose account is closed stay, as long as there is a pool: open again, they would read
            all tasks.

    Raises:
        ReviewError: the name, a line or a member cannot be used, or there are members and no lines.
    """
    connection = access.connection
    accounts.check_name(name, "a pool's name")
    active = {person.name: person for person in accounts.listed(connection) if person.active}
    for member in members:
        if member not in active:
            raise ReviewError(f"you cannot choose {member[: accounts.MOST_NAME]!r}: no active account has this name")
    before = {m for pool in all_pools(connection) if pool.name == name for m in pool.members}
    after = {active[member].id for member in members}
    if after or lines.strip():
        after |= before - {person.id for person in active.values()}
    stored = _parse(lines)
    if after and not stored:
        raise ReviewError(
            "a pool with members needs tasks, since who has none reads all tasks: name tasks, or take all members out"
        )
    number = _replace_pool(connection, name, stored, sorted(after))
    body = {"pool": number, "name": name, "assignments": stored, "members": sorted(after)}
    access.log("pool", body)


def _replace_pool(connection: Connection, name: str, stored: list[Any], members: Sequence[int]) -> int | None:
    """Store a pool in place of the one of this name; return its number: the earlier one's if it is only removed."""
    number: int | None = connection.scalar(select(POOL.id).where(POOL.name == name))
    deleted(connection, pool_members, MEMBER.pool == number)
    deleted(connection, pools, POOL.id == number)
    if stored:
        number = inserted(connection, pools, name=name, assignments=json.dumps(stored))
    if members:
        connection.execute(insert(pool_members), [{"pool": number, "person": person} for person in members])
    return number


def decide_standing(access: TaskAccess, person: Any, task: str, state: str) -> None:
    """Let someone read a task, have them qualify again, or pause them: one of `ACTIONS`. Raises ReviewError."""
    connection = access.connection
    if state not in ACTIONS or task not in programme.all_items(connection):
        raise ReviewError("choose a task, and what follows")
    last = connection.scalar(select(func.max(DECISION.id)).where(DECISION.person == person.id))
    standing = RaterStanding(state, last or 0, None, None)
    TaskAccess(connection, person).set_standing(task, standing, access.by)


def _parse(lines: str) -> list[Assignment]:
    """Read lines of a task or a pattern, with a quota if there is one. Raises ReviewError naming the line."""
    parsed: list[Assignment] = []
    for line in lines.splitlines():
        words = line.split()
        if len(words) > 2 or not all(map(_QUOTA.fullmatch, words[1:])):
            raise ReviewError(f"{line.strip()[:80]!r} is not a task or a pattern, and a number of at most 9 digits")
        if words:
            parsed.append(Assignment(words[0], int(words[1]) if len(words) == 2 else None))
    if len(parsed) > _MOST_ASSIGNMENTS:
        raise ReviewError(f"there are at most {_MOST_ASSIGNMENTS} assignments; use patterns such as bio-*")
    return parsed
