"""Alerts: raters raise them, `scoremux score --alert` brings them, leaders see and handle them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoremux_client.errors import InputError
from scoremux_files.rows.readers import read_rows
from scoremux_files.rows.writers import beside_parts
from scoremux_review.database import alert_rows, leases, log
from scoremux_review.database.connection import Connection, Database
from scoremux_review.errors import LeaseLostError
from scoremux_review.reading.supervision import Reader

_FOLDER = "alerts"


def add_alerts(database: Database, path: Path, by: str) -> tuple[int, int]:
    """Add the alerts that `scoremux score --alert` wrote beside what it scored.

    Args:
        database: Where to.
        path: The scored folder or file; its rows are in the database.
        by: Who adds them, for the record.

    Returns:
        How many are new, and how many are of rows that the database does not have.

    Raises:
        InputError: a file of alerts cannot be read.
    """
    folder = beside_parts(path, _FOLDER) if path.is_dir() else path.with_name(f"{path.name}.{_FOLDER}")
    new = unknown = 0
    for file in sorted(folder.glob("part-*.jsonl")):
        for number, alert in enumerate(read_rows(file), start=1):
            if not alert.keys() >= {"source", "line", "id", "alert_task"}:
                raise InputError(f"{file}, line {number}: not an alert that `scoremux score` wrote")
            with database.write() as connection:
                place = (str(alert["source"]), int(alert["line"]), str(alert["id"]))
                row = alert_rows.row_of_alert(connection, *place, path.name)
                if row is None:
                    unknown += 1
                    continue
                values = {"task": str(alert["alert_task"]), "probability": alert.get("probability")}
                new += _add(connection, row, by, database.now(), **values)
    return new, unknown


def raise_alert(connection: Connection, reader: Reader, token: str, now: float) -> None:
    """Raise an alert for the response that a rater reads. Raises LeaseLostError."""
    read = leases.read_of_token(connection, token)
    if read is None or read.person != reader.id:
        raise LeaseLostError("this response went to someone else in the meantime; raise the alert there, or by its id")
    _add(connection, read.row, reader.name, now, person=reader.id)


def see_alerts(connection: Connection, reader: Reader, shown: Sequence[Any], now: float) -> None:
    """Note that a leader has seen alerts."""
    for alert in shown:
        if alert_rows.add_view(connection, alert.id, reader.id, now):
            body = {"alert": alert.id, "person": reader.id, "at": now}
            log.append(connection, now, reader.name, "alert seen", body, row=alert.row)


def handle_alert(connection: Connection, reader: Reader, alert: int, now: float) -> None:
    """Note that an alert is taken care of."""
    row = alert_rows.handle_alert(connection, alert, reader.id, now)
    if row is not None:
        body = {"alert": alert, "person": reader.id, "at": now}
        log.append(connection, now, reader.name, "alert handled", body, row=row)


def _add(connection: Connection, row: int, by: str, now: float, **values: Any) -> bool:
    alert = alert_rows.add_alert(connection, row, now, **values)
    if alert is not None:
        body = {"alert": alert, "person": None, "task": "", "probability": None, **values, "at": now}
        log.append(connection, now, by, "alert", body, row=row)
    return alert is not None
