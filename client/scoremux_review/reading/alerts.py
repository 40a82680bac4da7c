"""Alerts: responses that suggest danger to their writer or others."""

from __future__ import annotations

from scoremux_review.database import leases, log, ratings
from scoremux_review.database.connection import Connection
from scoremux_review.errors import LeaseLostError
from scoremux_review.reading.queues import Reader


def raise_alert(connection: Connection, reader: Reader, token: str, now: float) -> None:
    """Raise an alert for the response that a rater reads. Raises LeaseLostError."""
    read = leases.read_of_token(connection, token)
    if read is None or read.person != reader.id:
        raise LeaseLostError("this response went to someone else in the meantime; raise the alert there, or by its id")
    alert = ratings.add_alert(connection, read.row, reader.id, now)
    if alert is not None:
        log.append(
            connection, now, reader.name, "alert", {"alert": alert, "person": reader.id, "at": now}, row=read.row
        )


def handle_alert(connection: Connection, reader: Reader, alert: int, now: float) -> None:
    """Note that an alert is taken care of."""
    row = ratings.handle_alert(connection, alert, reader.id, now)
    if row is not None:
        body = {"alert": alert, "person": reader.id, "at": now}
        log.append(connection, now, reader.name, "alert handled", body, row=row)
