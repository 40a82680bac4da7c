"""`scoremux score`: score files of responses through a server."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import COLUMN_HELP, RowLayout, column_names
from scoremux_files.terminal import takes

if TYPE_CHECKING:
    from scoremux_batch.in_process import Connection
    from scoremux_batch.job import Job
    from scoremux_batch.job_output import Output
    from scoremux_batch.journal import JobState

REJECTED_STATUS, ALERT_STATUS, NOTHING_SCORED_STATUS = 3, 4, 5


class BatchEngine(str, Enum):
    """Who reads, sends and writes: this process, or the processes of a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, repr=False)
class ScoreOptions:
    """The options of `scoremux score`."""

    sources: Annotated[list[str], Argument(help="Files (.jsonl, .csv, .tsv, .parquet), folders.")]
    out: Annotated[Path, Option(help="Folder for Parquet parts, or one .jsonl, .csv or .parquet file.")]
    url: Annotated[
        list[str] | None, Option(help="HOST:PORT or URL of a server; may be repeated.", envvar="SCOREMUX_URL")
    ] = None
    token: Annotated[str | None, Option(envvar="SCOREMUX_TOKEN", help="Bearer token.", show_envvar=True)] = None
    root_certificates: Annotated[
        Path | None, Option(help="PEM file of the authorities that the servers' certificates come from.")
    ] = None
    client_certificate: Annotated[
        Path | None, Option(help="PEM file, with --client-key, for servers that ask for one.")
    ] = None
    client_key: Annotated[Path | None, Option(help="PEM file of the certificate's key.")] = None
    insecure: Annotated[
        bool, Option("--insecure", help="Send the token to other machines over unencrypted connections, too.")
    ] = False
    column: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=NAME",
            help=f"{COLUMN_HELP}, without which rows are numbered, task, text or student (who wrote it).",
        ),
    ] = None
    keep: Annotated[
        list[str] | None, Option(help="Column that the output gets too, such as a group's; repeatable.")
    ] = None
    part_rows: Annotated[int, Option(min=1, help="Rows of a part, which a crash may cost at most.")] = 16_384
    patience_s: Annotated[
        float, Option("--patience", min=0, help="Seconds for which a failed request is sent again.")
    ] = 300.0
    read_behind: Annotated[
        str,
        Option(
            metavar="SHARE|FILE",
            help="Share of the machine's rows that people score too, or the .json of `scoremux watch`, which plans it "
            "by task; needs --key-file.",
        ),
    ] = ""
    key_file: Annotated[Path | None, Option(help="File with a secret of 16 bytes or more.")] = None
    alert: Annotated[
        str | None, Option(help="TASK:THRESHOLD. Write rows to OUT/_alerts whose levels above 0 have this probability.")
    ] = None
    condition: Annotated[
        str | None,
        Option(help="TASK:CODES:THRESHOLD. A task whose levels above 0 are condition codes, such as au:AU:0.99."),
    ] = None
    engine: Annotated[
        BatchEngine, Option(help="ray: the processes of the cluster that RAY_ADDRESS names, or of this machine.")
    ] = BatchEngine.LOCAL
    workers: Annotated[int | None, Option(min=1, help="Processes of --engine ray (default: one a CPU).")] = None
    mixed_arithmetic: Annotated[
        bool,
        Option(
            "--mixed-arithmetic", help="Take scores that were computed in different arithmetics (column `arithmetic`)."
        ),
    ] = False


@takes(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score every row of the sources. Re-run the same command to resume after a crash or Ctrl-C.

    Rows that cannot be read are in OUT/_rejected with file, line and reason, and make the exit status 3. A file that
    cannot be read as a whole makes it 2, before anything is written; a job in which no row is scored, 5.

    Example: scoremux score responses/ --out scored --url localhost:8001
    """
    from scoremux_batch.job_output import Output
    from scoremux_batch.job_run import run_job

    out, output = options.out, Output(options.out)
    console = Console(stderr=True, highlight=False, markup=False)
    job = _job(options, output)
    connection = _connection(options)
    state = output.finished(job)
    if state is None:
        on_ray = options.engine is BatchEngine.RAY
        state = run_job(console, output, job, connection, on_ray, options.workers)
        if output.is_file:
            output.export(job, state)
        console.print(f"written to {out}", soft_wrap=True)
    else:
        console.print(f"nothing to do: {state.statuses.total():,} rows are in {out}", soft_wrap=True)
    if status := _report(console, output, state, bool(options.alert)):
        raise typer.Exit(status)


def _job(options: ScoreOptions, output: Output) -> Job:
    """Return the job. Raises InputError."""
    from scoremux_batch.job import Job
    from scoremux_batch.people import ForPeople
    from scoremux_batch.sources import expand
    from scoremux_files.rows.writers import check_kept

    people = ForPeople.read(
        options.read_behind, options.key_file, options.alert, options.condition, alerts=output.alerts
    )
    names = column_names(options.column, Path(options.sources[0]), id="id", task="task", text="text", student=None)
    keep = [*dict.fromkeys(options.keep or ())]
    check_kept(keep, names["text"])
    if not options.url:
        raise InputError("--url is missing: HOST:PORT of a server")
    layout = RowLayout(part_rows=options.part_rows, keep=keep or None, **names)
    return Job(expand(options.sources, options.out, output.alerts), layout, people, options.mixed_arithmetic)


def _connection(options: ScoreOptions) -> Connection:
    from scoremux_batch.in_process import Connection
    from scoremux_client.transports.transport import Tls

    files = (options.root_certificates, options.client_certificate, options.client_key)
    tls, urls = Tls(*files) if any(files) else None, tuple(options.url or ())
    return Connection(urls, options.token, options.patience_s, tls, options.insecure, options.mixed_arithmetic)


def _report(console: Console, output: Output, state: JobState, alert: bool) -> int:
    """Print a line for each problem, and return the exit status."""
    from scoremux_batch.people import count_alerts
    from scoremux_client.contract import Status

    statuses = state.statuses
    nothing_scored = statuses and not (statuses[Status.OK.value] or statuses[Status.CONDITION.value])
    if state.rejected:
        console.print(f"rejected: {state.rejected:,}, all in {output.rejected}", soft_wrap=True)
    if nothing_scored:
        of_rows = ", ".join(f"{rows:,} {status}" for status, rows in sorted(statuses.items()))
        console.print(f"NO ROW WAS SCORED: {of_rows}", soft_wrap=True)
    if alert and (alerts := count_alerts(output.alerts)):
        console.print(f"ALERTS: {alerts:,}, all in {output.alerts}", soft_wrap=True)
        return ALERT_STATUS
    return NOTHING_SCORED_STATUS if nothing_scored else REJECTED_STATUS if state.rejected else 0
