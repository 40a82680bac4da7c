"""Conversations about responses: a rater puts one aside, with or without a question, and leaders answer.

Each conversation is about one reading of one rater. The connection must be the only writer (`Database.write`) wherever
something is changed.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from scoremux_desk.database import reads, responses
from scoremux_desk.database.schema import (
    ERASED,
    MESSAGE,
    PERSON,
    READ,
    REMARK,
    ROW,
    as_dict,
    inserted,
    messages,
    people,
    remarks,
    rows,
)
from scoremux_desk.database.schema import reads as read_table
from scoremux_desk.errors import ReviewError
from scoremux_desk.reading.task_access import TaskAccess

_MOST_ASIDE = 20
_MOST_MESSAGE = 2000

_NEWEST = select(func.max(MESSAGE.entry)).group_by(MESSAGE.read, MESSAGE.rater)
_OF_ERASED = select(READ.id).join(rows, ROW.id == READ.row).where(ROW.state == ERASED)
IS_UNANSWERED = (MESSAGE.person == MESSAGE.rater) & MESSAGE.entry.in_(_NEWEST) & MESSAGE.read.not_in(_OF_ERASED)
"""The condition that a message is the last word of its conversation, and the rater's."""


def put_aside(access: TaskAccess, token: str, question: str) -> None:
    """Put the response of a lease aside with all its traits, with a question to the leaders unless it is empty.

    Raises LeaseLostError, and ReviewError if this rater has put too many aside.
    """
    connection = access.connection
    person = access.person
    read = reads.read_of_token(connection, token, person, ["leased"])
    if len(reads.reads_of(connection, person, "aside")) >= _MOST_ASIDE:
        raise ReviewError("you have put {most} responses aside; decide one of them first", most=_MOST_ASIDE)
    for trait in reads.reads_of(connection, person, "leased"):
        reads.put_aside(connection, trait, access.now + access.policy.aside_s)
        access.log("put aside", {"read": trait.id}, row=trait.row)
    if question:
        _say(access, read, person, question, "asked")


def take_up(access: TaskAccess, token: str) -> Any:
    """Lease what this rater has put aside again, with the other traits; return the read. Raises LeaseLostError."""
    connection = access.connection
    person = access.person
    read = reads.read_of_token(connection, token, person, reads.PENDING)
    if read.state == "aside":
        reads.release(connection, person)
        traits = {row.id for row in responses.rows_of_traits(connection, responses.row_of(connection, read.row))}
        again = [aside.id for aside in reads.reads_of(connection, person, "aside") if aside.row in traits]
        reads.lease(connection, again, person, access.now, access.policy.lease_s)
    return read


def answer(access: TaskAccess, read: int, rater: int, text: str) -> None:
    """Answer a rater's question about a reading. Raises ReviewError without a question or an answer."""
    if not conversation(access.connection, read, rater):
        raise ReviewError("unknown question")
    if not text:
        raise ReviewError("write an answer")
    about = reads.read_where(access.connection, READ.id == read)
    _say(access, about, rater, text, "answered")


def conversation(connection: Connection, read: int, rater: int) -> Sequence[Any]:
    """Return the messages of a rater's reading, with text and the writer's name as `by`."""
    return _messages(connection, (MESSAGE.read == read) & (MESSAGE.rater == rater))


def row_messages(connection: Connection, row: int) -> Sequence[Any]:
    """Return all messages about a row, with text and the writer's name as `by`."""
    return _messages(connection, MESSAGE.read.in_(select(READ.id).where(READ.row == row)))


def last_writers(connection: Connection, rater: int) -> dict[int, int]:
    """Return who wrote the newest message of each of a rater's conversations, by read."""
    newest = select(func.max(MESSAGE.entry)).where(MESSAGE.rater == rater).group_by(MESSAGE.read)
    query = select(MESSAGE.read, MESSAGE.person).where(MESSAGE.entry.in_(newest))
    return as_dict(connection, query)


def open_questions(connection: Connection, most: int) -> Sequence[Any]:
    """Return the conversations in which the rater has the last word, the one that waits longest first.

    Columns: read, rater, the rater's name as `by`, row, and the row's name, task and text.
    """
    query = (
        select(MESSAGE.read, MESSAGE.rater, PERSON.name.label("by"), READ.row, ROW.name, ROW.task, ROW.text)
        .join(people, PERSON.id == MESSAGE.rater)
        .join(read_table, READ.id == MESSAGE.read)
        .join(rows, ROW.id == READ.row)
        .where(IS_UNANSWERED)
        .order_by(MESSAGE.entry)
    )
    return connection.execute(query.limit(most)).all()


def _messages(connection: Connection, chosen: ColumnElement[bool]) -> Sequence[Any]:
    query = select(messages, PERSON.name.label("by"), REMARK.text).join(people, PERSON.id == MESSAGE.person)
    query = query.outerjoin(remarks, REMARK.entry == MESSAGE.entry).where(chosen)
    return connection.execute(query.order_by(MESSAGE.entry)).all()


def _say(access: TaskAccess, read: Any, rater: int, text: str, action: str) -> None:
    body = {"read": read.id, "rater": rater, "person": access.person, "at": access.now}
    entry = access.log(action, body, read.row, text[:_MOST_MESSAGE])
    inserted(access.connection, messages, entry=entry, **body)
