"""What a rater does: choose a queue, decide, undo, put aside, ask, raise an alert, compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from scoremux_review.database import accounts, programme, reads
from scoremux_review.database.connection import Connection
from scoremux_review.errors import LeaseLostError, NotAllowedError, ReviewError, TooLateError, TooSoonError
from scoremux_review.pages import reading_page
from scoremux_review.pages.rendering import show
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import conversations, human_decisions, leases
from scoremux_review.reading.alerts import raise_alert
from scoremux_review.reading.task_access import ELSEWHERE, TaskAccess

_FEW_TASKS = 8


def queues(visit: Visit) -> Response:
    """Show what waits: to leaders by task and reason with counts, to raters the tasks alone."""
    with visit.desk.database.read() as connection:
        waiting, tasks = reads.all_queues(connection), programme.all_items(connection)
        access = visit.access(connection)
        search = visit.request.query_params.get("find", "").strip()
        mine: dict[str, Any] = {
            "current": leases.current_read(connection, visit.person.id),
            "aside": leases.reads_aside(connection, visit.person.id),
            "writers": conversations.last_writers(connection, visit.person.id),
            "asked": search,
            "found": [id_ for id_, t in tasks.items() if search.casefold() in f"{id_}\n{t.question}".casefold()],
            "filters": search or len(tasks) > _FEW_TASKS,
        }
        if visit.reader.adjudicates:
            return show(visit, "queues.html", queues=waiting, tasks=tasks, **mine)
        open_tasks = {queue.task for queue in waiting if queue.waiting and queue.reason != reads.ADJUDICATION}
        obstacles = {task: access.obstacle(task) for task in sorted(open_tasks | access.sets.keys())}
        readable = [tasks[task] for task, why in obstacles.items() if why != ELSEWHERE and (task in open_tasks or why)]
        mine |= {"obstacles": obstacles, "sets": access.sets, "standings": access.standings, "policy": access.policy}
    return show(visit, "tasks.html", tasks=readable, **mine)


def start(visit: Visit) -> Response:
    """Choose a task, or a response that was put aside, and read; leaders may choose why responses are read, too."""
    if visit.text("reason") and not visit.reader.adjudicates:
        raise NotAllowedError("only leaders choose why responses are read")
    task, reason = visit.text("task"), visit.text("reason")
    with visit.desk.database.write() as connection:
        if visit.text("token"):
            read = conversations.take_up(connection, visit.access(connection), visit.text("token"))
            task, reason = _queue_with(read, visit.person)
        accounts.choose_queue(connection, visit.person, task, reason)
    return see("/read")


def read(visit: Visit) -> Response:
    """Show the response this person has, or lease the next."""
    return _act(visit, lambda _, __: "")


def decide(visit: Visit) -> Response:
    """Save a decision; the script gets the next response at once, a browser is sent on to it."""
    after_ms = visit.number("after_ms")
    after_s = None if after_ms is None else after_ms / 1000
    rating = human_decisions.Rating(
        visit.number("level"), visit.text("code"), visit.text("note"), visit.texts("also"), after_s
    )
    message, shown = "", None
    with visit.desk.database.write() as connection:
        try:
            token, now = visit.text("token"), visit.desk.database.now()
            access = human_decisions.decide(connection, visit.reader, token, rating, now)
        except (LeaseLostError, TooSoonError) as error:
            message, access = error.sentence, TaskAccess(connection, visit.reader, now)
        if message or visit.by_script:
            shown = reading_page.shown_next(connection, access, visit, visit.person.task, visit.person.reason, message)
    return see("/read") if shown is None else show(visit, "read.html", **shown)


def undo(visit: Visit) -> Response:
    """Take back the last decision and show its response again."""
    person, message = visit.person, "Undone."
    task, reason = person.task, person.reason
    with visit.desk.database.write() as connection:
        access = visit.access(connection)
        try:
            human_decisions.undo(connection, access)
        except TooLateError as error:
            message = error.sentence
        current = leases.current_read(connection, person.id)
        if current is not None:
            task, reason = _queue_with(current, person)
            accounts.choose_queue(connection, person, task, reason)
        shown = reading_page.shown_next(connection, access, visit, task, reason, message)
    return show(visit, "read.html", **shown)


def put_aside(visit: Visit) -> Response:
    """Put the response aside, with a question to the leaders if one is asked."""
    question, ask = visit.text("note").strip(), visit.text("ask") == "1"

    def act(connection: Connection, access: TaskAccess) -> str:
        if ask and not question:
            raise ReviewError("write your question as the note first")
        conversations.put_aside(connection, access, visit.text("token"), question if ask else "")
        return "The leaders see your question now." if ask else "Put aside: it waits on your first page."

    return _act(visit, act)


def alert(visit: Visit) -> Response:
    """Raise an alert for the response being read."""

    def act(connection: Connection, access: TaskAccess) -> str:
        raise_alert(connection, access.reader, visit.text("token"), access.now)
        return "Alert raised: the leaders see it now."

    return _act(visit, act)


def begin_compare(visit: Visit) -> Response:
    """Note that this person looks at the machine's score of their last response, and show it."""
    with visit.desk.database.write() as connection:
        if programme.load_policy(connection).machine == "never":
            raise NotAllowedError("this programme does not show the machine's score to raters")
        human_decisions.compare(connection, visit.reader, visit.desk.database.now())
    return reading_page.compare(visit) if visit.by_script else see("/compare")


def keys(visit: Visit) -> Response:
    """Explain the keys."""
    return show(visit, "help.html")


def _queue_with(read: Any, person: accounts.Person) -> tuple[str, str]:
    """Return task and reason of a queue that has a read: the chosen one, if it does."""
    fits = person.task in ("", read.task) and person.reason in ("", read.reason)
    return (person.task, person.reason) if fits else (read.task, read.reason if person.may("leader") else "")


def _act(visit: Visit, act: Callable[[Connection, TaskAccess], str]) -> Response:
    """Show the next response after an action, with the message that it returns or the error that it raises."""
    with visit.desk.database.write() as connection:
        access = visit.access(connection)
        try:
            message = act(connection, access)
        except ReviewError as error:
            message = error.sentence
        shown = reading_page.shown_next(connection, access, visit, visit.person.task, visit.person.reason, message)
    return show(visit, "read.html", **shown)
