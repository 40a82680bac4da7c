"""Decisions of people: a level or a code for a response. A decision that was undone stays, and does not count."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, select

from scoremux_desk.database.schema import (
    COUNTS,
    DECISION,
    PERSON,
    ROW,
    Columns,
    all_where,
    decisions,
    people,
    rows,
)
from scoremux_desk.errors import ReviewError

MOST_ROW = 2**63 - 1
"""The largest number that a row can have."""

_DAY_S = 86_400.0


def last_decision(connection: Connection, person: int) -> Any | None:
    """Return the newest decision of a person that counts; of a group, the one that the others were made with."""
    query = select(decisions).where(DECISION.person == person, DECISION.lead.is_(None), COUNTS)
    return connection.execute(query.order_by(DECISION.id.desc()).limit(1)).one_or_none()


def decided_together(connection: Connection, decision: Any) -> Sequence[Any]:
    """Return a decision and those that were made with it, in their order."""
    return all_where(connection, decisions, (DECISION.id == decision.id) | (DECISION.lead == decision.id), COUNTS)


def row_ratings(connection: Connection, row: int, number: int) -> Columns:
    """Return the decisions of a row's round that count, by kind."""
    ratings = all_where(connection, decisions, DECISION.row == row, DECISION.round == number, COUNTS)
    return {rating.kind: rating for rating in ratings}


def last_rater(connection: Connection, row: int) -> int | None:
    """Return who decided a row last."""
    query = select(DECISION.person).where(DECISION.row == row).order_by(DECISION.id.desc()).limit(1)
    return connection.scalar(query)


def pace_since(connection: Connection, person: int, since: float) -> tuple[int, float]:
    """Return how many decisions of a person since then count, and the mean seconds of one."""
    chosen = select(func.count(), func.coalesce(func.avg(DECISION.spent_s), 0.0)).where(
        DECISION.person == person, DECISION.at >= since, COUNTS
    )
    number, mean_s = connection.execute(chosen).one()
    return number, mean_s


_CHOICES: dict[str, Callable[[str], ColumnElement[bool]]] = {
    "rater": lambda person: DECISION.person == _number(person),
    "task": lambda task: DECISION.task == task,
    "level": lambda word: cast(DECISION.level, Text) == word if word.isdecimal() else DECISION.code == word,
    "since": lambda day: DECISION.at >= _start_of(day),
    "until": lambda day: DECISION.at < _start_of(day) + _DAY_S,
    "fast": lambda _: DECISION.fast.is_(True),
    "before": lambda decision: DECISION.id < _number(decision),
}
"""What a leader chooses decisions by; level: a level, or a code; until: that day is the last one."""


def _number(word: str) -> int:
    number = int(word)
    if not 0 <= number <= MOST_ROW:
        raise ValueError(f"{word} is no number of a row")
    return number


def _start_of(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=timezone.utc).timestamp()


def decisions_again(connection: Connection, asked: Mapping[str, str], most: int) -> Sequence[Any]:
    """Return decisions that count for reading them again, the newest one first; asked: words by `_CHOICES`.

    A response that waits for a blind reading is left out: the person who looks at this page may be its next reader.
    Raises ReviewError for a word that is not a day or a number.

    Returns:
        The decision's columns, the rater's name, and of the row name, text, state, known_level, machine_level,
        final_level and final_code.
    """
    try:
        words = {name: asked.get(name, "").strip() for name in _CHOICES}
        chosen = [_CHOICES[name](word) for name, word in words.items() if word]
    except (ValueError, OverflowError):
        raise ReviewError("a day is written as 2027-01-31, and people and pages are chosen from lists") from None
    query = (
        select(
            decisions,
            PERSON.name.label("rater"),
            ROW.name,
            ROW.text,
            ROW.state,
            ROW.known_level,
            ROW.level.label("machine_level"),
            ROW.final_level,
            ROW.final_code,
        )
        .join(rows, ROW.id == DECISION.row)
        .join(people, PERSON.id == DECISION.person)
        .where(COUNTS, ROW.state.not_in(("waiting", "second")))
        .where(*chosen)
        .order_by(DECISION.id.desc())
    )
    return connection.execute(query.limit(most)).all()


def row_decisions(connection: Connection, chosen: Collection[int]) -> dict[int, list[Any]]:
    """Return all decisions about some rows that count, with the rater's name, by row."""
    query = select(decisions, PERSON.name.label("rater")).join(people, PERSON.id == DECISION.person)
    by_row: dict[int, list[Any]] = {}
    for decision in connection.execute(query.where(DECISION.row.in_(chosen), COUNTS).order_by(DECISION.id)):
        by_row.setdefault(decision.row, []).append(decision)
    return by_row


def totals_by_rater(connection: Connection) -> Sequence[Any]:
    """Return totals of each person's decisions: id, name, n, spent_s, levels (not codes), fast, newest."""
    query = (
        select(
            PERSON.id,
            PERSON.name,
            func.count().label("n"),
            func.sum(DECISION.spent_s).label("spent_s"),
            func.count(DECISION.level).label("levels"),
            func.max(DECISION.at).label("newest"),
            func.sum(case((DECISION.fast, 1), else_=0)).label("fast"),
        )
        .join(decisions, DECISION.person == PERSON.id)
        .where(COUNTS)
        .group_by(PERSON.id, PERSON.name)
        .order_by(PERSON.name)
    )
    return connection.execute(query).all()


def blind_levels(connection: Connection, task: str = "") -> Sequence[Any]:
    """Return the levels that raters gave blind and not too fast, of one task or of all, in the order of the rows.

    Columns: row, round, task, kind, level, at, rater, and known_level of the row.
    """
    query = (
        select(
            DECISION.row,
            DECISION.round,
            DECISION.task,
            DECISION.kind,
            DECISION.level,
            DECISION.at,
            PERSON.name.label("rater"),
            ROW.known_level,
        )
        .join(people, PERSON.id == DECISION.person)
        .join(rows, ROW.id == DECISION.row)
        .where(COUNTS, DECISION.level.is_not(None), DECISION.saw == "blind")
        .where(DECISION.fast.is_(False))
        .order_by(DECISION.row, DECISION.id)
    )
    return connection.execute(query.where(DECISION.task == task) if task else query).all()
