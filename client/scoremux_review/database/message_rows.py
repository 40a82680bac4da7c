"""Conversations about responses: a rater asks, leaders answer. Each is about one reading of one rater."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select

from scoremux_review.database.schema import ERASED, messages, people, reads, remarks, rows


def add_message(connection: Connection, entry: int, **values: Any) -> None:
    """Keep a message, whose text is an entry's remark; values: read, rater, person and at."""
    connection.execute(insert(messages).values(entry=entry, **values))


def conversation(connection: Connection, read: int, rater: int) -> Sequence[Any]:
    """Return the messages of a rater's reading, with text and the writer's name as `by`."""
    return connection.execute(_written().where(messages.c.read == read, messages.c.rater == rater)).all()


def row_messages(connection: Connection, row: int) -> Sequence[Any]:
    """Return all messages about a row, with text and the writer's name as `by`."""
    of_row = select(reads.c.id).where(reads.c.row == row)
    return connection.execute(_written().where(messages.c.read.in_(of_row))).all()


def last_writers(connection: Connection, rater: int) -> dict[int, int]:
    """Return who wrote the newest message of each of a rater's conversations, by read."""
    newest = select(func.max(messages.c.entry)).where(messages.c.rater == rater).group_by(messages.c.read)
    query = select(messages).where(messages.c.entry.in_(newest))
    return {message.read: message.person for message in connection.execute(query)}


def open_questions(connection: Connection, most: int) -> Sequence[Any]:
    """Return the conversations in which the rater has the last word, the one that waits longest first.

    Columns: read, rater, the rater's name as `by`, row, and the row's name, task and text.
    """
    query = (
        select(messages.c.read, messages.c.rater, people.c.name.label("by"), reads.c.row, rows.c.name, rows.c.task,
               rows.c.text)
        .join(people, people.c.id == messages.c.rater)
        .join(reads, reads.c.id == messages.c.read)
        .join(rows, rows.c.id == reads.c.row)
        .where(messages.c.entry.in_(_unanswered()))
        .order_by(messages.c.entry)
    )  # fmt: skip
    return connection.execute(query.limit(most)).all()


def count_questions(connection: Connection) -> int:
    """Return how many questions nobody has answered."""
    return connection.execute(select(func.count()).select_from(_unanswered().subquery())).scalar_one()


def _unanswered() -> Any:
    newest = select(func.max(messages.c.entry)).group_by(messages.c.read, messages.c.rater)
    query = select(messages.c.entry).where(messages.c.entry.in_(newest), messages.c.person == messages.c.rater)
    lasting = select(reads.c.id).join(rows, rows.c.id == reads.c.row).where(rows.c.state != ERASED)
    return query.where(messages.c.read.in_(lasting))


def _written() -> Any:
    query = select(messages, people.c.name.label("by"), remarks.c.text).join(people, people.c.id == messages.c.person)
    return query.outerjoin(remarks, remarks.c.entry == messages.c.entry).order_by(messages.c.entry)
