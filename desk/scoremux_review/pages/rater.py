"""Actions of a rater: choose a queue, decide, undo, put aside, ask, raise an alert, compare."""

from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from scoremux_review.database import accounts, programme, reads
from scoremux_review.errors import LeaseLostError, NotAllowedError, ReviewError, TooLateError, TooSoonError
from scoremux_review.pages import reading_page
from scoremux_review.pages.rendering import show
from scoremux_review.pages.visits import Visit, see
from scoremux_review.reading import conversations, human_decisions
from scoremux_review.reading.alerts import raise_alert
from scoremux_review.reading.task_access import ELSEWHERE, TaskAccess

_FEW_TASKS = 8


def queues(visit: Visit) -> Response:
    """Show what waits: to leaders by task and reason with counts, to raters the tasks alone."""
    with visit.reading() as connection:
        waiting = reads.all_queues(connection)
        tasks = programme.all_items(connection)
        access = TaskAccess(connection, visit.reader, visit.desk.database.now())
        search = visit.request.query_params.get("find", "").strip()
        mine: dict[str, Any] = {
            "current": reads.current_read(connection, visit.person.id),
            "aside": reads.reads_aside(connection, visit.person.id),
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
        mine |= {
            "obstacles": obstacles,
            "sets": access.sets,
            "standings": access.standings,
            "policy": access.policy,
        }
    return show(visit, "tasks.html", tasks=readable, **mine)


def start(visit: Visit) -> Response:
    """Choose a task, or a response that was put aside, and read; leaders may choose why responses are read, too."""
    if visit.text("reason") and not visit.reader.adjudicates:
        raise NotAllowedError("only leaders choose why responses are read")
    task = visit.text("task")
    reason = visit.text("reason")
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
            message = error.sentence
        if message or visit.by_script:
            shown = reading_page.next_response(visit, access, message)
    return see("/read") if shown is None else show(visit, "read.html", **shown)


def undo(visit: Visit) -> Response:
    """Take back the last decision and show its response again."""

    def act(access: TaskAccess) -> str:
        message = "Undone."
        try:
            human_decisions.undo(access)
        except TooLateError as error:
            message = error.sentence
        if (current := reads.current_read(access.connection, access.reader.id)) is not None:
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
        return "The leaders see your question now." if ask else "Put aside: it waits on your first page."

    return _act(visit, act)


def alert(visit: Visit) -> Response:
    """Raise an alert for the response being read."""

    def act(access: TaskAccess) -> str:
        raise_alert(access, visit.text("token"))
        return "Alert raised: the leaders see it now."

    return _act(visit, act)


def begin_compare(visit: Visit) -> Response:
    """Note that this person looks at the machine's score of their last response, and show it."""
    with visit.writing() as access:
        if access.policy.machine == "never":
            raise NotAllowedError("this programme does not show the machine's score to raters")
        human_decisions.compare(access)
    return reading_page.compare(visit) if visit.by_script else see("/compare")


def keys(visit: Visit) -> Response:
    """Explain the keys."""
    return show(visit, "help.html")


def _choose_queue_with(visit: Visit, access: TaskAccess, read: Any) -> None:
    """Have this person read from a queue that has a read: the one that they have chosen, if it does."""
    person = visit.person
    if person.task not in ("", read.task) or person.reason not in ("", read.reason):
        reason = read.reason if access.reader.adjudicates else ""
        visit.signed_in = accounts.choose_queue(access.connection, person, read.task, reason)


def _act(visit: Visit, act: Callable[[TaskAccess], str]) -> Response:
    """Show the next response after an action, with the message that it returns or the error that it raises."""
    with visit.writing() as access:
        try:
            message = act(access)
        except ReviewError as error:
            message = error.sentence
        shown = reading_page.next_response(visit, access, message)
    return show(visit, "read.html", **shown)
