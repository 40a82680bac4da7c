"""An API in this process: real database, real app, and a transport in place of Triton."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from scoremux_api.api_app import create_app
from scoremux_api.callers import Callers
from scoremux_api.scorer import TritonScorer
from scoremux_api.services import Services, Settings
from scoremux_client import NO_RETRIES
from scoremux_client.testing import FakeTransport
from scoremux_review.database.connection import Database
from waiting import until

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1]}


@contextmanager
def api(folder: Path, transport: Any = None, **settings: Any) -> Iterator[tuple[TestClient, Services]]:
    """Give a client of a running API, and its services; the database is a new file of the folder unless it exists."""
    with (
        made(folder, transport, **settings) as services,
        TestClient(create_app(services), raise_server_exceptions=False) as client,
    ):
        yield client, services


@contextmanager
def made(
    folder: Path, transport: Any = None, key: bytes | None = None, tokens: Path | None = None, **settings: Any
) -> Iterator[Services]:
    database, chosen = Database(str(folder / "reviews.db"), create=True), Settings(folder=folder, **settings)
    scorer = TritonScorer([transport or FakeTransport(TASKS)], NO_RETRIES)
    try:
        yield Services(chosen, database, scorer, Callers(key, tokens))
    finally:
        database.close()


@contextmanager
def listening_api(folder: Path, transport: Any = None, **settings: Any) -> Iterator[str]:
    """Serve an API on a free port of loopback, in a thread; give its ``host:port``."""
    with made(folder, transport, **settings) as services, socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_level="warning", server_header=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started)
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
