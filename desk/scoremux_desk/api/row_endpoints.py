"""`POST /v1/score`, and what became of a row: `machine` → `pending` → `final` → `corrected`."""

import asyncio
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Request, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from scoremux_client import Response as Row
from scoremux_client.contract import TASK_ID_PATTERN
from scoremux_desk.api.callers import Caller
from scoremux_desk.api.live_intake import ScoredArrival
from scoremux_desk.api.problems import ApiProblem, Described, declared
from scoremux_desk.api.services import CallerOf, Services, ServicesOf
from scoremux_desk.api.shapes import ROW_ID, SCORE_REQUEST, ScoreAnswer, as_json_row, example, parsed
from scoremux_desk.database import api_rows, log, programme
from scoremux_desk.database.connection import Connection
from scoremux_desk.reading import intake

_MOST_BYTES = 8 << 20
_MOST_ENTRIES = 1_000
router = APIRouter(tags=["Rows"])
RowState = Literal["machine", "pending", "final", "corrected"]
_Outcome = tuple[RowState, int | None, str]
_PENDING: _Outcome = ("pending", None, "")


class RowChange(Described):
    """A row at one time."""

    at: datetime
    state: RowState = Field(
        description="`machine`: the machine's level counts (people may read the row behind it); `pending`: people have "
        "not decided yet; `final`: they have; `corrected`: they have decided again."
    )
    level: int | None
    """Index of the level that counts, from 0; `null` while there is none."""
    score: float | None
    """The points that this level is worth."""
    condition: str | None
    """Code of a response that is no attempt."""


class RowOut(RowChange):
    """A row that people read, or may, and what became of it."""

    model_config = example(
        at="2026-11-30T09:00:00Z",
        state="final",
        level=2,
        score=0.5,
        condition=None,
        id="r1",
        task="en-6.3-ipp",
        reason="LOW_CONFIDENCE",
        machine_level=1,
        route="human:LOW_CONFIDENCE",
        version="9f0c…",
        history=[{"at": "2026-11-30T08:00:00Z", "state": "pending", "level": None, "score": None, "condition": None}],
    )

    id: str
    task: str
    reason: str | None
    """Why people read it, such as `LOW_CONFIDENCE`."""
    machine_level: int | None
    route: str | None
    version: str | None
    """Digest of the task version that the machine scored it with."""
    history: list[RowChange]
    """All changes of state or level, the first one first."""


@router.post(
    "/v1/score",
    summary="Score responses",
    response_model=ScoreAnswer,
    responses=declared(408, 409, 413, 429, 502, 504),
    openapi_extra=SCORE_REQUEST,
)
async def score(request: Request, services: ServicesOf, caller: CallerOf) -> Response:
    """Score up to 512 rows; a row that cannot be scored gets a status, and its neighbours their scores."""
    with services.bodies.taking(caller.token) as taken:
        return await _score(services, caller, await taken.read(request, _MOST_BYTES))


async def _score(services: Services, caller: Caller, body: bytes) -> Response:
    rows = parsed(body).rows
    services.intake.check_kept(caller.namespace, {name for row in rows for name in row.keep})
    sent = [Row(row.task, row.text, row.id) for row in rows]
    scored, alerts = await asyncio.gather(services.scorer.score(caller, sent), services.alerts(caller, sent))
    outcomes = zip(rows, scored, alerts, strict=True)
    arrivals = [
        ScoredArrival(row.text, one, None if number else alert, *row.origin, trait)
        for row, outcome, alert in outcomes
        for number, (trait, one) in enumerate((outcome.traits or {"": outcome}).items())
    ]
    await services.intake.commit(caller.namespace, arrivals)
    content = orjson.dumps({"rows": [as_json_row(row) for row in scored]})
    return Response(content, media_type="application/json")


@router.get("/v1/rows/{task}/{id:path}", summary="What was decided about a response", responses=declared(404, 429))
async def row(
    services: ServicesOf,
    caller: CallerOf,
    task: Annotated[str, Path(pattern=f"^{TASK_ID_PATTERN}$")],
    name: Annotated[str, Path(alias="id", pattern=ROW_ID)],
) -> RowOut:
    """Say whose level of a row counts, and what it was before. Rows that the machine decided are not kept."""
    with services.bodies.taking(caller.token):
        return await run_in_threadpool(_row, services, caller, task, name)


def _row(services: Services, caller: Caller, task: str, name: str) -> RowOut:
    with services.database.read() as connection:
        found = api_rows.owned(connection, caller.namespace, [name]).get((task, name))
        if found is None or not (caller.allows(task) or caller.allows(task.rpartition(".")[0])):  # as item of a trait
            detail = "people do not read this row: the machine has decided it, or the token never sent it"
            raise ApiProblem(404, "Not found", detail)
        changes = _history(connection, found, programme.item_of(connection, task))
    return RowOut(
        id=name,
        task=task,
        reason=found.reason or None,
        machine_level=_level(found),
        route=found.route or None,
        version=found.version or None,
        history=changes,
        **changes[-1].model_dump(),
    )


def _history(connection: Connection, row: Any, item: programme.Item) -> list[RowChange]:
    """Return how a row came, and what each entry of the desk's record that settles or reopens it has changed."""
    by_machine = row.reason in ("", intake.READ_BEHIND)
    undecided: _Outcome = ("machine", _level(row), row.condition) if by_machine else _PENDING
    changes = [(datetime.fromtimestamp(row.at, timezone.utc), undecided)]
    decided: RowState = "final"
    for entry in reversed(log.entries(connection, row.id, _MOST_ENTRIES)):
        if "final" not in entry.body:
            continue
        if entry.body["round"] > 1:
            decided, undecided = "corrected", _PENDING
        now = undecided
        if entry.body["state"] == "done":
            now = (decided, *entry.body["final"][:2])
            decided = "corrected"
        if now != changes[-1][1]:
            changes.append((datetime.fromisoformat(entry.at), now))
    return [
        RowChange(at=at, state=state, level=level, score=item.worth(level), condition=code or None)
        for at, (state, level, code) in changes
    ]


def _level(row: Any) -> int | None:
    return row.level if row.level >= 0 else None
