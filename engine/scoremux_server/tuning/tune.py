"""`scoremux tune`: the best settings for a repository on this machine, by measurement."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from scoremux_client.errors import InputError
from scoremux_decide.bounds import upper_bound
from scoremux_engine.commands.options import OtherStoreOption, RepositoryArgument
from scoremux_engine.commands.printing import show_table
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.runners.choose import ON_CPU, PROFILE, REFERENCE, RunnerChoice
from scoremux_files.errors import writing
from scoremux_server.tuning.trials import Candidate, Trial, TrialRows, read_sample, rows_for, run_trials

_PASS_S = 0.7
_CHECKED_ROWS, _SHOWN_ROWS = 1000, 200
"""Rows of --texts whose levels are compared; made-up ones, by which nothing is chosen."""
_MOST_CHANGED_OF_TASK = 0.05
"""Largest share of a task's levels that may differ; one may in any case."""
_CONFIDENCE = 0.95
_AS_FAST = 0.95


def tune(
    repository: RepositoryArgument,
    store: OtherStoreOption = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Responses: .jsonl, .csv or .parquet with `text` and maybe `task` (default: made-up ones)."),
    ] = None,
    most_changed: Annotated[
        float,
        typer.Option(min=0, max=1, help="Largest share of levels that may differ from float32's, at 95 % confidence."),
    ] = 0.01,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure and print; write nothing.")] = False,
) -> None:
    """Measure float32, bfloat16 and int8 on this machine, and write the best to REPOSITORY/profile.toml.

    Of settings within 5 % of the fastest, the one that moves the fewest levels is chosen. bfloat16 and int8 are chosen
    only where --texts shows that they move few levels: made-up texts show nothing.
    `scoremux serve` uses that profile unless --profile says otherwise. To have every server of a deployment score
    alike, tune on one of them and give all of them the same file.

    Example: scoremux tune repo --texts responses.jsonl
    """
    started = time.monotonic()
    if not repository.is_dir():
        raise InputError(f"there is no folder {repository}; give a repository that `scoremux export backbone` made")
    if not (dry_run or os.access(repository, os.W_OK)):
        raise InputError(f"{repository} cannot be written, and tune writes profile.toml there; --dry-run only measures")
    sample = read_sample(store or repository / "store", texts)
    rows = min(len(sample), _CHECKED_ROWS if texts else _SHOWN_ROWS)
    trials, refused = _measure(repository, store, sample, rows)
    tasks = sample.tasks if texts else None
    reasons = [list(_reasons(trial, trials[0], tasks, most_changed)) for trial in trials]
    best = _closest(trials[0], [trial for trial, against in zip(trials, reasons, strict=True) if not against])
    _show(trials, best, reasons, refused, f"levels of {rows} {'rows' if texts else 'made-up rows'} compared")
    if not dry_run:
        path = _write_profile(repository, best, trials[0])
        typer.echo(f"wrote {path} after {time.monotonic() - started:.0f} s; `scoremux serve` uses it")


def _measure(repository: Path, store: Path | None, sample: TrialRows, checked: int) -> tuple[list[Trial], list[str]]:
    """Return the trials, the reference's first, and why runners that are missing cannot run here."""
    refused, report = list[str](), partial(typer.echo, err=True)
    with ExitStack() as stack:

        def start(choices: Iterable[RunnerChoice]) -> Iterator[Candidate]:
            for choice in choices:
                report(f"starting {choice.name} {choice.precision}")
                try:
                    yield stack.enter_context(closing(Candidate(repository, store, choice, sample)))
                except RunnerError as error:
                    refused.append(f"{choice.name} {choice.precision}: {error}")

        candidates = list(start(ON_CPU))
        rows = rows_for(candidates[0], sample, _PASS_S)
        return run_trials(candidates, rows, checked, report), refused


def _reasons(trial: Trial, reference: Trial, tasks: Sequence[str] | None, most_changed: float) -> Iterator[str]:
    """Yield why a setting is not chosen. tasks: Those of the rows, None for made-up ones."""
    if trial.choice.precision == REFERENCE.precision:
        return
    if tasks is None:
        yield "made-up texts do not show how many levels it moves; give --texts"
        return
    changed, rows = trial.changed_from(reference), len(trial.levels)
    upper = upper_bound(changed, rows, _CONFIDENCE)
    if upper > most_changed:
        yield f"{changed} of {rows} levels differ, so up to {upper:.1%} of all, and {most_changed:.1%} are allowed"
    for task, (moved, of_task) in trial.moved_tasks(reference, tasks, _MOST_CHANGED_OF_TASK).items():
        yield f"it moves {moved} of {of_task} levels of task {task}"


def _show(trials: list[Trial], best: Trial, reasons: list[list[str]], refused: list[str], compared: str) -> None:
    columns = ("setting", "rows/s", "range", "MiB", "changed")
    show_table(columns, [_row(t, trials[0], t is best) for t in trials], title=f"{_machine()}; {compared}")
    typer.echo("MiB: most memory of the process; changed: rows whose level differs from cpu-reference's; *: chosen")
    for sentence in refused:
        typer.echo(f"not measured: {sentence}")
    for trial, against in zip(trials, reasons, strict=True):
        for reason in against:
            typer.echo(f"not chosen: {trial.choice.name} {trial.choice.precision}: {reason}")
    fastest, closest = max(trials, key=lambda trial: trial.speed), _closest(trials[0], trials)
    if closest is not fastest:
        changed = f"{closest.changed_from(trials[0])} levels and not {fastest.changed_from(trials[0])}"
        named = f"{closest.choice.precision} is about as fast here as {fastest.choice.precision}"
        typer.echo(f"{named} ({closest.speed:.0f} and {fastest.speed:.0f} rows/s), and moves {changed}")
    hours = 10_000_000 / best.speed / 3600
    typer.echo(f"ten million such responses take {hours:.1f} hours on this machine with the chosen setting")


def _closest(reference: Trial, trials: Sequence[Trial]) -> Trial:
    """Return the setting that moves the fewest levels, of those about as fast as the fastest."""
    least = _AS_FAST * max(trial.speed for trial in trials)
    fast = [trial for trial in trials if trial.speed >= least]
    return min(fast, key=lambda trial: (trial.changed_from(reference), -trial.speed))


def _machine() -> str:
    return f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"


def _row(trial: Trial, reference: Trial, best: bool) -> tuple[str, ...]:
    return (
        f"{trial.choice.name} {trial.choice.precision}{' *' if best else ''}",
        f"{trial.speed:.0f}",
        f"{min(trial.rows_per_s):.0f}–{max(trial.rows_per_s):.0f}",
        str(trial.peak_bytes >> 20),
        str(trial.changed_from(reference)),
    )


def _write_profile(repository: Path, best: Trial, reference: Trial) -> Path:
    path, today = repository / PROFILE, datetime.now(timezone.utc).date()
    content = (
        f"# Written by `scoremux tune` {version('scoremux')} on {today}: the best on {_machine()}.\n"
        f"# {best.speed:.0f} rows/s, {best.speed / reference.speed:.2f} x the profile cpu-reference; "
        f"{best.changed_from(reference)} of {len(best.levels)} levels differ from it.\n"
        f'runner = "{best.choice.name}"\n'
        f'precision = "{best.choice.precision}"\n'
    )
    with writing(path):
        path.write_text(content, encoding="utf-8")
    return path
