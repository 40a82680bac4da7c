"""`scoremux selftest`: do this store's rows keep their bits on this machine?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scoremux_engine.runners.choose import RunnerChoice
    from scoremux_engine.selftest import SelfTest


def selftest(
    repository: Annotated[Path, typer.Argument(help="Model repository with a backbone and a store.")],
    store: Annotated[Path | None, typer.Option(help="Folder of task packages (default: REPOSITORY/store).")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Test this profile only (default: every runner and precision on the CPU).")
    ] = None,
    mixes: Annotated[int, typer.Option(min=1, help="Random mixes for each runner and precision.")] = 200,
    longest: Annotated[int | None, typer.Option(min=1, help="Longest text in tokens (default: the longest).")] = None,
) -> None:
    """Score rows of every task alone and in random mixes, and compare their bits.

    Rows of every padded length and of every size class of the store take part. The exit status is 1 as soon as one bit
    differs.

    Example: scoremux selftest repo --profile cpu --mixes 1000
    """
    from scoremux_engine.commands.printing import show_table
    from scoremux_engine.engine import Engine
    from scoremux_engine.errors import RunnerError
    from scoremux_engine.model.provenance import processor_name
    from scoremux_engine.selftest import run_selftest

    rows: list[tuple[str, ...]] = []
    tests: list[SelfTest] = []
    for choice in _choices(profile):
        try:
            engine = Engine.open(repository, store=store, runner=choice)
        except RunnerError as error:
            if profile:
                raise
            rows.append((choice.name, choice.precision, "", "", "", "", f"not tested: {error}", ""))
            continue
        test = run_selftest(engine, mixes=mixes, longest=longest)
        tests.append(test)
        rows.append(_row(choice, test))
        if test.changed:
            break
    columns = ("runner", "precision", "size classes", "lengths", "mixes", "rows", "changed", "seconds")
    show_table(columns, rows, title=f"{processor_name()}, {len(os.sched_getaffinity(0))} cores", fold=("changed",))
    changed = next((test.changed for test in tests if test.changed), None)
    if changed:
        typer.echo(f"scoremux: bits are not stable on this machine: {changed}", err=True)
        raise typer.Exit(1)


def _choices(profile: str | None) -> list[RunnerChoice]:
    from scoremux_engine.runners.choose import ON_CPU
    from scoremux_server.profile import Profile

    return [Profile.read(profile).choice] if profile else list(ON_CPU)


def _row(choice: RunnerChoice, test: SelfTest) -> tuple[str, ...]:
    sizes = ", ".join(f"{size.rank}/{size.levels}" for size in sorted(test.sizes, key=lambda s: (s.rank, s.levels)))
    lengths = f"{min(test.buckets)}–{max(test.buckets)}" if test.buckets else "no task"
    changed = "1" if test.changed else "0"
    seconds = f"{test.seconds:.1f}"
    return choice.name, choice.precision, sizes, lengths, f"{test.mixes:,}", f"{test.rows:,}", changed, seconds
