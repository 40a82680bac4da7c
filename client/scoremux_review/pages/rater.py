"""What every rater uses: the queues, the response being read, and the comparison with the machine afterwards."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from scoremux_review.database import (
    accounts,
    assignment_rows,
    decision_rows,
    leases,
    log,
    message_rows,
    programme,
    responses,
)
from scoremux_review.database.connection import Connection
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import LeaseLostError, NotAllowedError, ReviewError, TooLateError, TooSoonError
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import conversations, human_decisions
from scoremux_review.reading.alerts import raise_alert
from scoremux_review.reading.queues import ADJUDICATION, take
from scoremux_review.reading.supervision import ELSEWHERE, TaskAccess, qualification_news

_DAY_S = 86_400.0
_FEW_TASKS = 8


def queues(visit: Visit) -> Response:
    """Show what waits: to leaders by task and reason with counts, to raters the tasks alone."""
    with visit.desk.database.read() as connection:
        waiting = leases.all_queues(connection)
        current = leases.current_read(connection, visit.person.id)
        tasks, policy = programme.all_items(connection), programme.load_policy(connection)
        aside = leases.reads_aside(connection, visit.person.id)
        writers = message_rows.last_writers(connection, visit.person.id)
        access = TaskAccess(connection, visit.reader)
    asked = visit.request.query_params.get("find", "").strip()
    found = [id_ for id_, task in tasks.items() if asked.casefold() in f"{id_}\n{task.question}".casefold()]
    mine: dict[str, Any] = {"current": current, "aside": aside, "writers": writers, "asked": asked, "found": found}
    mine["filters"] = asked or len(tasks) > _FEW_TASKS
    if visit.reader.adjudicates:
        return visit.show("queues.html", queues=waiting, tasks=tasks, **mine)
    open_tasks = {queue.task for queue in waiting if queue.waiting and queue.reason != ADJUDICATION}
    obstacles = {task: access.obstacle(task) for task in sorted(open_tasks | access.sets.keys())}
    readable = [tasks[task] for task, why in obstacles.items() if why != ELSEWHERE and (task in open_tasks or why)]
    mine |= {"obstacles": obstacles, "sets": access.sets, "standings": access.standings}
    return visit.show("tasks.html", tasks=readable, policy=policy, **mine)


def start(visit: Visit) -> Response:
    """Choose a task, or a response that was put aside, and read; leaders may choose why responses are read, too."""
    if visit.text("reason") and not visit.reader.adjudicates:
        raise NotAllowedError("only leaders choose why responses are read")
    database, person, task, reason = visit.desk.database, visit.person, visit.text("task"), visit.text("reason")
    with database.write() as connection:
        if visit.text("token"):
            policy = programme.load_policy(connection)
            read = conversations.take_up(connection, visit.reader, visit.text("token"), policy, database.now())
            task, reason = _queue_with(read, person)
        accounts.choose_queue(connection, person, task, reason)
    return see("/read")


def read(visit: Visit) -> Response:
    """Show the response this person has, or lease the next."""
    return _next(visit, visit.person.task, visit.person.reason, "")


def decide(visit: Visit) -> Response:
    """Save a decision; the script gets the next response at once, a browser is sent on to it."""
    after_ms = visit.number("after_ms")
    after_s = None if after_ms is None else after_ms / 1000
    rating = human_decisions.Rating(
        visit.number("level"), visit.text("code"), visit.text("note"), visit.texts("also"), after_s
    )
    message, database, person = "", visit.desk.database, visit.person
    with database.write() as connection:
        policy = programme.load_policy(connection)
        try:
            human_decisions.decide(connection, visit.reader, visit.text("token"), rating, policy, database.now())
        except (LeaseLostError, TooSoonError) as error:
            message = f"{str(error).capitalize()}."
        shown = _reading(connection, visit, person.task, person.reason, message) if visit.by_script else None
    if shown is not None:
        return visit.show("read.html", **shown)
    return see("/read") if not message else _next(visit, person.task, person.reason, message)


def undo(visit: Visit) -> Response:
    """Take back the last decision and show its response again."""
    database, person = visit.desk.database, visit.person
    message, (task, reason) = "Undone.", (person.task, person.reason)
    with database.write() as connection:
        try:
            human_decisions.undo(connection, visit.reader, programme.load_policy(connection), database.now())
        except TooLateError as error:
            message = f"{str(error).capitalize()}."
        current = leases.current_read(connection, person.id)
        if current is not None:
            task, reason = _queue_with(current, person)
            accounts.choose_queue(connection, person, task, reason)
    return _next(visit, task, reason, message)


def put_aside(visit: Visit) -> Response:
    """Put the response aside, with a question to the leaders if one is asked."""
    question, ask, database = visit.text("note").strip(), visit.text("ask") == "1", visit.desk.database
    message = "Put aside: it waits on your first page." if not ask else "The leaders see your question now."
    with database.write() as connection:
        try:
            if ask and not question:
                raise ReviewError("write your question as the note first")
            policy, words = programme.load_policy(connection), question if ask else ""
            conversations.put_aside(connection, visit.reader, visit.text("token"), words, policy, database.now())
        except ReviewError as error:
            message = f"{str(error).capitalize()}."
    return _next(visit, visit.person.task, visit.person.reason, message)


def alert(visit: Visit) -> Response:
    """Raise an alert for the response being read."""
    message = "Alert raised: the leaders see it now."
    with visit.desk.database.write() as connection:
        try:
            raise_alert(connection, visit.reader, visit.text("token"), visit.desk.database.now())
        except LeaseLostError as error:
            message = f"{str(error).capitalize()}."
    return _next(visit, visit.person.task, visit.person.reason, message)


def begin_compare(visit: Visit) -> Response:
    """Note that this person looks at the machine's score of their last response, and show it."""
    with visit.desk.database.write() as connection:
        if programme.load_policy(connection).machine == "never":
            raise NotAllowedError("this programme does not show the machine's score to raters")
        human_decisions.compare(connection, visit.reader, visit.desk.database.now())
    return see("/compare") if not visit.by_script else compare(visit)


def compare(visit: Visit) -> Response:
    """Show the last decision beside the machine's score: only after `begin_compare` has noted it."""
    with visit.desk.database.read() as connection:
        last = decision_rows.last_decision(connection, visit.person.id)
        if last is None or not last.compared:
            raise NotAllowedError("this comparison has not been asked for")
        row = responses.row_of(connection, last.row)
        item = programme.item_of(connection, row.task)
    return visit.show("compare.html", last=last, row=row, item=item, machine=_machine(row))


def feedback(visit: Visit) -> Response:
    """Show how this person decided the newest complete block of validity papers.

    Only papers count whose decision can no longer be undone, so a block's end tells nothing about the paper before it.
    """
    with visit.desk.database.read() as connection:
        policy = programme.load_policy(connection)
        before = visit.desk.database.now() - policy.undo_s
        papers = assignment_rows.papers_decided(connection, visit.person.id, "validity", before)
        items = programme.all_items(connection)
    number = policy.feedback or 0
    last = len(papers) // number * number if number else 0
    return visit.show("feedback.html", papers=papers[max(0, last - number) : last], policy=policy, items=items)


def keys(visit: Visit) -> Response:
    """Explain the keys."""
    return visit.show("help.html")


def _queue_with(read: Any, person: accounts.Person) -> tuple[str, str]:
    """Return task and reason of a queue that has a read: the chosen one, if it does."""
    fits = person.task in ("", read.task) and person.reason in ("", read.reason)
    return (person.task, person.reason) if fits else (read.task, read.reason if person.may("leader") else "")


def _next(visit: Visit, task: str, reason: str, message: str) -> Response:
    with visit.desk.database.write() as connection:
        shown = _reading(connection, visit, task, reason, message)
    return visit.show("read.html", **shown)


def _reading(connection: Connection, visit: Visit, task: str, reason: str, message: str) -> dict[str, Any]:
    """Return what the reading page shows. Only what this person may see is in it."""
    now, policy = visit.desk.database.now(), programme.load_policy(connection)
    read = take(connection, visit.reader, task, reason, policy, now, visit.desk.draw)
    last = decision_rows.last_decision(connection, visit.person.id)
    recent = last if last is not None and now - last.at <= policy.undo_s else None
    if not message and recent is not None and recent.kind == "qualification":
        message = qualification_news(connection, recent, policy)
    shown: dict[str, Any] = {
        "message": message,
        "read": read,
        "last": recent,
        "last_points": programme.item_of(connection, recent.task).points(recent.level)
        if recent is not None and recent.level is not None
        else "",
        "may_compare": policy.machine != "never",
        "policy": policy,
        "pace": decision_rows.pace_since(connection, visit.person.id, now - now % _DAY_S),
    }
    if read is None:
        return shown
    messages = message_rows.conversation(connection, read.id, visit.person.id)
    return shown | {"messages": messages} | _response(connection, read, policy)


def _response(connection: Connection, read: Any, policy: DeskPolicy) -> dict[str, Any]:
    row = responses.row_of(connection, read.row)
    by_kind = decision_rows.row_ratings(connection, row.id, row.round) if read.kind == "adjudication" else {}
    before = policy.machine == "before" and read.kind in ("first", "validity")
    history = log.entries(connection, row=row.id) if by_kind else []
    return {
        "text": row.text,
        "item": programme.item_of(connection, read.task),
        "anchors": programme.anchors_of(connection, read.task),
        "members": leases.group_members(connection, read.id),
        "machine": _machine(row) if before else None,
        "ratings": [by_kind[kind] for kind in ("first", "second") if kind in by_kind],
        "notes": {entry.body["decision"]: entry.remark for entry in history if entry.action == "decided"},
    }


def _machine(row: Any) -> dict[str, Any] | None:
    """Return the machine's score, None if it gave none."""
    if row.level < 0:
        return None
    probabilities = json.loads(row.probabilities)
    return {
        "level": row.level,
        "probabilities": probabilities,
        "confidence": max(probabilities, default=None) if row.confidence is None else row.confidence,
        "calibrated": row.confidence is not None,
        "level_low": row.level_low,
        "level_high": row.level_high,
    }
