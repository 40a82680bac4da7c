"""Templates to HTML. Everything is escaped; nothing a rater must not see is handed to a template at all."""

import math
from datetime import datetime, timezone
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import Response

from scoremux_client.contract import CONDITION_CODES
from scoremux_desk.database.reads import ADJUDICATION, REOPENED
from scoremux_desk.pages.visits import Visit
from scoremux_desk.reading.task_access import QUALIFICATION

_REASONS = {
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
    return _REASONS.get(reason, reason.replace("_", " ").capitalize())


def percent(share: float | None) -> str:
    """Return a share as a percentage, a dash for none."""
    return "–" if share is None or math.isnan(share) else f"{share * 100:.0f} %"


def figure(value: float | None, digits: int = 2) -> str:
    """Return a number with some digits, a dash for none."""
    if value is None or math.isnan(value):
        return "–"
    rounded = round(value, digits) + 0.0  # a zero has no minus
    return f"{rounded:.{digits}f}".replace("-", "−")


def clock(at: float | None) -> str:
    """Return a time in UTC to the minute."""
    return "–" if at is None else datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M")


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
    place = {"fragment": visit.by_script, "path": visit.request.url.path, "person": visit.signed_in}
    html = _environment.get_template(template).render({**place, **visit.waiting, **values})
    return Response(html, status, media_type="text/html")


_environment = Environment(
    loader=PackageLoader("scoremux_desk.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals.update(codes=CONDITION_CODES)
_environment.filters.update(
    reason=reason_name, percent=percent, figure=figure, clock=clock, left=time_left, thousands=lambda n: f"{n:,}"
)
