"""An API in this process: real database, real app, and a transport in place of Triton."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from scoremux_api.api_app import create_app
from scoremux_api.callers import Callers
from scoremux_api.scorer import TritonScorer
from scoremux_api.services import Services, Settings
from scoremux_client import NO_RETRIES
from scoremux_client.testing import FakeTransport
from scoremux_review.database.connection import Database

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1]}


@contextmanager
def api(folder: Path, transport: Any = None, **settings: Any) -> Iterator[tuple[TestClient, Services]]:
    """Give a client of a running API, and its services; the database is a new file of the folder unless it exists."""
    database = Database(str(folder / "reviews.db"), create=True)
    chosen = Settings(folder=folder, **settings)
    services = Services(
        chosen, database, TritonScorer([transport or FakeTransport(TASKS)], NO_RETRIES), Callers(chosen.key)
    )
    try:
        with TestClient(create_app(services), raise_server_exceptions=False) as client:
            yield client, services
    finally:
        database.close()
