"""`/v1/batches`: files of rows in JSON Lines, computed in the background."""

import json
import secrets
from functools import partial
from threading import Lock
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select

from scoremux_desk.api.batches import batch_files, batch_table
from scoremux_desk.api.batches.batch_files import BatchFiles
from scoremux_desk.api.batches.batch_table import UNDER_WAY, Batch, BatchList, BatchState, RequestCounts
from scoremux_desk.api.callers import Caller
from scoremux_desk.api.idempotency import OnceOf
from scoremux_desk.api.problems import ApiProblem, declared
from scoremux_desk.api.services import CallerOf, Services, ServicesOf
from scoremux_desk.database.schema import BATCH, batches, inserted, time_of

MOST_BATCHES, MOST_STORED = 1_000, 8 << 30
"""Of one token: batches that have not ended, and bytes of all until they expire."""

JSON_LINES = "application/jsonl"
router = APIRouter()
_BODY = {"required": True, "content": {JSON_LINES: {"schema": {"type": "string"}}}}
_LINES: dict[int | str, dict[str, Any]] = {
    200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}, "description": "A JSON object in each line."}
}


@router.post(
    "/v1/batches",
    status_code=202,
    response_model=Batch,
    responses=declared(400, 408, 409, 413, 429),
    openapi_extra={"requestBody": _BODY},
)
async def add_batch(request: Request, services: ServicesOf, caller: CallerOf, once: OnceOf) -> Response:
    """Take a batch, a row as for `/v1/score` in each line; its results come later."""
    batch = f"batch_{int(services.database.now() * 1000):012x}{secrets.token_hex(8)}"  # sorted by time
    files = BatchFiles(services.folder, batch)
    claim = Lock()  # who takes it adds the batch, or removes its files

    def add() -> Response:
        with services.database.write() as connection:
            now = time_of(connection)
            inserted(
                connection,
                batches,
                id=batch,
                token=caller.token,
                patterns=json.dumps(caller.patterns),
                state="validating",
                counts=RequestCounts().model_dump_json(),
                size=taken.size,
                created_at=now,
                changed_at=now,
            )
            added = batch_table.batch_of(batch_table.row_of(connection, batch)).model_dump_json()
            answer = Response(added, 202, {"location": f"/v1/batches/{batch}"}, "application/json")
            once.keep(connection, answer)
            if not claim.acquire(blocking=False):
                raise ApiProblem(503, "Request cancelled", "the request was cancelled; send it again", 1)
        services.batches_changed.set()
        return answer

    number, stored = await to_thread.run_sync(partial(_stored, services, caller.token))
    services.bodies.check(caller.token, "batches that have not ended", number + 1, MOST_BATCHES, 60)
    try:
        with services.bodies.taking(caller.token, MOST_STORED - stored) as taken:
            digest = await files.receive(taken.blocks(request, batch_files.MOST_BYTES))
            return await once.answer(digest.encode(), partial(to_thread.run_sync, add))
    finally:
        if claim.acquire(blocking=False):  # a request can be cancelled while the thread of `add` goes on
            files.remove()


def _stored(services: Services, token: str) -> tuple[int, int]:
    """Return how many batches of a token have not ended, and the bytes of all that have not expired."""
    mine = select(
        func.count().filter(BATCH.state.in_(UNDER_WAY)),
        func.coalesce(func.sum(BATCH.size), 0),
    )
    with services.database.read() as connection:
        row = connection.execute(mine.where(BATCH.token == token, BATCH.state != "expired")).one()
    return row[0], int(row[1])


@router.get("/v1/batches", responses=declared())
def list_batches(
    services: ServicesOf,
    caller: CallerOf,
    after: Annotated[
        str | None, Query(pattern=f"^{batch_table.ID.pattern}$", description="Id of the last batch of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchList:
    """List the token's batches, the newest first."""
    query = select(batches).where(BATCH.token == caller.token).order_by(BATCH.id.desc()).limit(limit + 1)
    with services.database.read() as connection:
        rows = connection.execute(query if after is None else query.where(BATCH.id < after)).all()
    return BatchList(data=[batch_table.batch_of(row) for row in rows[:limit]], has_more=len(rows) > limit)


@router.get("/v1/batches/{batch}", responses=declared(404))
def get_batch(batch: str, services: ServicesOf, caller: CallerOf) -> Batch:
    """Show how far a batch is."""
    with services.database.read() as connection:
        return batch_table.batch_of(batch_table.row_of(connection, batch, caller.token))


@router.get("/v1/batches/{batch}/results", responses={**_LINES, **declared(404, 410)}, response_class=Response)
def get_results(batch: str, services: ServicesOf, caller: CallerOf) -> StreamingResponse:
    """Give the outcomes of the rows that are done, in the order of the file, as rows of `/v1/score`."""
    return StreamingResponse(_files(batch, services, caller).results(), media_type=JSON_LINES)


@router.get("/v1/batches/{batch}/errors", responses={**_LINES, **declared(404, 410)}, response_class=Response)
def get_errors(batch: str, services: ServicesOf, caller: CallerOf) -> StreamingResponse:
    """Give the lines that get no outcome, each with `line` and the members of a problem.

    A line is not a row (`Invalid request`), or an earlier line or the desk has its id with another text (`Row exists`).
    """
    return StreamingResponse(_files(batch, services, caller).errors(), media_type=JSON_LINES)


@router.post("/v1/batches/{batch}/cancel", responses=declared(404, 409))
def cancel_batch(batch: str, services: ServicesOf, caller: CallerOf) -> Batch:
    """Stop a batch; the outcomes of the rows that are done stay."""
    with services.database.write() as connection:
        row = batch_table.row_of(connection, batch, caller.token)
        # Without its files nothing here would end the batch; an API that has them stops, too.
        after: BatchState = "cancelling" if BatchFiles(services.folder, batch).folder.exists() else "cancelled"
        is_cancelled = row.state in (after, "cancelled")
        if not is_cancelled and not batch_table.move(connection, batch, UNDER_WAY, after):
            raise ApiProblem(409, "Batch has ended", f"the batch is {row.state}")
        services.batches_changed.set()
        return batch_table.batch_of(batch_table.row_of(connection, batch))


def _files(batch: str, services: Services, caller: Caller) -> BatchFiles:
    """Return the files of a token's batch. Raises ApiProblem."""
    with services.database.read() as connection:
        row = batch_table.row_of(connection, batch, caller.token)
    if row.state == "expired":
        raise ApiProblem(410, "Batch has expired", "the results were removed; send the rows again")
    files = BatchFiles(services.folder, batch)
    if not files.folder.exists():
        raise ApiProblem(503, "Files unavailable", "this API does not have the files of the batch", 5)
    return files
