"""Alerts: responses that suggest danger to their writer or others.

Raters raise them, `scoremux score --alert` brings them, leaders see and handle them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from scoremux_batch.jobs import alerts_of
from scoremux_desk.database import log, reads
from scoremux_desk.database.connection import Database
from scoremux_desk.database.schema import (
    ALERT,
    IS_OPEN,
    PERSON,
    ROW,
    VIEW,
    Columns,
    alert_views,
    alerts,
    changed,
    found,
    inserted,
    number_of,
    people,
    rows,
    time_of,
)
from scoremux_desk.reading.task_access import TaskAccess


def add_alerts(database: Database, path: Path, by: str) -> tuple[int, int]:
    """Add the alerts that `scoremux score --alert` wrote beside its output. Raises InputError.

    Returns:
        How many are new, and how many are of rows that the database does not have.
    """
    new = unknown = 0
    for alert in alerts_of(path):
        with database.write() as connection:
            row = _row_of(connection, alert, path.name)
            if row is None:
                unknown += 1
                continue
            values = {"task": str(alert["alert_task"]), "probability": alert.get("probability")}
            new += add_alert(connection, row, by, **values)
    return new, unknown


def raise_alert(access: TaskAccess, token: str) -> None:
    """Raise an alert for the response that a rater reads. Raises LeaseLostError."""
    connection = access.connection
    read = reads.read_of_token(connection, token, access.person)
    add_alert(connection, read.row, access.by, person=access.person)


def see_alerts(access: TaskAccess, shown: Sequence[Any]) -> None:
    """Note that a leader has seen alerts, each the first time."""
    for alert in shown:
        if not number_of(access.connection, VIEW.alert == alert.id, VIEW.person == access.person):
            body = {"alert": alert.id, "person": access.person, "at": access.now}
            inserted(access.connection, alert_views, **body)
            access.log("alert seen", body, row=alert.row)


def handle_alert(access: TaskAccess, alert: int) -> None:
    """Note that an open alert is taken care of."""
    connection = access.connection
    person = access.person
    this = (ALERT.id == alert) & IS_OPEN
    if (stored := found(connection, alerts, this)) is not None:
        changed(connection, alerts, this, handled_by=person, handled_at=access.now)
        body = {"alert": alert, "person": person, "at": access.now}
        access.log("alert handled", body, row=stored.row)


def listed_alerts(connection: Connection, most: int, row: int | None = None) -> Sequence[Any]:
    """Return the alerts of a row, or all, open ones first, with name and task of the row, and who raised them."""
    query = (
        select(alerts, ROW.name, ROW.task.label("item"), PERSON.name.label("by"))
        .join(rows, ROW.id == ALERT.row)
        .outerjoin(people, PERSON.id == ALERT.person)
        .order_by(~IS_OPEN, ALERT.id.desc())
    )
    query = query if row is None else query.where(ALERT.row == row)
    return connection.execute(query.limit(most)).all()


def views_by_alert(connection: Connection) -> dict[int, list[tuple[str, float]]]:
    """Return who has seen each alert, and when."""
    query = select(alert_views, PERSON.name).join(people, PERSON.id == VIEW.person)
    views: dict[int, list[tuple[str, float]]] = {}
    for view in connection.execute(query.order_by(VIEW.at)):
        views.setdefault(view.alert, []).append((view.name, view.at))
    return views


def _row_of(connection: Connection, alert: Columns, file: str) -> int | None:
    """Return the row that an alert is of, by source and line, or by its id within its administration or scored file."""
    named = ROW.name == str(alert["id"])
    place = (ROW.source == str(alert["source"])) & (ROW.line == int(alert["line"]))
    for where in (place, ROW.administration == (alert.get("administration", file) or "")):
        row: int | None = connection.scalar(select(ROW.id).where(where, named).limit(1))
        if row is not None:
            return row
    return None


def add_alert(connection: Connection, row: int, by: str, **values: Any) -> bool:
    """Add an alert unless a person's is open already, or the same task's was there before; return whether it is new."""
    body = {"person": None, "task": "", "probability": None, **values, "at": time_of(connection)}
    same = (ALERT.row == row) & (ALERT.task == body["task"])
    same = same if body["task"] else same & IS_OPEN
    if number_of(connection, same):
        return False
    alert = inserted(connection, alerts, row=row, **body)
    log.append(connection, by, "alert", {"alert": alert, **body}, row)
    return True
