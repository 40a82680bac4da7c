"""A job as the command runs it: with progress and a summary, until it ends, fails or meets Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import time
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from scoremux_batch import job as in_process
from scoremux_batch.job import Progress
from scoremux_batch.job_client import Connection, Latencies
from scoremux_batch.job_output import Output
from scoremux_batch.journal import Job, JobState, Journal
from scoremux_batch.parts import UnfinishedPart, read_rejected
from scoremux_batch.second_tries import retry_rows
from scoremux_batch.sources import check_sources
from scoremux_batch.summary import ProgressReport, print_rejected, summarise
from scoremux_client.contract import Status
from scoremux_client.errors import TransportError
from scoremux_files.errors import ScoremuxError, writing
from scoremux_files.rows.writers import JOURNAL, beside_parts

INTERRUPTED_STATUS = 130
RunJob = Callable[[Path, Job, Journal, Latencies, Progress], None]


def runner_of(connection: Connection, statuses: Collection[Status], on_ray: bool, workers: int | None) -> RunJob:
    """Return what runs a job, and then scores rows with some statuses again. Ray is imported before a job is begun."""
    if on_ray:
        from scoremux_batch import cluster

    def run(folder: Path, job: Job, journal: Journal, latencies: Latencies, progress: Progress) -> None:
        if on_ray:
            cluster.run(folder, job, journal, latencies, progress, connection, workers)
        else:
            with connection.open(latencies) as client:
                in_process.run(folder, job, journal, client, progress)
        if statuses:
            with connection.open(latencies) as client:
                retry_rows(folder, job, journal, client, statuses, progress)

    return run


def run_job(console: Console, output: Output, job: Job, run: RunJob) -> JobState:
    """Run the job to its end; return what was done, in this run and before."""
    folder = output.folder
    if not beside_parts(folder, JOURNAL).exists():
        check_sources(job.sources, job.layout)
        UnfinishedPart(folder).remove()  # of a job whose other files were removed
    with writing(folder):
        new_folder = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    latencies, started = array("f"), time.perf_counter()
    with Journal(folder, job) as journal:
        state, rows_before = journal.state, journal.state.rows
        resume = f"re-run the same command to resume: {folder}"
        if journal.resumed:
            console.print(f"resuming: {rows_before:,} rows are done")
        try:
            with ProgressReport(console, job, state) as report, _ending_at_interrupt(console, report, resume):
                run(folder, job, journal, latencies, report)
        except ScoremuxError as error:
            if new_folder and not state.parts and not output.alerts.exists():
                shutil.rmtree(folder)
            elif isinstance(error, TransportError):
                console.print(f"{state.rows:,} rows are done; {resume}", soft_wrap=True)
            raise
        summarise(console, state, state.rows - rows_before, time.perf_counter() - started, latencies)
        print_rejected(console, read_rejected(folder))
        return state


@contextmanager
def _ending_at_interrupt(console: Console, report: ProgressReport, resume: str) -> Iterator[None]:
    """End the process at Ctrl-C, at once: an exception may meet gRPC between two locks, and a job survives a crash."""

    def stop(*_: object) -> None:
        show_cursor = "\x1b[?25h" if console.is_terminal else ""
        os.write(2, f"{show_cursor}\nstopped with {report.rows:,} rows scored; {resume}\n".encode())
        os._exit(INTERRUPTED_STATUS)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
