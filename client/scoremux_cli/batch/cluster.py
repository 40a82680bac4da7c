"""A job on Ray: actors of a cluster read, score and write its slices; this process cuts the files and journals.

Parts, their numbers and the journal are those of `job.run`, so either can resume the other's job. All machines see the
sources and the folder under the same paths.
"""

from __future__ import annotations

import logging
import os
import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from scoremux_cli.batch.job import Progress, score_slices
from scoremux_cli.batch.job_client import Connection, Latencies
from scoremux_cli.batch.journal import Job, Journal
from scoremux_cli.batch.parts import remove_unfinished, write_part
from scoremux_cli.batch.slices import Slice, read_slices, read_source
from scoremux_cli.batch.unfinished_part import UnfinishedPart
from scoremux_client.errors import TransportError, UnavailableError
from scoremux_files.errors import InputError, ScoremuxError, reason
from scoremux_files.rows.row_layout import ReadPosition

_ACTORS_PER_SERVER = 4
_CONNECT_S = 10.0
_LOCAL = {
    "address": "local",
    "include_dashboard": False,
    "object_store_memory": 100 << 20,  # rows go from the files to the servers, never through Ray
}
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}

PartLine = dict[str, Any]
"""A part's line for the journal."""


def run(
    folder: Path,
    job: Job,
    journal: Journal,
    latencies: Latencies,
    progress: Progress,
    connection: Connection,
    actors: int | None,
) -> None:
    """Score what is not done yet, as `job.run` does.

    Slices are done in any order and journaled in the job's own: one that was done out of turn when the job is killed is
    done again. The files are read twice, here to find where their slices begin.

    Args:
        folder: Where parts are written.
        job: What is scored.
        journal: The open journal of the folder.
        latencies: Receives how long the requests took.
        progress: Called as parts are done.
        connection: How the actors reach the servers.
        actors: Processes that score; None for as many as there are CPUs, at most four for a server.
    """
    remove_unfinished(folder)
    UnfinishedPart(folder).remove()
    if journal.state.source >= len(job.sources):
        return
    connection.open(latencies).close()  # refuse a wrong address here; in an actor's constructor it is the actor's death
    try:
        with _ray():
            cpus = int(ray.cluster_resources().get("CPU", 1))
            count = max(1, min(actors or _ACTORS_PER_SERVER * len(connection.urls), cpus))
            actor: Any = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(SliceScorer)
            pool = [actor.remote(folder, job, connection, Path.cwd()) for _ in range(count)]
            for lines, waiting_rows in _score(pool, read_slices(job, journal.state), latencies):
                for line in lines:
                    journal.add(line)
                progress(journal.state, waiting_rows)
    except RayTaskError as error:
        if not isinstance(error.cause, ScoremuxError):
            raise
        raise error.cause from None
    except RayError as error:
        raise UnavailableError(f"Ray cannot finish the job: {_first_line(error)}") from error
    remove_unfinished(folder)


def _score(pool: list[Any], slices: Iterator[Slice], latencies: Latencies) -> Iterator[tuple[list[PartLine], int]]:
    """Yield lines of parts in order, as soon as all parts before them are done, and how many done rows wait for that.

    Args:
        pool: Idle actors.
        slices: What they score.
        latencies: Receives how long the requests took.
    """
    numbered = enumerate(slices)
    running: dict[Any, tuple[int, Any]] = {}
    waiting: dict[int, PartLine] = {}
    following = 0
    while True:
        for number, part in islice(numbered, len(pool)):
            actor = pool.pop()
            running[actor.score.remote(part.index, part.start, part.number)] = number, actor
        if not running:
            return
        (ready,), _ = ray.wait(list(running), num_returns=1)
        number, actor = running.pop(ready)
        pool.append(actor)
        waiting[number], seconds = ray.get(ready)
        latencies.extend(seconds)
        lines = []
        while following in waiting:
            lines.append(waiting.pop(following))
            following += 1
        yield lines, sum(line["rows"] for line in waiting.values())


class SliceScorer:
    """Reads, scores and writes slices, in a process of the cluster. Ray restarts it and its task if it is killed."""

    def __init__(self, folder: Path, job: Job, connection: Connection, working_folder: Path) -> None:
        os.chdir(working_folder)
        self._folder, self._job = folder, job
        self._latencies = array("f")
        self._client = connection.open(self._latencies)

    def score(self, index: int, start: ReadPosition, number: int) -> tuple[PartLine, Latencies]:
        """Score one slice; return its line for the journal and the latencies of its requests."""
        try:
            slices = islice(read_source(self._job, index, start, number), 1)
            ((part, scored),) = score_slices(self._job, slices, self._client)
            line = write_part(self._folder, part, scored, self._job.people.read_behind)
        except ScoremuxError as error:
            kind = TransportError if isinstance(error, TransportError) else InputError
            raise kind(f"{self._job.sources[index].path}, after line {start.line}: {error}") from error
        latencies = self._latencies[:]
        del self._latencies[: len(latencies)]
        return line, latencies


@contextmanager
def _ray() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one on this machine that ends with the job."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS")
    _check_address(address or "")
    try:
        ray.init(**({} if address else _LOCAL), **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray cannot be started or reached: {_first_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise InputError if nothing listens at ``host:port``; Ray itself takes minutes to say so."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        except OSError as error:
            raise InputError(f"no Ray cluster answers at RAY_ADDRESS {address}: {reason(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
