"""Pages of leaders: progress, agreement, alerts, and single responses with their history."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update
from starlette.responses import Response

from scoremux_review import figures
from scoremux_review.database import accounts as accounts
from scoremux_review.database import log
from scoremux_review.database.schema import alerts as alert_table
from scoremux_review.database.schema import decisions, people, reads, rows, tasks, unindexed
from scoremux_review.errors import ReviewError
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import queues as leasing
from scoremux_review.reading import settling
from scoremux_review.reading.items import item_of

_MOST_FOUND = 100


def progress(visit: Visit) -> Response:
    """Show what is done and what is left, by task and by rater."""
    with visit.desk.database.read() as connection:
        listed = leasing.listed(connection, adjudicates=True)
        states = figures.states(connection)
        raters = figures.by_rater(connection)
        reading = dict(_leased(connection))
        names = connection.execute(select(tasks.c.id, tasks.c.paused).order_by(tasks.c.id)).all()
    return visit.show("progress.html", queues=listed, states=states, raters=raters, reading=reading, tasks=names)


def agreement(visit: Visit) -> Response:
    """Show how raters agree with each other, with validity papers and with the machine."""
    asked = visit.request.query_params
    by = asked.get("by", "all")
    by = by if by in figures.GROUPINGS else "all"
    task = asked.get("task", "")
    found: dict[str, list[figures.Line]] = {}
    with visit.desk.database.read() as connection:
        for kind in figures.KINDS:
            pairs = [pair for pair in figures.pairs(connection, kind, by) if not task or pair.task == task]
            found[kind] = figures.agreement(pairs, by)
        curve = figures.curve(connection, task)
        names = list(connection.execute(select(tasks.c.id).order_by(tasks.c.id)).scalars())
    return visit.show(
        "agreement.html", found=found, kinds=figures.KINDS, groupings=figures.GROUPINGS, by=by, task=task,
        tasks=names, curve=curve,
    )  # fmt: skip


def alerts(visit: Visit) -> Response:
    """Show the alerts, those nobody has handled first."""
    query = (
        select(alert_table, rows.c.name, rows.c.task, rows.c.text, people.c.name.label("by"))
        .join(rows, rows.c.id == alert_table.c.row)
        .join(people, people.c.id == alert_table.c.person)
        .order_by(alert_table.c.handled_at.is_not(None), alert_table.c.id.desc())
    )
    with visit.desk.database.read() as connection:
        found = connection.execute(query.limit(_MOST_FOUND)).all()
    return visit.show("alerts.html", alerts=found)


def handle_alert(visit: Visit) -> Response:
    """Note that an alert is taken care of."""
    database = visit.desk.database
    with database.write() as connection:
        this = (alert_table.c.id == visit.number("alert")) & alert_table.c.handled_at.is_(None)
        row = connection.execute(select(alert_table.c.row).where(this)).scalar_one_or_none()
        if row is not None:
            values = {"handled_by": visit.person.id, "handled_at": database.now()}
            connection.execute(update(alert_table).where(this).values(**values))
            log.append(connection, database.now(), visit.person.name, "alert handled", {}, row=row)
    return see("/alerts")


def find_rows(visit: Visit) -> Response:
    """Find responses by their id."""
    name = visit.request.query_params.get("id", "").strip()
    query = select(rows).where(rows.c.name == name, rows.c.state != "validity") if name else None
    with visit.desk.database.read() as connection:
        found = connection.execute(query.limit(_MOST_FOUND)).all() if query is not None else []
        newest = (
            select(decisions.c.id, decisions.c.row, decisions.c.at, decisions.c.level, decisions.c.code, rows.c.name,
                   rows.c.task, rows.c.state, people.c.name.label("rater"))
            .join(rows, rows.c.id == decisions.c.row)
            .join(people, people.c.id == decisions.c.person)
            .where(decisions.c.undone.is_(False), decisions.c.kind != "validity")
            .order_by(decisions.c.id.desc())
            .limit(20)
        )  # fmt: skip
        recent = connection.execute(newest).all()
    return visit.show("rows.html", name=name, found=found, recent=recent)


def row(visit: Visit) -> Response:
    """Show a response with its scores and its history."""
    number = visit.request.path_params["row"]
    with visit.desk.database.read() as connection:
        found = connection.execute(select(rows).where(rows.c.id == number)).one_or_none()
        if found is None or (found.state == "validity" and not visit.person.may("director")):
            return visit.show("error.html", 404, message=f"there is no row {number}")
        shown: dict[str, Any] = {
            "row": found,
            "item": item_of(connection, found.task),
            "probabilities": json.loads(found.probabilities),
            "history": log.entries(connection, row=number),
            "people": [p for p in accounts.listed(connection) if p.active],
            "waits": connection.execute(
                select(reads).where(reads.c.row == number, unindexed(reads.c.state).in_(("open", "leased"))).limit(1)
            ).one_or_none(),
        }
    return visit.show("row.html", **shown)


def reopen(visit: Visit) -> Response:
    """Send a settled row to be read anew."""
    number = visit.request.path_params["row"]
    why = visit.text("why").strip()
    if not why:
        raise ReviewError("say why the row is reopened; the record keeps it")
    database = visit.desk.database
    with database.write() as connection:
        settling.reopen(connection, visit.reader, number, why[:2000], database.now())
    return see(f"/rows/{number}")


def assign(visit: Visit) -> Response:
    """Give a waiting row to one person, or to anyone."""
    number = visit.request.path_params["row"]
    database = visit.desk.database
    with database.write() as connection:
        settling.assign(connection, visit.reader, number, visit.number("person"), database.now())
    return see(f"/rows/{number}")


def _leased(connection: Any) -> Any:
    query = (
        select(people.c.name, reads.c.task)
        .join(reads, reads.c.person == people.c.id)
        .where(reads.c.state == "leased", reads.c.lead.is_(None))
    )
    return [(found.name, found.task) for found in connection.execute(query)]
