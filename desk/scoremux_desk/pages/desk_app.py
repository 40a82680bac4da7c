"""The application: which page is where, and who may see it."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from scoremux_desk.pages import director, leader, rater, signing_in
from scoremux_desk.pages.page_endpoints import Page, SafeHeaders, page
from scoremux_desk.pages.rendering import show
from scoremux_desk.pages.visits import Desk, Visit

__all__ = ["Desk", "create_app"]

_STATIC = Path(__file__).parent / "static"

_STEADY = (rater.read, rater.decide, rater.undo, rater.put_aside)
"""Pages that take at least `Desk.answer_s`."""

_PAGES: dict[str | None, dict[str, Page]] = {
    None: {"GET /login": signing_in.form, "POST /login": signing_in.sign_in},
    "rater": {
        "POST /logout": signing_in.sign_out,
        "GET /": rater.queues,
        "POST /start": rater.start,
        "GET /read": rater.read,
        "POST /decide": rater.decide,
        "POST /undo": rater.undo,
        "POST /aside": rater.put_aside,
        "POST /alert": rater.alert,
        "POST /compare": rater.compare,
        "GET /feedback": rater.feedback,
        "GET /help": rater.keys,
    },
    "leader": {
        "GET /progress": leader.progress,
        "GET /agreement": leader.agreement,
        "GET /alerts": leader.alerts,
        "POST /alerts": leader.end_alert,
        "GET /raters": leader.raters,
        "POST /raters/work": leader.assign_work,
        "POST /raters/pool": leader.change_pool,
        "POST /raters/standing": leader.decide_standing,
        "GET /questions": leader.questions,
        "POST /questions": leader.answer,
        "GET /rows": leader.find_rows,
        "GET /rows/{row:int}": leader.row,
        "POST /rows/{row:int}/reopen": leader.reopen,
    },
    "director": {
        "POST /tasks/pause": director.pause,
        "POST /reopen": director.reopen,
        "GET /people": director.people,
        "POST /people/add": director.add_person,
        "POST /people/change": director.change_person,
        "GET /record": director.record,
        "POST /record": director.verify,
        "GET /export": director.export,
        "GET /export/{name}": director.download,
    },
}
"""Pages by the least role that may see them; None: everyone."""


def create_app(desk: Desk) -> Starlette:
    """Return the ASGI application of a desk."""

    async def nothing(request: Request, error: Any) -> Response:
        def shown(visit: Visit) -> Response:
            words = {"title": visit.say("No such page"), "message": visit.say("This page does not exist.")}
            return show(visit, "error.html", error.status_code, **words)

        return await page(desk, shown, None)(request)

    routes: list[BaseRoute] = []
    for role, pages in _PAGES.items():
        for place, function in pages.items():
            method, path = place.split()
            least_s = desk.answer_s if function in _STEADY else 0.0
            routes.append(Route(path, page(desk, function, role, least_s), methods=[method]))
    static = Mount("/static", StaticFiles(directory=_STATIC), name="static")
    icon = Route("/favicon.ico", lambda _: RedirectResponse("/static/desk.svg"))
    return Starlette(
        routes=[*routes, static, icon],
        middleware=[Middleware(SafeHeaders, desk=desk)],
        exception_handlers={404: nothing, 405: nothing},
        max_body_size=2 << 20,
    )
