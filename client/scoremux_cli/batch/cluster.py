"""A job on Ray Data: the processes of a cluster read, score and write its slices; this one keeps the journal.

Parts, their numbers and the journal are those of `job.run`, so that either goes on with what the other began. All
machines see the sources and the folder under the same paths.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.data
from ray.exceptions import RayError

from scoremux_cli.batch import cuts
from scoremux_cli.batch.cuts import Cut, Found
from scoremux_cli.batch.job import Progress, responses, tidy, write_slice
from scoremux_cli.batch.job_client import Connection, Latencies
from scoremux_cli.batch.journal import Done, Job, Journal
from scoremux_cli.batch.slices import read_source
from scoremux_client.errors import InputError, ScoremuxError, TransportError, UnavailableError
from scoremux_files.rows.records import ReadPosition

Row = dict[str, Any]
_WORKERS_PER_SERVER = 4
_REACH_S = 10.0
_LOCAL = {
    "address": "local",
    "include_dashboard": False,
    "object_store_memory": 100 << 20,  # rows go from the files to the servers, never through Ray
}
_QUIET = {"log_to_driver": False, "logging_level": logging.ERROR}


def run(
    folder: Path,
    job: Job,
    journal: Journal,
    latencies: Latencies,
    progress: Progress,
    connection: Connection,
    workers: int | None,
) -> None:
    """As `job.run`, by `workers` processes (None: as many as there are CPUs, four for a server at most).

    The files are read twice, first to find where their slices begin. Slices are done in any order and journaled in the
    job's own: one that is done out of turn when the job is killed is done again.
    """
    tidy(folder)
    if journal.done.source >= len(job.sources):
        return
    try:
        with _ray():
            where = str(Path.cwd())
            todo = cuts.number(_found(job, journal.done, where), journal.done)
            most = min(int(ray.cluster_resources().get("CPU", 1)), _WORKERS_PER_SERVER * len(connection.urls))
            count = max(1, min(workers or most, len(todo)))
            _journal(_scored(folder, job, connection, where, todo, count), todo, journal, latencies, progress)
    except RayError as error:
        raise UnavailableError(f"Ray gave the job up: {_first_line(error)}") from error
    tidy(folder)


@contextmanager
def _ray() -> Iterator[None]:
    """Join the cluster of RAY_ADDRESS, or start one on this machine for as long as the job runs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray logs the end of Ray Data's own actors as errors
    address = os.environ.get("RAY_ADDRESS")
    _reach(address or "")
    try:
        ray.init(**({} if address else _LOCAL), **_QUIET)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"Ray does not start, or is not there: {_first_line(error)}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise InputError if nothing listens at ``host:port``; Ray itself takes minutes to say so."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=_REACH_S).close()
        except OSError as error:
            raise InputError(f"RAY_ADDRESS is {address}, where no Ray is: {error.strerror or error}") from error


def _found(job: Job, done: Done, where: str) -> list[Found]:
    """Return the slices of the files that are not done; files are read at the same time."""
    todo = [{"source": source} for source in range(done.source, len(job.sources))]
    files = ray.data.from_items(todo, override_num_blocks=len(todo))
    rows = _checked(files.flat_map(_Finder(job, done, where)))
    found = [
        Found(r["source"], ReadPosition(r["offset"], r["line"], r["row"]), r["after_row"], r["filled"]) for r in rows
    ]
    return sorted(found, key=lambda f: (f.source, f.place.offset, f.place.line))


def _scored(folder: Path, job: Job, connection: Connection, where: str, todo: list[Cut], workers: int) -> Iterator[Row]:
    """Yield a row for each cut that is done, in any order."""
    rows = [
        {"number": number, "source": cut.source, "part": cut.part, **cut.place._asdict()}
        for number, cut in enumerate(todo)
    ]
    cut_rows = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = cut_rows.map(
        _Worker,
        fn_constructor_args=(folder, job, connection, where),
        concurrency=workers,
        num_cpus=1,
    )
    return _checked(done)


def _journal(rows: Iterator[Row], todo: list[Cut], journal: Journal, latencies: Latencies, progress: Progress) -> None:
    """Add each slice that is done to the journal, once all before it are there."""
    waiting: dict[int, Row] = {}
    following = 0
    for row in rows:
        waiting[row["number"]] = json.loads(row["line"])
        latencies.merge(json.loads(row["latencies"]))
        while following in waiting:
            journal.add(waiting.pop(following))
            following += 1
        progress(journal.done, sum(line["rows"] for line in waiting.values()))
    if following < len(todo):
        raise UnavailableError(f"Ray ended with {len(todo) - following:,} parts not done")


def _checked(dataset: Any) -> Iterator[Row]:
    """Yield rows as they come. Raises the error that one of them holds."""
    for row in dataset.iter_rows():
        if row["error"]:
            raise (TransportError if row["of_transport"] else InputError)(row["error"])
        yield row


def _failure(error: ScoremuxError, said: str) -> Row:
    # As a row: Ray wraps exceptions in its own.
    return {"error": said, "of_transport": isinstance(error, TransportError)}


_FINE = {"error": "", "of_transport": False}


class _Finder:
    """Finds the slices of a file, in a process of the cluster. where: the folder that relative paths start from."""

    def __init__(self, job: Job, done: Done, where: str) -> None:
        self._job, self._done, self._where = job, Done(source=done.source, place=done.place), where

    def __call__(self, row: Row) -> list[Row]:
        os.chdir(self._where)
        source = row["source"]
        nothing = {"source": source, **ReadPosition()._asdict(), "after_row": 0, "filled": False}
        try:
            found = list(cuts.find(self._job, source, cuts.start(source, self._done)))
        except InputError as error:
            return [{**nothing, **_failure(error, str(error))}]
        rows = [{**f.place._asdict(), "source": source, "after_row": f.after_row, "filled": f.filled} for f in found]
        return [{**row, **_FINE} for row in rows]


class _Worker:
    """Reads, scores and writes slices, in a process of the cluster."""

    def __init__(self, folder: Path, job: Job, connection: Connection, where: str) -> None:
        os.chdir(where)
        self._folder, self._job = folder, job
        self._latencies = Latencies()
        self._client = connection.open(self._latencies)

    def __call__(self, row: Row) -> Row:
        source, place = row["source"], ReadPosition(row["offset"], row["line"], row["row"])
        try:
            part = next(read_source(self._job, source, place))
            where = row["part"], self._job.sources[source].path
            scored = list(self._job.people.outcomes(self._client, responses(part), lambda: where))
            line = write_slice(self._folder, row["part"], self._job, source, part, scored)
        except ScoremuxError as error:
            said = f"{self._job.sources[source].path}, after line {place.line}: {error}"
            return {"number": row["number"], "line": "", "latencies": "", **_failure(error, said)}
        latencies = json.dumps(self._latencies.drain())
        return {"number": row["number"], "line": json.dumps(line), "latencies": latencies, **_FINE}


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
