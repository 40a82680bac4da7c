"""Responses with their scores: one row for each, from intake to export."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from scoremux_review.database.schema import decisions, people, rows

BLOCK_ROWS = 5_000


def insert_new_rows(connection: Connection, chunk: Sequence[dict[str, Any]]) -> tuple[int, int]:
    """Insert rows, leaving out those that are known by source, line and name.

    Returns:
        The first id that a new row may have, and how many rows are new.
    """
    first = (connection.execute(select(func.max(rows.c.id))).scalar() or 0) + 1
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    numbered = [{**row, "id": first + number} for number, row in enumerate(chunk)]
    connection.execute(dialect.insert(rows).on_conflict_do_nothing(), numbered)
    return first, connection.execute(select(func.count()).where(rows.c.id >= first)).scalar_one()


def row_of(connection: Connection, row: int) -> Any:
    """Return a row by its id, None if there is none."""
    return connection.execute(select(rows).where(rows.c.id == row)).one_or_none()


def rows_named(connection: Connection, name: str, most: int) -> Sequence[Any]:
    """Return the rows whose id in their file is `name`; no validity papers."""
    query = select(rows).where(rows.c.name == name, rows.c.state != "validity")
    return connection.execute(query.limit(most)).all()


def set_row(connection: Connection, row: int, **values: Any) -> None:
    """Change columns of a row."""
    connection.execute(update(rows).where(rows.c.id == row).values(**values))


def settled_by(connection: Connection, person: int, task: str, since: float) -> Sequence[int]:
    """Return the rows whose final score is a decision of this person's since then; `task`: of all if it is empty."""
    query = (
        select(rows.c.id)
        .join(decisions, decisions.c.id == rows.c.final_decision)
        .where(rows.c.state == "done", decisions.c.person == person, decisions.c.at >= since)
    )
    return connection.execute(query.where(rows.c.task == task) if task else query).scalars().all()


def count_states(connection: Connection) -> dict[str, int]:
    """Return how many rows are in each state: machine, waiting, second, adjudication, done."""
    query = select(rows.c.state, func.count().label("n")).where(rows.c.state != "validity").group_by(rows.c.state)
    return {state.state: state.n for state in connection.execute(query)}


def final_rows(connection: Connection) -> Iterator[Any]:
    """Yield all rows with the decision that counts: saw, at, kind, rater, and second (the other rating's id)."""
    second = _of_kind("second")
    query = (
        select(rows, decisions.c.saw, decisions.c.at, decisions.c.kind, people.c.name.label("rater"),
               second.c.id.label("second"))
        .outerjoin(decisions, decisions.c.id == rows.c.final_decision)
        .outerjoin(people, people.c.id == decisions.c.person)
        .outerjoin(second, (second.c.row == rows.c.id) & (second.c.round == rows.c.round))
        .where(rows.c.state != "validity")
        .order_by(rows.c.id)
    )  # fmt: skip
    yield from connection.execution_options(yield_per=BLOCK_ROWS).execute(query)


def labelled_rows(connection: Connection) -> Iterator[Any]:
    """Yield the rows that a human gave a level.

    Beside the row's columns: first_level, saw, size, decision and at of the first rating, second_level, and last_kind
    (of the decision that counts).
    """
    first, second = _of_kind("first"), _of_kind("second")
    query = (
        select(rows, first.c.level.label("first_level"), first.c.saw, first.c.size, first.c.id.label("decision"),
               first.c.at, second.c.level.label("second_level"), decisions.c.kind.label("last_kind"))
        .join(first, (first.c.row == rows.c.id) & (first.c.round == rows.c.round))
        .outerjoin(second, (second.c.row == rows.c.id) & (second.c.round == rows.c.round))
        .outerjoin(decisions, decisions.c.id == rows.c.final_decision)
        .where(first.c.level.is_not(None))
        .order_by(rows.c.id)
    )  # fmt: skip
    yield from connection.execution_options(yield_per=BLOCK_ROWS).execute(query)


def validity_rows(connection: Connection) -> Iterator[Any]:
    """Yield the validity papers."""
    query = select(rows).where(rows.c.state == "validity").order_by(rows.c.id)
    yield from connection.execution_options(yield_per=BLOCK_ROWS).execute(query)


def _of_kind(kind: str) -> Any:
    counted = (decisions.c.kind == kind) & decisions.c.undone.is_(False)
    return select(decisions).where(counted).subquery(kind)
