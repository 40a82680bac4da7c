"""What every rater uses: the queues, the response being read, and the comparison with the machine afterwards."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select
from starlette.responses import Response

from scoremux_review.database.accounts import choose_queue
from scoremux_review.database.schema import decisions, rows
from scoremux_review.database.schema import queues as queue_table
from scoremux_review.desk_policy import Policy
from scoremux_review.errors import LeaseLostError, NotAllowedError, ReviewError, TooLateError
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import human_decisions as deciding
from scoremux_review.reading import insight, similar
from scoremux_review.reading import queues as leasing
from scoremux_review.reading.items import anchors_of, item_of, questions

_KEYED_LEVELS = 10


def queues(visit: Visit) -> Response:
    """Show what waits, by task and reason."""
    with visit.desk.database.read() as connection:
        listed = leasing.listed(connection, visit.reader.adjudicates)
        held = leasing.current(connection, visit.person.id)
        asked = questions(connection)
    return visit.show("queues.html", queues=listed, held=held, questions=asked)


def start(visit: Visit) -> Response:
    """Choose a queue and read from it."""
    if visit.text("reason") == leasing.ADJUDICATION and not visit.reader.adjudicates:
        raise NotAllowedError("adjudication is for leaders")
    with visit.desk.database.write() as connection:
        choose_queue(connection, visit.person, visit.text("task"), visit.text("reason"))
    return see("/read")


def read(visit: Visit) -> Response:
    """Show the response this person has, or lease the next."""
    person = visit.person
    return _next(visit, person.task, person.reason, "")


def decide(visit: Visit) -> Response:
    """Save a decision; the script gets the next response at once, a browser is sent on to it."""
    said = deciding.Judgement(visit.number("level"), visit.text("code"), visit.text("note"), visit.texts("also"))
    message = ""
    database = visit.desk.database
    with database.write() as connection:
        policy = Policy.load(connection)
        try:
            deciding.decide(connection, visit.reader, visit.text("token"), said, policy, database.now())
        except LeaseLostError as error:
            message = f"{str(error).capitalize()}."
        if visit.by_script:
            taken = _take(connection, visit, visit.person.task, visit.person.reason, policy)
    if not visit.by_script:
        return see("/read") if not message else _next(visit, visit.person.task, visit.person.reason, message)
    return visit.show("read.html", message=message, **taken)


def undo(visit: Visit) -> Response:
    """Take back the last decision and show its response again."""
    database, person = visit.desk.database, visit.person
    message, task, reason = "Undone.", person.task, person.reason
    with database.write() as connection:
        try:
            deciding.undo(connection, visit.reader, Policy.load(connection), database.now())
            held = leasing.current(connection, person.id)
            if held is not None and not ((not task or task == held.task) and (not reason or reason == held.reason)):
                task, reason = held.task, held.reason
                choose_queue(connection, person, task, reason)
        except TooLateError as error:
            message = f"{str(error).capitalize()}."
    return _next(visit, task, reason, message)


def alert(visit: Visit) -> Response:
    """Raise an alert for the response being read."""
    database = visit.desk.database
    message = "Alert raised: the leaders see it now."
    with database.write() as connection:
        try:
            deciding.raise_alert(connection, visit.reader, visit.text("token"), database.now())
        except LeaseLostError as error:
            message = f"{str(error).capitalize()}."
    return _next(visit, visit.person.task, visit.person.reason, message)


def begin_compare(visit: Visit) -> Response:
    """Note that this person looks at the machine's score of their last response, and show it."""
    database = visit.desk.database
    with database.write() as connection:
        if Policy.load(connection).machine == "never":
            raise NotAllowedError("this programme does not show the machine's score to raters")
        last = deciding.last_decision(connection, visit.person.id)
        if last is None:
            raise ReviewError("there is no decision to compare")
        deciding.compare(connection, visit.reader, last.id, database.now())
    return see("/compare") if not visit.by_script else compare(visit)


def compare(visit: Visit) -> Response:
    """Show the last decision beside the machine's score: only after `begin_compare` has noted it."""
    with visit.desk.database.read() as connection:
        last = deciding.last_decision(connection, visit.person.id)
        if last is None or not last.compared:
            raise NotAllowedError("this comparison has not been asked for")
        row = connection.execute(select(rows).where(rows.c.id == last.row)).one()
        item = item_of(connection, row.task)
    desk = visit.desk
    why = insight.explain(desk.database, desk.scorer, row.task, row.text, row.level)
    return visit.show("compare.html", last=last, row=row, item=item, machine=_machine(row), why=why)


def keys(visit: Visit) -> Response:
    """Explain the keys."""
    return visit.show("help.html")


def _next(visit: Visit, task: str, reason: str, message: str) -> Response:
    with visit.desk.database.write() as connection:
        taken = _take(connection, visit, task, reason, Policy.load(connection))
    return visit.show("read.html", message=message, **taken)


def _take(connection: Connection, visit: Visit, task: str, reason: str, policy: Policy) -> dict[str, Any]:
    """Return what the reading page shows. Only what this person may see is in it."""
    now = visit.desk.database.now()
    read = leasing.take(connection, visit.reader, task, reason, policy, now)
    last = deciding.last_decision(connection, visit.person.id)
    recent = last if last is not None and now - last.at <= policy.undo_s else None
    shown: dict[str, Any] = {
        "read": read,
        "task": task,
        "reason": reason,
        "last": recent,
        "last_points": item_of(connection, recent.task).points(recent.level)
        if recent and recent.level is not None
        else "",
        "may_compare": policy.machine != "never",
    }
    if read is None:
        return shown
    text = connection.execute(select(rows.c.text).where(rows.c.id == read.row)).scalar_one()
    shown |= {
        "text": text,
        "item": item_of(connection, read.task),
        "anchors": anchors_of(connection, read.task),
        "members": [_member(text, one) for one in leasing.members(connection, read.id)],
        "machine": None,
        "ratings": [],
        "keyed": _KEYED_LEVELS,
        "queue": connection.execute(
            select(queue_table).where(queue_table.c.task == read.task, queue_table.c.reason == read.reason)
        ).one(),
    }
    if policy.machine == "before" and read.kind in ("first", "validity"):
        shown["machine"] = _machine(connection.execute(select(rows).where(rows.c.id == read.row)).one())
    if read.kind == "adjudication":
        shown["ratings"] = _ratings(connection, read)
    return shown


def _member(text: str, read: Any) -> dict[str, Any]:
    """Return a group's member; exact: it differs in nothing but white space."""
    pieces = list(similar.differences(text, read.text))
    exact = similar.normal(text) == similar.normal(read.text)
    return {"token": read.token, "pieces": pieces, "exact": exact}


def _ratings(connection: Connection, read: Any) -> list[Any]:
    """Return the two ratings that differ, without names."""
    query = select(decisions.c.level, decisions.c.code, decisions.c.note).where(
        decisions.c.row == read.row, decisions.c.undone.is_(False), decisions.c.kind.in_(("first", "second"))
    )
    return list(connection.execute(query.order_by(decisions.c.id.desc()).limit(2)))[::-1]


def _machine(row: Any) -> dict[str, Any] | None:
    """Return the machine's score, None if it gave none."""
    if row.level < 0:
        return None
    probabilities = json.loads(row.probabilities)
    confidence = row.confidence if row.confidence is not None else max(probabilities, default=None)
    return {
        "level": row.level,
        "probabilities": probabilities,
        "confidence": confidence,
        "calibrated": row.confidence is not None,
        "level_low": row.level_low,
        "level_high": row.level_high,
        "condition": row.condition,
        "route": row.route,
    }
