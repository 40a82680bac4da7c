"""A server's stand-in that routes by text, and an API process on it that can be killed.

    python routed.py DATABASE FOLDER [dies]

prints its port. With `dies`, it kills itself between the commit of a request with the word DIE and its answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from scoremux_api.api_app import create_app
from scoremux_api.callers import Callers
from scoremux_api.rows.live_intake import LiveIntake, ScoredArrival
from scoremux_api.scorer import TritonScorer
from scoremux_api.services import Services, Settings
from scoremux_client import NO_RETRIES
from scoremux_client.rows import Response
from scoremux_client.testing import FakeTransport
from scoremux_review.database.connection import Database

TASKS = {"t-1": [0, 0.5, 1], "t-2": [0, 1], "danger": [0, 1]}


class RoutedTransport(FakeTransport):
    """Sends texts with `unsure` to people, gives texts with `hurt` the upper level of `danger`, and else level 1."""

    def __init__(self) -> None:
        super().__init__(TASKS, lambda task, text: int(task != "danger" or "hurt" in text))

    def _columns(self, responses: list[Response]) -> dict[str, Any]:
        columns = super()._columns(responses)
        for row, response in enumerate(responses):
            if b"unsure" in bytes(response.text) and columns["ROUTE"][row, 0] == b"machine":  # type: ignore[arg-type]
                columns["ROUTE"][row, 0] = b"human:LOW_CONFIDENCE"
        return columns


class _DyingIntake(LiveIntake):
    async def commit(self, token: str, arrivals: Sequence[ScoredArrival]) -> None:
        await super().commit(token, arrivals)
        if any("DIE" in (arrival.text or "") for arrival in arrivals):
            await asyncio.to_thread(os.kill, os.getpid(), signal.SIGKILL)


@contextmanager
def api_process(database: str, folder: Path, *options: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Run an API in a process of its own; give a client of it, and the process."""
    command = [sys.executable, __file__, database, str(folder), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client, process
        finally:
            process.kill()


def main(database: str, folder: str, dies: str = "") -> None:
    """Serve until killed."""
    with (
        closing(Database(database, create=True)) as opened,
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
    ):
        services = Services(
            Settings(Path(folder), allowed_hosts=frozenset({"localhost"})),
            opened,
            TritonScorer([RoutedTransport()], NO_RETRIES),
            Callers(None),
        )
        if dies:
            services.intake = _DyingIntake(opened)
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(create_app(services), log_level="warning")).run([listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
