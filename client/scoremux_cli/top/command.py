"""`scoremux top`: a live view of one or several servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scoremux_cli.top.reading import Reading
    from scoremux_cli.top.scrape import Target

_WIDE = 200


def top(
    servers: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVER...",
            help="METRICS,WATCHER: HOST:PORT of Triton's metrics and of the watcher, as `serve` prints them; "
            "either alone will do.",
        ),
    ],
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print one plain table, and end.")] = False,
) -> None:
    """Show rows/s, latencies, batch shapes, tasks in memory and restarts, until Ctrl-C.

    With --once the exit status is 1 where a server is down or not ready.
    """
    from rich.console import Console

    from scoremux_cli.top.scrape import Target
    from scoremux_cli.top.view import table

    targets = [Target.of(text) for text in servers]
    names = [target.name for target in targets]
    readings = _readings(targets, every_s)
    if once:
        next(readings)
        second = next(readings)
        console = Console(highlight=False, width=_WIDE, color_system=None, force_terminal=False)
        console.print(table(names, second, plain=True))
        raise typer.Exit(int(any(reading.is_down for reading in second)))
    _live(names, readings)


def _live(names: list[str], readings: Iterator[list[Reading]]) -> None:
    from rich.console import Console
    from rich.live import Live

    from scoremux_cli.top.view import table

    console = Console()
    try:
        with Live(console=console, auto_refresh=False, screen=console.is_terminal, transient=True) as live:
            for reading in readings:
                live.update(table(names, reading), refresh=True)
    except KeyboardInterrupt:
        return


def _readings(targets: list[Target], every_s: float) -> Iterator[list[Reading]]:
    """Yield a reading of each target at once, and then every `every_s` seconds."""
    from scoremux_cli.top.reading import Reading
    from scoremux_cli.top.scrape import scrape

    before = scrape(targets)
    yield [Reading(now) for now in before]
    while True:
        time.sleep(every_s)
        now = scrape(targets)
        yield [Reading(n, b) for n, b in zip(now, before, strict=True)]
        before = now
