"""`scoremux score`: score files of responses through a server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from scoremux_client.contract import Status
from scoremux_client.errors import TransportError
from scoremux_files.errors import InputError, ScoremuxError, writing
from scoremux_files.rows.row_layout import COLUMN_HELP, RowLayout, column_names

if TYPE_CHECKING:
    from scoremux_cli.batch.job import Progress
    from scoremux_cli.batch.job_client import Connection, Latencies
    from scoremux_cli.batch.job_output import Output
    from scoremux_cli.batch.journal import Job, JobState, Journal

    RunJob = Callable[[Path, Job, Journal, Latencies, Progress], None]

REJECTED_STATUS, ALERT_STATUS, NOTHING_SCORED_STATUS, INTERRUPTED_STATUS = 3, 4, 5, 130


class BatchEngine(str, Enum):
    """Who reads, sends and writes: this process, or the processes of a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


def score(
    sources: Annotated[
        list[str], typer.Argument(help="Files (.jsonl, .csv, .tsv, .parquet), folders, globs; -: JSONL of stdin.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for Parquet parts, or one .jsonl, .csv or .parquet file.")],
    url: Annotated[
        list[str] | None, typer.Option("--url", help="HOST:PORT or URL of a server; may be repeated.")
    ] = None,
    token: Annotated[str | None, typer.Option(envvar="SCOREMUX_TOKEN", help="Bearer token.", show_envvar=True)] = None,
    root_certificates: Annotated[
        Path | None, typer.Option(help="PEM file of the authorities that the servers' certificates come from.")
    ] = None,
    client_certificate: Annotated[
        Path | None, typer.Option(help="PEM file, with --client-key, for servers that ask for one.")
    ] = None,
    client_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Send the token to other machines over unencrypted connections, too.")
    ] = False,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="KEY=NAME",
            help=f"{COLUMN_HELP}, without which rows are numbered, task, text or student (who wrote it).",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Column that the output gets too, such as a group's; repeatable.")
    ] = None,
    part_rows: Annotated[int, typer.Option(min=1, help="Rows of a part, which a crash may cost at most.")] = 16_384,
    patience_s: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds for which a failed request is sent again.")
    ] = 300.0,
    read_behind: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the machine's rows that people score too; needs --key-file.")
    ] = 0.0,
    key_file: Annotated[Path | None, typer.Option(help="File with a secret of 16 bytes or more.")] = None,
    alert: Annotated[
        str | None,
        typer.Option(help="TASK:THRESHOLD. Write rows to OUT/_alerts whose levels above 0 have this probability."),
    ] = None,
    condition: Annotated[
        str | None,
        typer.Option(help="TASK:CODES:THRESHOLD. A task whose levels above 0 are condition codes, such as au:AU:0.99."),
    ] = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="Score rows with this status, such as SERVER_DIED, again; may be repeated.")
    ] = None,
    engine: Annotated[
        BatchEngine, typer.Option(help="ray: the processes of the cluster that RAY_ADDRESS names, or of this machine.")
    ] = BatchEngine.LOCAL,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of --engine ray (default: one a CPU).")] = None,
    mixed_arithmetic: Annotated[
        bool,
        typer.Option(
            "--mixed-arithmetic", help="Take scores that were computed in different arithmetics (column `arithmetic`)."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and count everything, send nothing.")] = False,
) -> None:
    """Score every row of the sources. Re-run the same command to resume after a crash or Ctrl-C.

    Rows that cannot be read are in OUT/_rejected with file, line and reason, and make the exit status 3. A file that
    cannot be read as a whole makes it 2, before anything is written; a job in which no row is scored, 5.

    Example: scoremux score responses/ --out scored --url localhost:8001
    """
    from scoremux_cli.batch.job_client import Connection
    from scoremux_cli.batch.job_output import JobCounts, Output
    from scoremux_cli.batch.journal import Job
    from scoremux_cli.batch.people import Alert, ConditionTask, ForPeople, ReadBehind, count_alerts
    from scoremux_cli.batch.sources import check_sources, expand, kept_input
    from scoremux_cli.batch.summary import check
    from scoremux_client.transports.transport import Tls
    from scoremux_files.rows.writers import check_kept

    output, to_retry = Output(out), _without_score(retry or [])
    people = ForPeople(
        ReadBehind.read(read_behind, key_file) if read_behind else None,
        Alert.parse(alert) if alert else None,
        output.alerts,
        ConditionTask.parse(condition) if condition else None,
    )
    names, keep = column_names(column, id="id", task="task", text="text", student=None), [*dict.fromkeys(keep or ())]
    check_kept(keep, names["text"])
    layout = RowLayout(part_rows=part_rows, keep=keep or None, **names)
    console = Console(stderr=True, highlight=False, markup=False)
    if not (url or dry_run):
        raise InputError("--url is missing: HOST:PORT of a server")
    with tempfile.TemporaryDirectory() as scratch:
        beside = Path(scratch, out.name) if dry_run else out
        sources = [kept_input(beside, sys.stdin.buffer) if name == "-" else name for name in sources]
        job = Job(expand(sources, out, output.alerts), layout, people, mixed_arithmetic)
        if dry_run:
            check_sources(job.sources, layout)
            raise typer.Exit(REJECTED_STATUS if check(console, job) else 0)
    files = (root_certificates, client_certificate, client_key)
    tls = Tls(*files) if any(files) else None
    connection = Connection(tuple(url or ()), token, patience_s, tls, insecure, mixed_arithmetic)
    if counts := output.finished(job):
        if to_retry & counts.statuses.keys():
            raise InputError(
                f"{out} is written, and rows are scored again in a folder of parts only; give another --out"
            )
        console.print(f"nothing to do: {counts.statuses.total():,} rows are in {out}", soft_wrap=True)
    else:
        state = _run(
            console, output, job, _with_second_tries(_engine(engine, connection, workers), connection, to_retry)
        )
        counts = JobCounts(state.rejected, state.statuses)
        if output.is_file:
            output.export(job, state)
        console.print(f"written to {out}", soft_wrap=True)
    if counts.rejected:
        console.print(f"rejected: {counts.rejected:,}, all in {output.rejected}", soft_wrap=True)
    if counts.statuses and not counts.scored:
        statuses = ", ".join(f"{rows:,} {status}" for status, rows in sorted(counts.statuses.items()))
        console.print(f"NO ROW WAS SCORED: {statuses}", soft_wrap=True)
    if alert and (alerts := count_alerts(output.alerts)):
        console.print(f"ALERTS: {alerts:,}, all in {output.alerts}", soft_wrap=True)
        raise typer.Exit(ALERT_STATUS)
    if counts.statuses and not counts.scored:
        raise typer.Exit(NOTHING_SCORED_STATUS)
    if counts.rejected:
        raise typer.Exit(REJECTED_STATUS)


def _without_score(names: Sequence[str]) -> frozenset[Status]:
    """Return the statuses of some names. Raises InputError for one that rows without a score do not have."""
    statuses = {status.value: status for status in Status if status not in (Status.OK, Status.CONDITION)}
    if unknown := sorted(set(names) - statuses.keys()):
        raise InputError(f"--retry {unknown[0]}: the statuses of rows without a score are {', '.join(statuses)}")
    return frozenset(statuses[name] for name in names)


def _with_second_tries(run: RunJob, connection: Connection, statuses: frozenset[Status]) -> RunJob:
    """Return what runs a job, and then scores rows with some statuses again."""
    if not statuses:
        return run
    from scoremux_cli.batch.second_tries import retry_rows

    def run_and_retry(folder: Path, job: Job, journal: Journal, latencies: Latencies, progress: Progress) -> None:
        run(folder, job, journal, latencies, progress)
        with connection.open(latencies) as client:
            retry_rows(folder, job, journal, client, statuses, progress)

    return run_and_retry


def _engine(engine: BatchEngine, connection: Connection, workers: int | None) -> RunJob:
    """Return what runs a job. What an engine needs is imported now, before anything is written."""
    if engine is BatchEngine.RAY:
        from scoremux_cli.batch import cluster

        return partial(cluster.run, connection=connection, workers=workers)
    from scoremux_cli.batch import job as local

    def run(folder: Path, job: Job, journal: Journal, latencies: Latencies, progress: Progress) -> None:
        with connection.open(latencies) as client:
            local.run(folder, job, journal, client, progress)

    return run


def _run(console: Console, output: Output, job: Job, run: RunJob) -> JobState:
    """Run the job to its end; return what was done, in this run and before."""
    from scoremux_cli.batch.journal import Journal
    from scoremux_cli.batch.parts import read_rejected
    from scoremux_cli.batch.sources import check_sources
    from scoremux_cli.batch.summary import ProgressReport, print_rejected, summarise
    from scoremux_files.rows.writers import JOURNAL, beside_parts

    folder = output.folder
    if not beside_parts(folder, JOURNAL).exists():
        check_sources(job.sources, job.layout)
    with writing(folder):
        new_folder = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    latencies, started = array("f"), time.perf_counter()
    with Journal(folder, job) as journal:
        state, rows_before = journal.state, journal.state.rows
        resume = f"re-run the same command to resume: {folder}"
        if journal.resumed:
            console.print(f"resuming: {rows_before:,} rows are done")

        def stop(*_: object) -> None:
            # At once, whatever is held: an exception here may meet gRPC between two locks, and a job survives a crash.
            show_cursor = "\x1b[?25h" if console.is_terminal else ""
            os.write(2, f"{show_cursor}\nstopped with {report.rows:,} rows scored; {resume}\n".encode())
            os._exit(INTERRUPTED_STATUS)

        report = ProgressReport(console, job, state)
        previous = signal.signal(signal.SIGINT, stop)
        try:
            with report:
                run(folder, job, journal, latencies, report)
        except ScoremuxError as error:
            if new_folder and not state.parts and not output.alerts.exists():
                shutil.rmtree(folder)
            elif isinstance(error, TransportError):
                console.print(f"{state.rows:,} rows are done; {resume}", soft_wrap=True)
            raise
        finally:
            signal.signal(signal.SIGINT, previous)
        summarise(console, state, state.rows - rows_before, time.perf_counter() - started, latencies)
        print_rejected(console, read_rejected(folder))
        return state
