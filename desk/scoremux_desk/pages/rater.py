"""Pages of a rater: their tasks, the response that they read, and what they do with it.

Only what this person may see is handed to a template.
"""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from scoremux_desk.database import accounts, log, programme, reads, responses
from scoremux_desk.database.schema import Columns
from scoremux_desk.errors import LeaseLostError, NotAllowedError, ReviewError, TooLateError, TooSoonError
from scoremux_desk.pages.rendering import percent, show
from scoremux_desk.pages.visits import Visit, see
from scoremux_desk.reading import conversations, decision_rows, human_decisions, leases
from scoremux_desk.reading.alerts import raise_alert
from scoremux_desk.reading.task_access import ELSEWHERE, FAILED, TaskAccess

_FEW_TASKS = 8
_DAY_S = 86_400.0


def queues(visit: Visit) -> Response:
    """Show what waits: to leaders by task and reason with counts, to raters the tasks alone."""
    with visit.reading() as connection:
        waiting = reads.all_queues(connection)
        tasks = programme.all_items(connection)
        access = TaskAccess(connection, visit.person)
        search = visit.request.query_params.get("find", "").strip()
        mine: Columns = {
            "current": reads.current_read(connection, visit.person.id),
            "aside": reads.reads_of(connection, visit.person.id, "aside"),
            "writers": conversations.last_writers(connection, visit.person.id),
            "asked": search,
            "found": [id_ for id_, t in tasks.items() if search.casefold() in f"{id_}\n{t.question}".casefold()],
            "filters": search or len(tasks) > _FEW_TASKS,
        }
        if access.adjudicates:
            return show(visit, "queues.html", queues=waiting, tasks=tasks, **mine)
        open_tasks = {queue.task for queue in waiting if queue.waiting and queue.reason != reads.ADJUDICATION}
        obstacles = {task: access.obstacle(task) for task in sorted(open_tasks | access.sets.keys())}
        readable = [tasks[task] for task, why in obstacles.items() if why != ELSEWHERE and (task in open_tasks or why)]
        mine |= {"obstacles": obstacles, "sets": access.sets, "standings": access.standings, "policy": access.policy}
    return show(visit, "tasks.html", tasks=readable, **mine)


def start(visit: Visit) -> Response:
    """Choose a task, or a response that was put aside, and read; leaders may choose why responses are read, too."""
    task, reason = visit.text("task"), visit.text("reason")
    if reason and not visit.person.may("leader"):
        raise NotAllowedError("only leaders choose why responses are read")
    with visit.writing() as access:
        if visit.text("token"):
            _choose_queue_with(visit, access, conversations.take_up(access, visit.text("token")))
        else:
            accounts.choose_queue(access.connection, visit.person, task, reason)
    return see("/read")


def read(visit: Visit) -> Response:
    """Show the response this person has, or lease the next."""
    return _act(visit, lambda _: "")


def decide(visit: Visit) -> Response:
    """Save a decision; the script gets the next response at once, a browser is sent on to it."""
    after_ms = visit.number("after_ms")
    rating = human_decisions.Rating(
        token=visit.text("token"),
        level=visit.number("level"),
        code=visit.text("code"),
        note=visit.text("note"),
        also=visit.texts("also"),
        after_s=None if after_ms is None else after_ms / 1000,
    )
    message = ""
    shown = None
    with visit.writing() as access:
        try:
            human_decisions.decide(access, rating)
        except (LeaseLostError, TooSoonError) as error:
            message = visit.sentence(error)
        if message or visit.by_script:
            shown = _next_response(visit, access, message)
    return see("/read") if shown is None else show(visit, "read.html", **shown)


def undo(visit: Visit) -> Response:
    """Take back the last decision and show its response again."""

    def act(access: TaskAccess) -> str:
        message = visit.say("Undone.")
        try:
            human_decisions.undo(access)
        except TooLateError as error:
            message = visit.sentence(error)
        if (current := reads.current_read(access.connection, access.person)) is not None:
            _choose_queue_with(visit, access, current)
        return message

    return _act(visit, act)


def put_aside(visit: Visit) -> Response:
    """Put the response aside, with a question to the leaders if one is asked."""
    question = visit.text("note").strip()
    ask = visit.text("ask") == "1"

    def act(access: TaskAccess) -> str:
        if ask and not question:
            raise ReviewError("write your question as the note first")
        conversations.put_aside(access, visit.text("token"), question if ask else "")
        if ask:
            return visit.say("The leaders see your question now.")
        return visit.say("Put aside: it waits on your first page.")

    return _act(visit, act)


def alert(visit: Visit) -> Response:
    """Raise an alert for the response being read."""

    def act(access: TaskAccess) -> str:
        raise_alert(access, visit.text("token"))
        return visit.say("Alert raised: the leaders see it now.")

    return _act(visit, act)


def compare(visit: Visit) -> Response:
    """Show the last decision beside the machine's score; the record says that the rater looks at it."""
    with visit.writing() as access:
        if access.policy.machine == "never":
            raise NotAllowedError("this programme does not show the machine's score to raters")
        last = human_decisions.compare(access)
        row = responses.row_of(access.connection, last.row)
        item = programme.item_of(access.connection, row.task)
    return show(visit, "compare.html", last=last, row=row, item=item, machine=responses.machine_score(row))


def feedback(visit: Visit) -> Response:
    """Show how this person decided the newest complete block of validity papers.

    Only papers count whose decision can no longer be undone, so a block's end tells nothing about the paper before it.
    """
    with visit.reading() as connection:
        access = TaskAccess(connection, visit.person)
        policy = access.policy
        papers = access.papers_decided("validity", before=access.now - policy.undo_s)
        items = programme.all_items(connection)
    number = policy.feedback or 0
    last = len(papers) // number * number if number else 0
    return show(visit, "feedback.html", papers=papers[max(0, last - number) : last], policy=policy, items=items)


def keys(visit: Visit) -> Response:
    """Explain the keys."""
    return show(visit, "help.html")


def _choose_queue_with(visit: Visit, access: TaskAccess, read: Any) -> None:
    """Have this person read from a queue that has a read: the one that they have chosen, if it does."""
    person = visit.person
    if person.task not in ("", read.task) or person.reason not in ("", read.reason):
        reason = read.reason if access.adjudicates else ""
        visit.signed_in = accounts.choose_queue(access.connection, person, read.task, reason)


def _act(visit: Visit, act: Callable[[TaskAccess], str]) -> Response:
    """Show the next response after an action, with the message that it returns or the error that it raises."""
    with visit.writing() as access:
        try:
            message = act(access)
        except ReviewError as error:
            message = visit.sentence(error)
        shown = _next_response(visit, access, message)
    return show(visit, "read.html", **shown)


def _next_response(visit: Visit, access: TaskAccess, message: str) -> Columns:
    """Lease the next response of this person's queue, or keep the current one; return the values of its page."""
    read = leases.take(access, visit.person.task, visit.person.reason, visit.desk.draw)
    shown = {"read": read, "policy": access.policy, **_strip(visit, access, message)}
    return shown if read is None else shown | _response(access, read)


def _strip(visit: Visit, access: TaskAccess, message: str) -> Columns:
    """Return the values above a response: a message, the last decision while it can be undone, the pace of today."""
    connection = access.connection
    person = access.person
    now = access.now
    pace = decision_rows.pace_since(connection, person, now - now % _DAY_S)
    last = decision_rows.last_decision(connection, person)
    if last is None or now - last.at > access.policy.undo_s:
        return {"message": message, "last": None, "pace": pace}
    if not message and last.kind == "qualification":
        message = _qualification_news(visit, access, last)
    return {"message": message, "last": last, "last_item": programme.item_of(connection, last.task), "pace": pace}


def _qualification_news(visit: Visit, access: TaskAccess, decision: Any) -> str:
    """Return the message to a rater after a decision about a paper of a qualification set."""
    task = decision.task
    standing = access.standings.get(task)
    if decision.fast:
        return visit.say("Decisions in less than {s:g} s do not count; this paper comes again.", s=access.policy.fast_s)
    if standing is None or standing.since != decision.id:
        return ""
    shown = {"task": task, "exact": standing.exact, "papers": standing.papers}
    if standing.state == FAILED:
        return visit.say(
            "You did not qualify for {task}: {exact} of {papers} papers were exactly right, {mark} are needed. "
            "Your leader decides what follows.",
            **shown,
            mark=percent(access.pass_mark(task)),
        )
    return visit.say("You have qualified for {task}: {exact} of {papers} papers were exactly right.", **shown)


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
        "traits": [other.task.rpartition(".")[2] for other in responses.rows_of_traits(connection, row)],
        "guard_s": 0 if human_decisions.continues(access, read) else access.policy.guard_s,
        "machine": machine,
        "ratings": [ratings[kind] for kind in ("first", "second") if kind in ratings],
        "notes": {entry.body["decision"]: entry.remark for entry in history if entry.action == "decided"},
        "messages": conversations.conversation(connection, read.id, read.person),
        "members": reads.group_members(connection, read.id),
        "item": programme.item_of(connection, read.task),
        "anchors": programme.anchors_of(connection, read.task),
    }
