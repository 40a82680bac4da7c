"""Pages of a rater: the response that they read, and a decision beside the machine's score.

Only what this person may see is handed to a template.
"""

from typing import Any

from starlette.responses import Response

from scoremux_review.database import log, programme, reads, responses
from scoremux_review.database.schema import Columns
from scoremux_review.errors import NotAllowedError
from scoremux_review.pages.rendering import show
from scoremux_review.pages.visits import Visit
from scoremux_review.reading import decision_rows, leases
from scoremux_review.reading.conversations import conversation
from scoremux_review.reading.task_access import FAILED, TaskAccess

_DAY_S = 86_400.0


def next_response(visit: Visit, access: TaskAccess, message: str) -> Columns:
    """Lease the next response of this person's queue, or keep the current one; return the values of its page."""
    read = leases.take(
        access,
        visit.person.task,
        visit.person.reason,
        visit.desk.draw,
    )
    return _page(access, read, message)


def _page(access: TaskAccess, read: Any | None, message: str) -> Columns:
    """Return the values of the page of a response, or of a queue in which nothing is left."""
    shown = {"read": read, "policy": access.policy, **_strip(access, message)}
    return shown if read is None else shown | _response(access, read)


def _strip(access: TaskAccess, message: str) -> Columns:
    """Return the values above a response: a message, the last decision while it can be undone, the pace of today."""
    connection = access.connection
    person = access.reader.id
    now = access.now
    pace = decision_rows.pace_since(connection, person, now - now % _DAY_S)
    last = decision_rows.last_decision(connection, person)
    if last is None or now - last.at > access.policy.undo_s:
        return {"message": message, "last": None, "pace": pace}
    if not message and last.kind == "qualification":
        message = _qualification_news(access, last)
    return {
        "message": message,
        "last": last,
        "last_item": programme.item_of(connection, last.task),
        "pace": pace,
    }


def _qualification_news(access: TaskAccess, decision: Any) -> str:
    """Return the message to a rater after a decision about a paper of a qualification set."""
    task = decision.task
    standing = access.standings.get(decision.task)
    if decision.fast:
        return f"Decisions in less than {access.policy.fast_s:g} s do not count; this paper comes again."
    if standing is None or standing.since != decision.id:
        return ""
    exact = f"{standing.exact} of {standing.papers} papers were exactly right"
    if standing.state == FAILED:
        mark = f"{access.pass_mark(task):.0%}"
        return f"You did not qualify for {task}: {exact}, {mark} are needed. Your leader decides what follows."
    return f"You have qualified for {task}: {exact}."


def compare(visit: Visit) -> Response:
    """Show the last decision beside the machine's score, once the record says that the rater looks at it."""
    with visit.reading() as connection:
        last = decision_rows.last_decision(connection, visit.person.id)
        if last is None or not last.compared:
            raise NotAllowedError("this comparison has not been asked for")
        row = responses.row_of(connection, last.row)
        item = programme.item_of(connection, row.task)
    return show(
        visit,
        "compare.html",
        last=last,
        row=row,
        item=item,
        machine=responses.machine_score(row),
    )


def feedback(visit: Visit) -> Response:
    """Show how this person decided the newest complete block of validity papers.

    Only papers count whose decision can no longer be undone, so a block's end tells nothing about the paper before it.
    """
    with visit.reading() as connection:
        access = TaskAccess(connection, visit.reader, visit.desk.database.now())
        policy = access.policy
        papers = access.papers_decided("validity", before=access.now - policy.undo_s)
        items = programme.all_items(connection)
    number = policy.feedback or 0
    last = len(papers) // number * number if number else 0
    return show(
        visit,
        "feedback.html",
        papers=papers[max(0, last - number) : last],
        policy=policy,
        items=items,
    )


def _response(access: TaskAccess, read: Any) -> Columns:
    """Return the values of a response on its page, with the other ratings if a leader decides between them."""
    connection = access.connection
    row = responses.row_of(connection, read.row)
    before = access.policy.machine == "before" and read.kind in ("first", "validity")
    machine = responses.machine_score(row) if before else None
    adjudicated = read.kind == "adjudication"
    ratings = decision_rows.row_ratings(connection, read.row, read.round) if adjudicated else {}
    history = log.entries(connection, row=row.id) if ratings else []
    return {
        "text": row.text,
        "machine": machine,
        "ratings": [ratings[kind] for kind in ("first", "second") if kind in ratings],
        "notes": {entry.body["decision"]: entry.remark for entry in history if entry.action == "decided"},
        "messages": conversation(connection, read.id, read.person),
        "members": reads.group_members(connection, read.id),
        "item": programme.item_of(connection, read.task),
        "anchors": programme.anchors_of(connection, read.task),
    }
