"""What a rater sees: the response that they read, and a decision beside the machine's score.

Only what this person may see is handed to a template.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from scoremux_review.database import log, programme, responses
from scoremux_review.database.connection import Connection
from scoremux_review.desk_policy import DeskPolicy
from scoremux_review.errors import NotAllowedError
from scoremux_review.pages.rendering import show
from scoremux_review.pages.visits import Visit
from scoremux_review.reading import decision_rows, leases
from scoremux_review.reading.conversations import conversation
from scoremux_review.reading.task_access import TaskAccess, papers_decided, qualification_news

_DAY_S = 86_400.0


def shown_next(
    connection: Connection, access: TaskAccess, visit: Visit, task: str, reason: str, message: str
) -> dict[str, Any]:
    """Lease the next response of a queue, or keep the current one; return what its page shows."""
    now, policy = access.now, access.policy
    read = leases.take(connection, access, task, reason, visit.desk.draw)
    last = decision_rows.last_decision(connection, access.reader.id)
    shown: dict[str, Any] = {
        "read": read,
        "last": last if last is not None and now - last.at <= policy.undo_s else None,
        "last_points": "",
        "may_compare": policy.machine != "never",
        "policy": policy,
        "pace": decision_rows.pace_since(connection, access.reader.id, now - now % _DAY_S),
    }
    if read is not None:
        adjudicated = read.kind == "adjudication"
        ratings = decision_rows.row_ratings(connection, read.row, read.round) if adjudicated else {}
        shown |= _response(connection, read, ratings, policy)
    if (recent := shown["last"]) is not None:
        if recent.level is not None:
            shown["last_points"] = programme.item_of(connection, recent.task).points(recent.level)
        if not message and recent.kind == "qualification":
            message = qualification_news(access, recent)
    return shown | {"message": message}


def compare(visit: Visit) -> Response:
    """Show the last decision beside the machine's score, once the record says that the rater looks at it."""
    with visit.desk.database.read() as connection:
        last = decision_rows.last_decision(connection, visit.person.id)
        if last is None or not last.compared:
            raise NotAllowedError("this comparison has not been asked for")
        row = responses.row_of(connection, last.row)
        item = programme.item_of(connection, row.task)
    return show(visit, "compare.html", last=last, row=row, item=item, machine=responses.machine_score(row))


def feedback(visit: Visit) -> Response:
    """Show how this person decided the newest complete block of validity papers.

    Only papers count whose decision can no longer be undone, so a block's end tells nothing about the paper before it.
    """
    with visit.desk.database.read() as connection:
        policy = programme.load_policy(connection)
        before = visit.desk.database.now() - policy.undo_s
        papers = papers_decided(connection, visit.person.id, "validity", before=before)
        items = programme.all_items(connection)
    number = policy.feedback or 0
    last = len(papers) // number * number if number else 0
    return show(visit, "feedback.html", papers=papers[max(0, last - number) : last], policy=policy, items=items)


def _response(connection: Connection, read: Any, ratings: dict[str, Any], policy: DeskPolicy) -> dict[str, Any]:
    """Return what the page shows of a response, with the other ratings if a leader decides between them."""
    row = responses.row_of(connection, read.row)
    before = policy.machine == "before" and read.kind in ("first", "validity")
    machine = responses.machine_score(row) if before else None
    history = log.entries(connection, row=row.id) if ratings else []
    return {
        "text": row.text,
        "machine": machine,
        "ratings": [ratings[kind] for kind in ("first", "second") if kind in ratings],
        "notes": {entry.body["decision"]: entry.remark for entry in history if entry.action == "decided"},
        "messages": conversation(connection, read.id, read.person),
        "members": leases.group_members(connection, read.id),
        "item": programme.item_of(connection, read.task),
        "anchors": programme.anchors_of(connection, read.task),
    }
