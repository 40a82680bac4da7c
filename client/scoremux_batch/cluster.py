"""A job on Ray: tasks of a cluster read, score and write its slices; this process cuts the files and journals.

Parts, their numbers and the journal are those of `job.run`, so either can resume the other's job. All machines see the
sources and the folder under the same paths. Slices end in any order and are journaled in the job's own: one that ended
out of turn before a kill is done again.
"""

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

from scoremux_batch.in_process import Connection, Latencies, Progress, score_slices
from scoremux_batch.job import Job
from scoremux_batch.journal import Journal
from scoremux_batch.parts import UnfinishedPart, remove_unfinished, write_part
from scoremux_batch.slices import read_slices, read_source
from scoremux_client.errors import TransportError, UnavailableError
from scoremux_files.errors import InputError, ScoremuxError, first_line, reason
from scoremux_files.rows.row_layout import Json, ReadPosition

_TASKS_PER_SERVER = 4
_CONNECT_S = 10.0
_LOCAL = {"address": "local", "include_dashboard": False, "object_store_memory": 100 << 20}  # no row goes through Ray


def run(
    folder: Path,
    job: Job,
    journal: Journal,
    latencies: Latencies,
    progress: Progress,
    connection: Connection,
    workers: int | None,
) -> None:
    """Score what is not done yet, as `job.run` does, `workers` slices at a time (None: one a CPU, four a server)."""
    remove_unfinished(folder)
    UnfinishedPart(folder).remove()
    if journal.state.source >= len(job.sources):
        return
    with _cluster():
        most = workers or _TASKS_PER_SERVER * len(connection.urls)
        count = max(1, min(most, int(ray.cluster_resources().get("CPU", 1))))
        task: Any = ray.remote(num_cpus=1, max_retries=-1)(score_slice)
        slices, done = enumerate(read_slices(job, journal.state)), dict[int, Json]()
        running, following = dict[Any, int](), 0
        while True:
            for number, part in islice(slices, count - len(running)):
                running[task.remote(folder, job, connection, Path.cwd(), part.index, part.start, part.number)] = number
            if not running:
                break
            (ready,), _ = ray.wait(list(running), num_returns=1)
            done[running.pop(ready)], seconds = ray.get(ready)
            latencies.extend(seconds)
            while following in done:
                journal.add(done.pop(following))
                following += 1
            progress(journal.state, sum(line["rows"] for line in done.values()))
    remove_unfinished(folder)


def score_slice(
    folder: Path, job: Job, connection: Connection, working_folder: Path, index: int, start: ReadPosition, number: int
) -> tuple[Json, Latencies]:
    """Score a slice, in a process of the cluster; return its line for the journal, and how long its requests took."""
    os.chdir(working_folder)
    latencies = array("f")
    try:
        with connection.open(latencies) as client:
            ((part, scored),) = score_slices(job, islice(read_source(job, index, start, number), 1), client)
        return write_part(folder, part, scored, job.people.read_behind), latencies
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
