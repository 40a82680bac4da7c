"""`scoremux plan-capacity`: machines, memory and disk for so many responses in so many hours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from scoremux_server.capacity.plan import Demand, Fleet, Plan, Rate, Sizes

_MIB, _GIB = 1 << 20, 1 << 30


def plan_capacity(
    responses: Annotated[float, typer.Option(help="Responses to score; 5e6 and 5_000_000 are the same.")],
    hours: Annotated[float, typer.Option(help="Hours in which they are to be scored.")],
    rows_per_s: Annotated[float | None, typer.Option(help="Rows a second of one core or card, if you know it.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Take it from this file, written by `python -m benchmarks.precisions`.")
    ] = None,
    runner: Annotated[str, typer.Option(help="With --results: whose.")] = "openvino bfloat16",
    measure: Annotated[
        Path | None, typer.Option(help="Measure it here: start a server on this repository for a moment.")
    ] = None,
    profile: Annotated[str, typer.Option(help="With --measure: the profile to serve with.")] = "cpu",
    rows: Annotated[
        list[Path] | None, typer.Option(help="With --measure: files of responses like yours (task, text); repeatable.")
    ] = None,
    words: Annotated[float, typer.Option(min=1, help="With --measure and no --rows: mean words of a response.")] = 45,
    seconds: Annotated[float, typer.Option(min=1, help="With --measure: at least how long.")] = 20,
    repository: Annotated[
        Path | None, typer.Option(help="Take a task's bytes from this repository (default: that of --measure).")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Its task packages (default: REPOSITORY/store).")] = None,
    units: Annotated[
        int | None, typer.Option(help="Cores or cards in one machine (default: as many as were measured, else 1).")
    ] = None,
    headroom: Annotated[float, typer.Option(help="Share of a machine's speed to keep free.")] = 0.3,
    spare: Annotated[int, typer.Option(min=0, help="Machines more, so that as many may fail.")] = 1,
    tasks: Annotated[int, typer.Option(min=0, help="Tasks served at the same time.")] = 0,
    versions: Annotated[int, typer.Option(min=1, help="Versions of each task that the store keeps.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many machines a number of responses needs, with memory and disk for its tasks."""
    from scoremux_server.capacity.plan import Demand, Fleet, Rate, Sizes, plan
    from scoremux_server.capacity.sources import rate_of, sizes_of
    from scoremux_server.errors import SetupError

    if sum(source is not None for source in (rows_per_s, results, measure)) != 1:
        raise SetupError("say how fast one core or card is, in one way: --rows-per-s, --results or --measure")
    sizes = Sizes()
    if measure is not None:
        rate, sizes = _measure(measure, store, profile, rows or [], words, seconds)
    else:
        rate = rate_of(results, runner) if results is not None else Rate(rows_per_s or 0.0)
        if repository is not None:
            sizes = sizes_of(repository, store)
    fleet = Fleet(units if units is not None else rate.measured_on or 1, headroom, spare)
    demand = Demand(responses, hours, tasks, versions)
    made = plan(demand, rate, sizes, fleet)
    if as_json:
        parts = {
            "demand": asdict(demand),
            "rate": asdict(rate),
            "sizes": asdict(sizes),
            "fleet": asdict(fleet),
            "plan": asdict(made),
        }
        print(json.dumps(parts, ensure_ascii=False))
    else:
        Console(highlight=False).print(_table(demand, rate, sizes, fleet, made))


def _measure(
    repository: Path, store: Path | None, profile: str, files: list[Path], words: float, seconds: float
) -> tuple[Rate, Sizes]:
    from itertools import islice

    from scoremux_cli.formats.records import read_responses
    from scoremux_server.capacity.measure import made_up, measure
    from scoremux_server.profile import Profile

    where = store or repository / "store"
    sample = list(islice(read_responses(files), 4096)) if files else made_up(where, words)
    measured = measure(repository, where, Profile.read(profile), sample, seconds)
    return measured.rate, measured.sizes


def _table(demand: Demand, rate: Rate, sizes: Sizes, fleet: Fleet, made: Plan) -> Table:
    title = f"{demand.responses:,.0f} responses in {demand.hours:g} h"
    table = Table("what", "how much", "from", title=title, title_justify="left")
    unit = rate.unit
    table.add_row("machines", f"{made.machines}", f"{made.spare} of them to spare")
    table.add_row("rows/s needed", f"{made.needed_rows_per_s:,.1f}", "responses / seconds")
    table.add_row(f"rows/s of a {unit}", f"{rate.rows_per_s:,.1f}", rate.source)
    measured_on = f"; measured on {rate.measured_on}" if rate.measured_on else ""
    if rate.repeated_share:
        what = "of those measured, each computed; in use, a call sends them once"
        table.add_row("repeated rows", f"{rate.repeated_share:.1%}", what)
    table.add_row("rows/s of a machine", f"{made.machine_rows_per_s:,.1f}", f"{unit}s: {fleet.units}{measured_on}")
    table.add_row("busy", f"{made.busy:.0%}", f"at most {1 - fleet.headroom:.0%}, none failed, none to spare")
    if sizes.bank_bytes is not None:
        table.add_row("a task in memory", f"{sizes.bank_bytes / _MIB:,.2f} MiB", "its slot in the bank")
        table.add_row("all tasks in memory", _gib(made.bank_bytes), f"{demand.tasks:,} tasks; bank_bytes at least")
    if made.server_memory_bytes is not None:
        growth = f", {_gib(made.growth_bytes)} to grow" if made.growth_bytes else ""
        table.add_row("memory of a machine", _gib(made.server_memory_bytes), f"the server{growth}, and all tasks")
    if made.store_bytes is not None:
        table.add_row("store", _gib(made.store_bytes), f"{demand.tasks:,} tasks × {demand.versions} versions")
    return table


def _gib(size: float | None) -> str:
    return "–" if size is None else f"{size / _GIB:,.2f} GiB"
