"""Templates to HTML. Everything is escaped; nothing a rater must not see is handed to a template at all."""

import math
from datetime import datetime, timezone
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from scoremux_client.contract import CONDITION_CODES
from scoremux_desk.database.programme import Item
from scoremux_desk.database.reads import ADJUDICATION, REOPENED
from scoremux_desk.pages.languages import LANGUAGES, SIGNS, words_of
from scoremux_desk.pages.visits import Visit
from scoremux_desk.reading.task_access import QUALIFICATION

_TRANSLATED = ("compare", "error", "feedback", "help", "login", "queues", "read", "tasks")
"""Pages of raters. Those of leaders and directors are in English."""

_REASONS = {
    "NO_SCORE": "No score",
    "LOW_CONFIDENCE": "Low confidence",
    "CONDITION": "Condition",
    "UNUSUAL": "Unusual",
    "TRUNCATED": "Truncated",
    "UNCALIBRATED": "No calibration",
    "NEW_TASK": "New task",
    "HELD": "On hold",
    "READ_BEHIND": "Read-behind",
    "SAMPLE": "Sample",
    REOPENED: "Reopened",
    ADJUDICATION: "Adjudication",
    "ALL": "All responses",
    QUALIFICATION: "Qualification",
}


def reason_name(reason: str) -> str:
    """Return a queue's reason as people read it."""
    return _REASONS.get(reason, reason)


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash for none."""
    return "–" if share is None or math.isnan(share) else f"{share * 100:.0f} %"


def figure(value: float | None, digits: int = 2) -> str:
    """Return a number with some digits, a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{round(value, digits) + 0.0:.{digits}f}"  # a zero has no minus


def clock(at: float | None, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return a time in UTC to the minute."""
    return "–" if at is None else datetime.fromtimestamp(at, timezone.utc).strftime(form)


def time_left(left_s: float | None) -> str:
    """Return a reading time in hours and minutes.

    >>> time_left(4000), time_left(6), time_left(None)
    ('1 h 7 min', '1 min', '')
    """
    if left_s is None:
        return ""
    minutes = math.ceil(left_s / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def show(visit: Visit, template: str, status: int = 200, **values: Any) -> Response:
    """Render a page."""
    translated = template.removesuffix(".html") in _TRANSLATED
    environment = _environment(visit.language if translated else "en")
    place = {"fragment": visit.by_script, "path": visit.request.url.path, "person": visit.signed_in}
    place["languages"] = LANGUAGES if translated else {}
    html = environment.get_template(template).render({**place, **visit.waiting, **values})
    return Response(html, status, media_type="text/html")


@cache
def _environment(language: str) -> Environment:
    words = words_of(language)
    signs = SIGNS[language]
    environment = Environment(
        loader=PackageLoader("scoremux_desk.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(words, newstyle=True)  # type: ignore[attr-defined]
    codes = {code: words.gettext(name) for code, name in CONDITION_CODES.items()}
    environment.globals.update(codes=codes, language=language)

    def points(level: int, item: Item) -> str:
        worth = item.worth(level)
        unit = words.ngettext("pt", "pts", 1 if worth == 1 else 2)
        return "–" if worth is None else f"{f'{worth:g}'.translate(signs)} {unit}"

    environment.filters.update(
        points=points,
        reason=lambda reason: words.gettext(reason_name(reason)),
        percent=percent,
        figure=lambda value, digits=2: figure(value, digits).translate(signs),
        clock=lambda at: clock(at, words.gettext("%Y-%m-%d %H:%M")),
        left=time_left,
        thousands=lambda number: f"{number:,}".translate(signs),
    )
    return environment
