"""The application: which page is where, and who may see it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from scoremux_review.errors import NotAllowedError
from scoremux_review.pages import director, leader, rater, reading_page, signing_in
from scoremux_review.pages.page_endpoints import Page, SafeHeaders, page
from scoremux_review.pages.rendering import show
from scoremux_review.pages.visits import Desk

__all__ = ["Desk", "create_app"]

_STATIC = Path(__file__).parent / "static"


def create_app(desk: Desk) -> Starlette:
    """Return the ASGI application of a desk."""

    def get(path: str, function: Page, role: str | None = "rater", method: str = "GET", least_s: float = 0.0) -> Route:
        return Route(path, page(desk, function, role, least_s), methods=[method])

    async def nothing(request: Request, error: Any) -> Response:
        shown = partial(show, template="error.html", status=error.status_code, message="this page does not exist")
        return await page(desk, shown, None)(request)

    post = partial(get, method="POST")
    steady_s = desk.answer_s
    routes = [
        get("/login", signing_in.form, None),
        post("/login", signing_in.sign_in, None),
        post("/logout", signing_in.sign_out),
        get("/", rater.queues),
        post("/start", rater.start),
        get("/read", rater.read, least_s=steady_s),
        post("/decide", rater.decide, least_s=steady_s),
        post("/undo", rater.undo, least_s=steady_s),
        post("/aside", rater.put_aside, least_s=steady_s),
        post("/alert", rater.alert),
        get("/compare", reading_page.compare),
        post("/compare", rater.begin_compare),
        get("/feedback", reading_page.feedback),
        get("/help", rater.keys),
        get("/progress", leader.progress, "leader"),
        get("/agreement", leader.agreement, "leader"),
        get("/alerts", leader.alerts, "leader"),
        post("/alerts", leader.end_alert, "leader"),
        get("/raters", leader.raters, "leader"),
        post("/raters/work", leader.assign_work, "leader"),
        post("/raters/pool", leader.change_pool, "leader"),
        post("/raters/standing", leader.decide_standing, "leader"),
        get("/questions", leader.questions, "leader"),
        post("/questions", leader.answer, "leader"),
        get("/rows", leader.find_rows, "leader"),
        get("/rows/{row:int}", leader.row, "leader"),
        post("/rows/{row:int}/reopen", leader.reopen, "leader"),
        post("/rows/{row:int}/assign", leader.assign, "leader"),
        post("/tasks/pause", director.pause, "director"),
        post("/reopen", director.reopen, "director"),
        get("/people", director.people, "director"),
        post("/people/add", director.add_person, "director"),
        post("/people/change", director.change_person, "director"),
        get("/record", director.record, "director"),
        post("/record", director.verify, "director"),
        get("/export", director.export, "director"),
        get("/export/{name}", director.download, "director"),
        Mount("/static", StaticFiles(directory=_STATIC), name="static"),
        Route("/favicon.ico", lambda _: RedirectResponse("/static/desk.svg")),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(SafeHeaders, desk=desk)],
        exception_handlers={NotAllowedError: _refused, 404: nothing, 405: nothing},
        max_body_size=2 << 20,
    )


async def _refused(_: Request, error: Exception) -> Response:
    return Response(str(error), 403, media_type="text/plain")
