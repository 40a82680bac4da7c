"""Decisions of people: a level or a code for a response. A decision that was undone stays, and does not count."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, select, update

from scoremux_review.database.schema import decisions, inserted, people, rows

_COUNTS = decisions.c.undone.is_(False)


def add_decision(connection: Connection, **values: Any) -> Any:
    """Keep a decision, and return it."""
    created = inserted(connection, decisions, **values)
    return connection.execute(select(decisions).where(decisions.c.id == created)).one()


def last_decision(connection: Connection, person: int) -> Any | None:
    """Return the newest decision of a person that counts; of a group, the one that the others were made with."""
    query = select(decisions).where(decisions.c.person == person, decisions.c.lead.is_(None), _COUNTS)
    return connection.execute(query.order_by(decisions.c.id.desc()).limit(1)).one_or_none()


def decided_together(connection: Connection, decision: Any) -> Sequence[Any]:
    """Return a decision and those that were made with it, in their order."""
    query = select(decisions).where((decisions.c.id == decision.id) | (decisions.c.lead == decision.id), _COUNTS)
    return connection.execute(query.order_by(decisions.c.id)).all()


def row_ratings(connection: Connection, row: int, number: int) -> dict[str, Any]:
    """Return the decisions of a row's round that count, by kind."""
    query = select(decisions).where(decisions.c.row == row, decisions.c.round == number, _COUNTS)
    return {rating.kind: rating for rating in connection.execute(query.order_by(decisions.c.id))}


def last_rater(connection: Connection, row: int) -> int | None:
    """Return who decided a row last."""
    query = select(decisions.c.person).where(decisions.c.row == row).order_by(decisions.c.id.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none()


def pace_since(connection: Connection, person: int, since: float) -> tuple[int, float]:
    """Return how many decisions of a person since then count, and the mean seconds of one."""
    mine = (decisions.c.person == person) & (decisions.c.at >= since)
    chosen = select(func.count(), func.coalesce(func.avg(decisions.c.spent_s), 0.0)).where(mine, _COUNTS)
    number, mean_s = connection.execute(chosen).one()
    return number, mean_s


def mark(connection: Connection, decision: int, **values: bool) -> None:
    """Change `undone` or `compared` of a decision."""
    connection.execute(update(decisions).where(decisions.c.id == decision).values(**values))


_CHOICES: dict[str, Callable[[Any], ColumnElement[bool]]] = {
    "rater": lambda person: decisions.c.person == person,
    "task": lambda task: decisions.c.task == task,
    "level": lambda word: cast(decisions.c.level, Text) == word if word.isdecimal() else decisions.c.code == word,
    "since": lambda at: decisions.c.at >= at,
    "until": lambda at: decisions.c.at < at,
    "fast": lambda _: decisions.c.fast.is_(True),
    "before": lambda number: decisions.c.id < number,
}
"""What a leader chooses decisions by; level: a level, or a code."""


def decisions_again(connection: Connection, chosen: Mapping[str, Any], most: int) -> Sequence[Any]:
    """Return decisions that count for reading them again, the newest one first; chosen: values by `_CHOICES`.

    A response that waits for a blind reading is left out: the person who looks at this page may be its next reader.

    Returns:
        The decision's columns, the rater's name, and of the row name, text, state, known_level, machine_level,
        final_level and final_code.
    """
    query = (
        select(decisions, people.c.name.label("rater"), rows.c.name, rows.c.text, rows.c.state, rows.c.known_level,
               rows.c.level.label("machine_level"), rows.c.final_level, rows.c.final_code)
        .join(rows, rows.c.id == decisions.c.row)
        .join(people, people.c.id == decisions.c.person)
        .where(_COUNTS, rows.c.state.not_in(("waiting", "second")))
        .where(*(_CHOICES[name](value) for name, value in chosen.items()))
        .order_by(decisions.c.id.desc())
    )  # fmt: skip
    return connection.execute(query.limit(most)).all()


def row_decisions(connection: Connection, chosen: Collection[int]) -> dict[int, list[Any]]:
    """Return all decisions about some rows that count, with the rater's name, by row."""
    query = select(decisions, people.c.name.label("rater")).join(people, people.c.id == decisions.c.person)
    by_row: dict[int, list[Any]] = {}
    for decision in connection.execute(query.where(decisions.c.row.in_(chosen), _COUNTS).order_by(decisions.c.id)):
        by_row.setdefault(decision.row, []).append(decision)
    return by_row


def totals_by_rater(connection: Connection) -> Sequence[Any]:
    """Return what each person decided: id, name, n, spent_s, levels (not codes), fast, newest."""
    query = (
        select(people.c.id, people.c.name, func.count().label("n"), func.sum(decisions.c.spent_s).label("spent_s"),
               func.count(decisions.c.level).label("levels"), func.max(decisions.c.at).label("newest"),
               func.sum(case((decisions.c.fast, 1), else_=0)).label("fast"))
        .join(decisions, decisions.c.person == people.c.id)
        .where(_COUNTS)
        .group_by(people.c.id, people.c.name)
        .order_by(people.c.name)
    )  # fmt: skip
    return connection.execute(query).all()


def blind_levels(connection: Connection, task: str = "") -> Sequence[Any]:
    """Return the levels that raters gave blind and not too fast, of one task or of all, in the order of the rows.

    Columns: row, round, task, kind, level, at, lead, size, rater, and of the row machine_level, confidence,
    known_level, chosen_by, read_behind, version and last_round.
    """
    query = (
        select(decisions.c.row, decisions.c.round, decisions.c.task, decisions.c.kind, decisions.c.level,
               decisions.c.at, decisions.c.lead, decisions.c.size, people.c.name.label("rater"),
               rows.c.level.label("machine_level"),
               rows.c.confidence, rows.c.known_level, rows.c.chosen_by, rows.c.read_behind, rows.c.version,
               rows.c.round.label("last_round"))
        .join(people, people.c.id == decisions.c.person)
        .join(rows, rows.c.id == decisions.c.row)
        .where(_COUNTS, decisions.c.level.is_not(None), decisions.c.saw == "blind")
        .where(decisions.c.fast.is_(False))
        .order_by(decisions.c.row, decisions.c.id)
    )  # fmt: skip
    return connection.execute(query.where(decisions.c.task == task) if task else query).all()
