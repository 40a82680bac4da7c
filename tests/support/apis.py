"""APIs in this process and in others: real database, real app, and a transport in place of Triton.

    python apis.py DATABASE [dies|keyed] PORT

serves one that routes by text. With `dies`, it kills itself between the commit of a request with the word DIE and its
answer. With `keyed`, callers need a grant.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi.testclient import TestClient

from chromium import served
from scoremux_batch.jobs import ForPeople
from scoremux_client import NO_RETRIES
from scoremux_client.rows import Response
from scoremux_client.testing import FakeTransport
from scoremux_desk.api.api_app import create_app
from scoremux_desk.api.callers import Callers
from scoremux_desk.api.live_intake import LiveIntake, ScoredArrival
from scoremux_desk.api.services import Services
from scoremux_desk.api.triton_scorer import TritonScorer
from scoremux_desk.database.connection import Database
from scoremux_engine.scoring.permission import HEADER, Grant
from serving import SCOREMUX, code
from waiting import free_port, until

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1]}
KEY = b"k" * 32


def row(name: object, text: Any = "unsure", task: str = "t-1") -> dict[str, Any]:
    return {"id": str(name), "task": task, "text": text}


def score(client: httpx.Client, *rows: dict[str, Any], **options: Any) -> httpx.Response:
    return client.post("/v1/score", json={"rows": list(rows)}, **options)


def grant(token: str, *patterns: str, ends_in_s: int = 3600, key: bytes = KEY) -> dict[str, str]:
    return {HEADER: Grant(token, int(time.time()) + ends_in_s, patterns or ("*",)).signed(key)}


class RoutedTransport(FakeTransport):
    """Sends texts with `unsure` to people, gives texts with `hurt` the upper level of `danger`, and else level 1."""

    def __init__(self) -> None:
        super().__init__({**TASKS, "danger": [0, 1]}, lambda task, text: int(task != "danger" or "hurt" in text))

    def _columns(self, responses: list[Response]) -> dict[str, Any]:
        columns = super()._columns(responses)
        for number, response in enumerate(responses):
            if b"unsure" in bytes(response.text) and columns["ROUTE"][number, 0] == b"machine":  # type: ignore[arg-type]
                columns["ROUTE"][number, 0] = b"human:LOW_CONFIDENCE"
        return columns


@contextmanager
def made(
    folder: Path,
    transport: Any = None,
    key: bytes | None = None,
    tokens: Path | None = None,
    name: str = "",
    **settings: Any,
) -> Iterator[Services]:
    """Give the services of an API; its database, by default a file of the folder, is new unless it exists."""
    database = Database(name or str(folder / "reviews.db"), create=True)
    people = ForPeople(settings.pop("read_behind", None), settings.pop("alert", None))
    scorer = TritonScorer([transport or FakeTransport(TASKS)], NO_RETRIES)
    try:
        yield Services(database, scorer, Callers(key, tokens), people=people, **settings)
    finally:
        database.close()


@contextmanager
def api(folder: Path, *options: Any, **more: Any) -> Iterator[tuple[TestClient, Services]]:
    """Give a client of a running API, and its services; options as of `made`."""
    with (
        made(folder, *options, **more) as services,
        TestClient(create_app(services), raise_server_exceptions=False) as client,
    ):
        yield client, services


@contextmanager
def listening_api(folder: Path, *options: Any, **more: Any) -> Iterator[str]:
    """Serve an API on a free port of loopback, in a thread; give its ``host:port``."""
    with (
        made(folder, *options, **more) as services,
        served(create_app(services), lifespan="on", timeout_graceful_shutdown=None, server_header=False) as url,
    ):
        yield url.replace("http://localhost", "127.0.0.1")


Process = tuple[httpx.Client, subprocess.Popen[bytes]]


@contextmanager
def _process(*command: object) -> Iterator[Process]:
    """Run a command whose last word is a port; give a client of it, and the process."""
    process, port = subprocess.Popen([str(word) for word in command], stderr=subprocess.DEVNULL), command[-1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            until(lambda: code(f"{client.base_url}/readyz") == 200, process)
            yield client, process
    finally:
        process.kill()
        process.wait()


def api_process(folder: Path, *options: str) -> Any:
    """Run `scoremux api` with its database in a folder; give a client of it, and the process."""
    return _process(SCOREMUX, "api", "--database", folder / "reviews.db", *options, "--port", free_port())


def routed_process(database: str, *options: str) -> Any:
    """Run this file; give a client of it, and the process."""
    return _process(sys.executable, __file__, database, *options, free_port())


class _DyingIntake(LiveIntake):
    async def commit(self, token: str, arrivals: Sequence[ScoredArrival]) -> None:
        await super().commit(token, arrivals)
        if any("DIE" in (arrival.text or "") for arrival in arrivals):
            await asyncio.to_thread(os.kill, os.getpid(), signal.SIGKILL)


def main(database: str, *words: str) -> None:
    """Serve until killed."""
    with made(Path(), RoutedTransport(), KEY if "keyed" in words else None, name=database) as services:
        if "dies" in words:
            services.intake = _DyingIntake(services.database)
        uvicorn.run(create_app(services), port=int(words[-1]), log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
