"""Responses that a rater puts aside, alone or with a question to the leaders, and the leaders' answers.

Each function is a part of one transaction; the connection must be the only writer (`Database.write`).
"""

from __future__ import annotations

from typing import Any

from scoremux_review.database import leases, log, message_rows
from scoremux_review.database.connection import Connection
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import LeaseLostError, ReviewError
from scoremux_review.reading.supervision import Reader

_MOST_ASIDE = 20
_MOST_MESSAGE = 2000


def put_aside(
    connection: Connection, reader: Reader, token: str, question: str, policy: DeskPolicy, now: float
) -> None:
    """Put the response aside that a lease's token names.

    Args:
        connection: The transaction.
        reader: Who reads it.
        token: Of the lease.
        question: To the leaders, or empty.
        policy: Says how long it stays with its rater.
        now: Seconds since the epoch.

    Raises:
        LeaseLostError: the response is no longer this rater's.
        ReviewError: they have put too many aside.
    """
    read = leases.read_of_token(connection, token)
    if read is None or read.person != reader.id or read.state != "leased" or read.lead is not None:
        raise LeaseLostError("this response went to someone else in the meantime; it was not put aside")
    if len(leases.reads_aside(connection, reader.id)) >= _MOST_ASIDE:
        raise ReviewError(f"you have put {_MOST_ASIDE} responses aside; decide one of them first")
    leases.put_aside(connection, read, now + policy.aside_s)
    log.append(connection, now, reader.name, "put aside", {"read": read.id}, row=read.row)
    if question:
        _say(connection, reader, read, reader.id, question, "asked", now)


def take_up(connection: Connection, reader: Reader, token: str, policy: DeskPolicy, now: float) -> Any:
    """Lease a response again that this rater has put aside; return the read. Raises LeaseLostError."""
    read = leases.read_of_token(connection, token)
    if read is None or read.person != reader.id or read.state not in ("aside", "leased"):
        raise LeaseLostError("this response went to someone else in the meantime")
    if read.state == "aside":
        leases.release(connection, reader.id)
        leases.lease(connection, [read.id], reader.id, now, policy.lease_s)
    return read


def answer(connection: Connection, reader: Reader, read: int, rater: int, text: str, now: float) -> None:
    """Answer a rater's question about a reading. Raises ReviewError without a question or an answer."""
    if not message_rows.conversation(connection, read, rater):
        raise ReviewError("there is no such question")
    if not text:
        raise ReviewError("write an answer")
    _say(connection, reader, leases.read_by_id(connection, read), rater, text, "answered", now)


def _say(connection: Connection, reader: Reader, read: Any, rater: int, text: str, action: str, now: float) -> None:
    body = {"read": read.id, "rater": rater, "person": reader.id, "at": now}
    entry = log.append(connection, now, reader.name, action, body, row=read.row, remark=text[:_MOST_MESSAGE])
    message_rows.add_message(connection, entry, **body)
