"""Pages of leaders: progress, agreement, alerts, and single responses with their history."""

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from scoremux_desk import figures
from scoremux_desk.database import accounts, log, programme, reads, responses
from scoremux_desk.database.connection import Connection
from scoremux_desk.errors import ReviewError
from scoremux_desk.pages.rendering import show
from scoremux_desk.pages.visits import Visit, see
from scoremux_desk.reading import alerts as desk_alerts
from scoremux_desk.reading import assignments, conversations, decision_rows, settling
from scoremux_desk.reading.task_access import TaskAccess

_MOST_SHOWN = 100
_PAGE = 25
_MOST_WHY = 2000


def progress(visit: Visit) -> Response:
    """Show what is done and what is left, by task and by rater."""
    with visit.reading() as connection:
        return show(
            visit,
            "progress.html",
            queues=reads.all_queues(connection),
            states=responses.count_states(connection),
            raters=decision_rows.totals_by_rater(connection),
            reading=reads.reading_now(connection),
            tasks=programme.all_items(connection),
        )


def agreement(visit: Visit) -> Response:
    """Show how raters agree with each other and with validity papers."""
    by, task, rater = (visit.request.query_params.get(name, "") for name in ("by", "task", "rater"))
    by = by if by in figures.GROUPINGS else "all"
    with visit.reading() as connection:
        levels = decision_rows.blind_levels(connection, task)
        tasks = programme.all_items(connection)
        people = accounts.listed(connection)
    compared = {kind: figures.pairs(levels, kind, by, rater) for kind in figures.KINDS}
    return show(
        visit,
        "agreement.html",
        tables={kind: figures.agreement(pairs, by) for kind, pairs in compared.items()},
        kinds=figures.KINDS,
        groupings=figures.GROUPINGS,
        by=by,
        task=task,
        tasks=tasks,
        rater=rater,
        people=people,
    )


def alerts(visit: Visit) -> Response:
    """List the alerts, open ones first; a leader sees one by opening its response."""
    with visit.reading() as connection:
        shown = desk_alerts.listed_alerts(connection, _MOST_SHOWN)
        views = desk_alerts.views_by_alert(connection)
    return show(visit, "alerts.html", alerts=shown, views=views)


def end_alert(visit: Visit) -> Response:
    """Note that an alert is taken care of."""
    with visit.writing() as access:
        desk_alerts.handle_alert(access, visit.number("alert") or 0)
    return see("/alerts")


def questions(visit: Visit) -> Response:
    """Show the questions of raters that wait for an answer."""
    with visit.reading() as connection:
        waiting = conversations.open_questions(connection, _MOST_SHOWN)
        threads = [(question.read, question.rater) for question in waiting]
        earlier = {thread: conversations.conversation(connection, *thread) for thread in threads}
    return show(visit, "questions.html", questions=waiting, earlier=earlier)


def answer(visit: Visit) -> Response:
    """Answer a rater's question."""
    read, rater = (visit.number(name) or 0 for name in ("read", "rater"))
    with visit.writing() as access:
        conversations.answer(access, read, rater, visit.text("answer").strip())
    return see("/questions")


def raters(visit: Visit) -> Response:
    """Show the raters' work: pools, assignments, qualification, pauses."""
    with visit.reading() as connection:
        people = [p for p in accounts.listed(connection) if p.active]
        access = {p.id: TaskAccess(connection, p) for p in people}
        return show(
            visit,
            "raters.html",
            people=people,
            pools=assignments.all_pools(connection),
            members={person.id: person.name for person in people},
            assignments={person: of_person.own_assignments for person, of_person in access.items()},
            standings={person: of_person.standings for person, of_person in access.items()},
            decided={person: of_person.decided for person, of_person in access.items()},
            tasks=programme.all_items(connection),
            actions=assignments.ACTIONS,
        )


def assign_work(visit: Visit) -> Response:
    """Say whose responses a person reads, and how many."""
    with visit.writing() as access:
        assignments.assign_work(access, _person(access.connection, visit), visit.text("assignments"))
    return see("/raters")


def change_pool(visit: Visit) -> Response:
    """Say who is in a pool, and whose responses its members read."""
    name = visit.text("name").strip()
    members = [member.strip() for member in visit.text("members").splitlines() if member.strip()]
    with visit.writing() as access:
        if visit.text("new") and any(pool.name == name for pool in assignments.all_pools(access.connection)):
            raise ReviewError(f"there is a pool named {name!r} already; change it in its own form")
        assignments.change_pool(access, name, visit.text("assignments"), members)
    return see("/raters")


def decide_standing(visit: Visit) -> Response:
    """Let a person read a task, have them qualify again, or pause them."""
    with visit.writing() as access:
        person = _person(access.connection, visit)
        assignments.decide_standing(access, person, visit.text("task"), visit.text("state"))
    return see("/raters")


def find_rows(visit: Visit) -> Response:
    """Find responses by their id, and read again what raters decided."""
    query = visit.request.query_params
    name = query.get("id", "").strip()
    with visit.reading() as connection:
        rows = responses.rows_named(connection, name, _MOST_SHOWN) if name else []
        shown = decision_rows.decisions_again(connection, query, _PAGE + 1)
        others = decision_rows.row_decisions(connection, {decision.row for decision in shown})
        people = accounts.listed(connection)
        tasks = programme.all_items(connection)
    older = None
    if len(shown) > _PAGE:
        shown = shown[:_PAGE]
        older = urlencode({**query, "before": shown[-1].id})
    return show(
        visit,
        "rows.html",
        name=name,
        rows=rows,
        shown=shown,
        others=others,
        older=older,
        asked=query,
        people=people,
        tasks=tasks,
    )


def row(visit: Visit) -> Response:
    """Show a response with its scores and its history, and note who has seen its alerts."""
    number = _row_number(visit)
    with visit.reading() as connection:
        raised = desk_alerts.listed_alerts(connection, _MOST_SHOWN, number)
    if raised:
        with visit.writing() as access:
            desk_alerts.see_alerts(access, raised)
    with visit.reading() as connection:
        shown = responses.row_of(connection, number)
        if shown is None:
            return show(visit, "error.html", 404, message=f"row {number} does not exist", title="No such response")
        return show(
            visit,
            "row.html",
            row=shown,
            item=programme.item_of(connection, shown.task),
            history=log.entries(connection, row=number),
            messages=conversations.row_messages(connection, number),
            alerts=raised,
            views=desk_alerts.views_by_alert(connection),
            waits=reads.pending_read(connection, number),
        )


def reopen(visit: Visit) -> Response:
    """Have a settled row read again."""
    number = _row_number(visit)
    with visit.writing() as access:
        settling.reopen(access, number, why(visit))
    return see(f"/rows/{number}")


def _row_number(visit: Visit) -> int:
    number = int(visit.request.path_params["row"])
    if number > decision_rows.MOST_ROW:
        raise ReviewError("this row does not exist")
    return number


def _person(connection: Connection, visit: Visit) -> Any:
    for person in accounts.listed(connection):
        if person.active and person.id == visit.number("person"):
            return person
    raise ReviewError("unknown person")


def why(visit: Visit) -> str:
    """Return the reason for reopening that a form gives. Raises ReviewError without one."""
    reason = visit.text("why").strip()[:_MOST_WHY]
    if not reason:
        raise ReviewError("say why this is reopened; the record keeps it")
    return reason
