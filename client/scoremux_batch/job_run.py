"""A job as the command runs it: with progress and a summary, until it ends, fails or meets Ctrl-C."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from scoremux_batch import in_process
from scoremux_batch.in_process import Connection
from scoremux_batch.job import Job
from scoremux_batch.job_output import Output
from scoremux_batch.journal import JobState, Journal
from scoremux_batch.parts import read_rejected
from scoremux_batch.sources import check_sources
from scoremux_batch.summary import ProgressReport, print_rejected, summarise
from scoremux_client.errors import TransportError
from scoremux_files.errors import ScoremuxError, writing
from scoremux_files.rows.writers import JOURNAL, beside_parts

INTERRUPTED_STATUS = 130


def run_job(
    console: Console, output: Output, job: Job, connection: Connection, on_ray: bool, workers: int | None
) -> JobState:
    """Run the job to its end; return its state, earlier runs included. workers: the processes on Ray."""
    if on_ray:  # before the job has a folder, as Ray may be missing
        from scoremux_batch import cluster
    folder = output.folder
    if not beside_parts(folder, JOURNAL).exists():
        check_sources(job.sources, job.layout)
    with writing(folder):
        new_folder = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with Journal(folder, job) as journal:
        state, rows_before = journal.state, journal.state.rows
        resume = f"re-run the same command to resume: {folder}"
        if journal.resumed:
            console.print(f"resuming: {rows_before:,} rows are done")
        try:
            with ProgressReport(console, job, state) as report, _ending_at_interrupt(console, state, resume):
                if on_ray:
                    cluster.run(folder, job, journal, report, connection, workers)
                else:
                    with connection.open() as client:
                        in_process.run(folder, job, journal, client, report)
        except ScoremuxError as error:
            if new_folder and not state.parts and not output.alerts.exists():
                shutil.rmtree(folder)
            elif isinstance(error, TransportError):
                console.print(f"{state.rows:,} rows are done; {resume}", soft_wrap=True)
            raise
        summarise(console, state, state.rows - rows_before, time.perf_counter() - started)
        print_rejected(console, read_rejected(folder))
        return state


@contextmanager
def _ending_at_interrupt(console: Console, state: JobState, resume: str) -> Iterator[None]:
    """End the process at Ctrl-C, at once: an exception may meet gRPC between two locks, and a job survives a crash."""

    def stop(*_: object) -> None:
        show_cursor = "\x1b[?25h" if console.is_terminal else ""
        os.write(2, f"{show_cursor}\nstopped: {state.rows:,} rows are done; {resume}\n".encode())
        os._exit(INTERRUPTED_STATUS)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
