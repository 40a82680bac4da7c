"""`GET /v1/tasks`: the tasks that a token may score, with the store's description of their live versions."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
from fastapi import APIRouter, Response
from pydantic import BaseModel

from scoremux_desk.api.problems import ApiProblem, Described, declared
from scoremux_desk.api.services import CallerOf, ServicesOf
from scoremux_files.settings import parse_file

router = APIRouter(tags=["Tasks"])
_OF_POLICY = ("policy", "conditions", "truncated", "threshold", "level_range")


class TaskOut(Described):
    """A task of the scoring server. What only the store knows is `null` unless the API was given `--tasks`."""

    id: str
    version: str
    """Digest of the live version."""
    levels: list[int]
    """Indices of the levels, the lowest first."""
    points: list[float]
    """What each level is worth."""
    question: str | None = None
    policy: dict[str, Any] | None = None
    """Which rows go to people, as `decision.json` of the version has it; `policy` is its digest."""


class TaskList(BaseModel):
    """The tasks that the token may score."""

    tasks: list[TaskOut]


@router.get("/v1/tasks", summary="List tasks", response_model=TaskList, responses=declared(429, 502, 504))
async def tasks(services: ServicesOf, caller: CallerOf) -> Response:
    """List the tasks that the token may score, without their questions and policies."""
    with services.bodies.taking(caller.token):
        served = await services.scorer.tasks(caller)
        # There may be 100,000 of them: no work for the thread that answers all requests.
        content = await asyncio.to_thread(lambda: orjson.dumps({"tasks": [vars(_shown(task)) for task in served]}))
    return Response(content, media_type="application/json")


@router.get("/v1/tasks/{task}", summary="Describe a task", responses=declared(404, 429, 502, 504))
async def task(task: str, services: ServicesOf, caller: CallerOf) -> TaskOut:
    """Describe a task."""
    with services.bodies.taking(caller.token):
        served = next((served for served in await services.scorer.tasks(caller) if served.id == task), None)
    if served is None:
        raise ApiProblem(404, "Not found", "this task does not exist, or the token may not name it")
    return await asyncio.to_thread(_shown, served, services.tasks)


def _shown(task: Any, store: Path | None = None) -> TaskOut:
    version = store / "packages" / task.version if store else None
    described = _content(version / "task.json") if version else {}
    decision = _content(version / "decision.json") if version else {}
    return TaskOut(
        id=task.id,
        version=task.version,
        levels=list(range(len(task.levels))),
        points=list(task.levels),
        question=described.get("question"),
        policy={k: decision[k] for k in _OF_POLICY if k in decision} or None,
    )


def _content(path: Path) -> dict[str, Any]:
    """Return a JSON file of a version, which never changes; empty where there is none."""
    try:
        return parse_file(path.read_bytes(), path)
    except FileNotFoundError:
        return {}
