"""A job on Ray: workers of a cluster read, score and write its slices; this process cuts the files and journals.

Parts, their numbers and the journal are those of `job.run`, so either can resume the other's job. All machines see the
sources and the folder under the same paths. Slices end in any order and are journaled in the job's own: one that ended
out of turn before a kill is done again.
"""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from scoremux_batch.in_process import Connection, Progress, score_slices
from scoremux_batch.job import Job
from scoremux_batch.journal import Journal
from scoremux_batch.parts import remove_unfinished, write_part
from scoremux_batch.slices import read_slices, read_source
from scoremux_client.client import ScoringClient
from scoremux_client.errors import TransportError, UnavailableError
from scoremux_files.errors import InputError, ScoremuxError, first_line, reason
from scoremux_files.rows.row_layout import Json, ReadPosition

_TASKS_PER_SERVER = 4
_CONNECT_S = 10.0
_CPUS = 0.1
"""Of a worker: it mostly waits for servers, and must not wait for a whole CPU beside this process."""
_LOCAL = {"address": "local", "include_dashboard": False, "object_store_memory": 100 << 20}  # no row goes through Ray


def run(
    folder: Path, job: Job, journal: Journal, progress: Progress, connection: Connection, workers: int | None
) -> None:
    """Score what is not done yet, as `job.run` does, `workers` slices at a time (None: one a CPU, four a server)."""
    remove_unfinished(folder)
    if journal.state.source >= len(job.sources):
        return
    with _cluster():
        most = workers or _TASKS_PER_SERVER * len(connection.urls)
        count = max(1, min(most, int(ray.cluster_resources().get("CPU", 1))))
        options = {"num_cpus": _CPUS, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        actor: Any = ray.remote(**options)(SliceScorer)
        slices, done = enumerate(read_slices(job, journal.state)), dict[int, Json]()
        idle, running, following = list[Any](), dict[Any, tuple[int, Any]](), 0
        while True:
            for number, part in islice(slices, count - len(running)):
                scorer = idle.pop() if idle else actor.remote(folder, job, connection, Path.cwd())
                running[scorer.score_slice.remote(part.index, part.start, part.number)] = number, scorer
            if not running:
                break
            (ready,), _ = ray.wait(list(running), num_returns=1)
            place, scorer = running.pop(ready)
            done[place] = ray.get(ready)
            idle.append(scorer)
            while following in done:
                journal.add(done.pop(following))
                following += 1
            progress(journal.state, sum(line["rows"] for line in done.values()))
    remove_unfinished(folder)


class SliceScorer:
    """Scores slices in a process of the cluster, with one client, which learns once how many rows a request carries."""

    def __init__(self, folder: Path, job: Job, connection: Connection, working_folder: Path) -> None:
        os.chdir(working_folder)
        self._folder, self._job, self._connection = folder, job, connection

    @cached_property
    def _client(self) -> ScoringClient:
        return self._connection.open()

    def score_slice(self, index: int, start: ReadPosition, number: int) -> Json:
        """Score a slice; return its line for the journal."""
        job = self._job
        try:
            ((part, scored),) = score_slices(job, islice(read_source(job, index, start, number), 1), self._client)
            return write_part(self._folder, part, scored, job.people.read_behind)
        except ScoremuxError as error:
            kind = TransportError if isinstance(error, TransportError) else InputError
            raise kind(f"{job.sources[index].path}, after line {start.line}: {error}") from error


@contextmanager
def _cluster() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one on this machine, inside the block. Raises InputError."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    address = os.environ.get("RAY_ADDRESS", "")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself takes minutes to say that nothing listens there
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        ray.init(**({} if address else _LOCAL), log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        why = reason(error) if isinstance(error, OSError) else first_line(error)
        raise InputError(f"Ray cannot be started or reached (RAY_ADDRESS={address!r}): {why}") from error
    try:
        yield
    except RayTaskError as error:
        if not isinstance(error.cause, ScoremuxError):
            raise
        raise error.cause from None
    except RayError as error:
        raise UnavailableError(f"Ray cannot finish the job: {first_line(error)}") from error
    finally:
        ray.shutdown()
