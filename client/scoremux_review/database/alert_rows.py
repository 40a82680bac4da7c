"""Alerts: responses that suggest danger to their writer or others, raised by raters or by a task of the programme's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from scoremux_review.database.schema import alert_views, alerts, inserted, people, rows


def add_alert(connection: Connection, row: int, now: float, **values: Any) -> int | None:
    """Add an alert of a row.

    Args:
        connection: The transaction.
        row: The row.
        now: Seconds since the epoch.
        values: The person who raises it, or the task that did, with the probability.

    Returns:
        The alert; None if a person's is open already, or if the task's was there before.
    """
    task = values.get("task", "")
    count = select(func.count()).where(alerts.c.row == row, alerts.c.task == task)
    if connection.execute(count if task else count.where(alerts.c.handled_at.is_(None))).scalar_one():
        return None
    return inserted(connection, alerts, row=row, at=now, **values)


def row_of_alert(connection: Connection, source: str, line: int, name: str, administration: str) -> int | None:
    """Return the row that an alert is of, by source and line, or by its id within a scored file."""
    placed = select(rows.c.id).where(rows.c.source == source, rows.c.line == line, rows.c.name == name)
    row: int | None = connection.execute(placed.limit(1)).scalar_one_or_none()
    if row is not None:
        return row
    named = select(rows.c.id).where(rows.c.name == name, rows.c.administration == administration)
    return connection.execute(named.limit(1)).scalar_one_or_none()


def handle_alert(connection: Connection, alert: int, person: int, now: float) -> int | None:
    """Note who handled an open alert; return its row, None if it is not open."""
    this = (alerts.c.id == alert) & alerts.c.handled_at.is_(None)
    row = connection.execute(select(alerts.c.row).where(this)).scalar_one_or_none()
    connection.execute(update(alerts).where(this).values(handled_by=person, handled_at=now))
    return row


def count_open(connection: Connection) -> int:
    """Return how many alerts nobody has handled."""
    return connection.execute(
        select(func.count()).select_from(alerts).where(alerts.c.handled_at.is_(None))
    ).scalar_one()


def urgent_alerts(connection: Connection, most: int, row: int | None = None) -> Sequence[Any]:
    """Return the alerts of a row, or all, open ones first, with name and task of the row, and who raised them."""
    query = (
        select(alerts, rows.c.name, rows.c.task.label("item"), people.c.name.label("by"))
        .join(rows, rows.c.id == alerts.c.row)
        .outerjoin(people, people.c.id == alerts.c.person)
        .order_by(alerts.c.handled_at.is_not(None), alerts.c.id.desc())
    )
    query = query if row is None else query.where(alerts.c.row == row)
    return connection.execute(query.limit(most)).all()


def add_view(connection: Connection, alert: int, person: int, now: float) -> bool:
    """Note that a person has seen an alert; return whether it was the first time."""
    count = select(func.count()).where(alert_views.c.alert == alert, alert_views.c.person == person)
    if connection.execute(count).scalar_one():
        return False
    connection.execute(insert(alert_views).values(alert=alert, person=person, at=now))
    return True


def views_by_alert(connection: Connection) -> dict[int, list[tuple[str, float]]]:
    """Return who has seen each alert, and when."""
    query = select(alert_views, people.c.name).join(people, people.c.id == alert_views.c.person)
    views: dict[int, list[tuple[str, float]]] = {}
    for view in connection.execute(query.order_by(alert_views.c.at)):
        views.setdefault(view.alert, []).append((view.name, view.at))
    return views
