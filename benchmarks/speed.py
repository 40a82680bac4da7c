"""How fast the engine scores, in process: profiles side by side, and what stores of mixed ranks cost.

    python -m benchmarks.speed --case profiles --data SAF
    python -m benchmarks.speed --case rank_classes --data SCIENTSBANK --against PATH_TO_CHECKOUT

Each engine runs in a process of its own. All score the same rows once a round, in turn; ratios are medians of the
rounds' own ratios. `--against` names a checkout of another commit, which exports and publishes with its own code.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import Child, Floats, call_aside, checkout_environment, write_rows
from benchmarks.rows import ROOT, Row, commit
from benchmarks.timing import Timing, interleave, times_as_fast

UNIFORM, MIXED = (8,), (4, 8, 16, 32, 64)
REFERENCE = "cpu-reference"


class ProfileEngine:
    """The engine of a repository, as a profile of the product sets it up."""

    def __init__(self, repository: str, profile: str) -> None:
        from scoremux_engine import Engine
        from scoremux_server.profile import Profile

        self.pid = os.getpid()
        self.engine = Engine.open(repository, runner=Profile.read(profile).choice)

    def logits(self, rows: Sequence[data.Labelled]) -> Floats:
        return np.asarray(self.engine.logits([row.text for row in rows], [row.task for row in rows]))

    def weights_bytes(self) -> int:
        return 0

    def close(self) -> None: ...


def time_engines(
    engines: dict[str, tuple[Path, Path, str]], arguments: argparse.Namespace, work: Path
) -> dict[str, Timing]:
    """Time engines on the same rows, round by round. engines: name → (checkout, repository, profile)."""
    folder = case.data_folder(arguments.data)
    rows = write_rows(data.sample(folder, arguments.rows), work / "rows.jsonl")
    numbers = list(range(arguments.rows))
    with ExitStack() as held:
        works = {}
        for number, (name, (checkout, repository, profile)) in enumerate(engines.items()):
            options = {"repository": repository.absolute(), "profile": profile}
            log, environment = work / f"child-{number}.log", checkout_environment(checkout)
            child = Child("benchmarks.speed:ProfileEngine", options, rows, log, environment=environment)
            held.callback(child.close)
            works[name] = lambda child=child: child.ask("logits", numbers=numbers)
        return interleave(works, arguments.rounds)


def make_store(checkout: Path, data_name: str, ranks: Sequence[int], kinds: Sequence[str], work: Path) -> Path:
    """Export and publish with a checkout's own code, into a folder of `work`, unless that is done; return it.

    The example adapters are taken for SAF at rank 8 and kind plain, made-up ones otherwise.
    """
    name = "-".join([data_name.strip("/").rpartition("/")[2].lower(), commit(checkout), *map(str, ranks), *kinds])
    repository = work / name
    trained = data_name == "SAF" and tuple(ranks) == UNIFORM and list(kinds) == ["plain"]
    folders: list[str] | None = None
    if not trained:
        made = data.made_up_adapters(case.data_folder(data_name), work / f"{name}-adapters", ranks, kinds)
        folders = [str(folder.absolute()) for folder in made]
    arguments = (repository.absolute(), folders, "dora" in kinds)
    call_aside("benchmarks.speed:publish", *arguments, environment=checkout_environment(checkout))
    return repository


def publish(repository: str, folders: list[str] | None, dora: bool) -> None:
    """As `data.publish`, with paths as text."""
    data.publish(Path(repository), [Path(folder) for folder in folders] if folders else None, dora)


def figures(timing: Timing, rows: int) -> dict[str, Any]:
    """Return what a row says of one timing."""
    return {"rows_per_s": rows / timing.median_s, "spread": timing.spread, "rounds": len(timing.seconds)}


def profiles(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each profile."""
    repository = make_store(ROOT, arguments.data, UNIFORM, ["plain"], work)
    engines = {name: (ROOT, repository, name) for name in (REFERENCE, *arguments.profile)}
    timings = time_engines(engines, arguments, work)
    for name, timing in timings.items():
        times = times_as_fast(timing, timings[REFERENCE])
        setting = {"data": arguments.data, "rows": arguments.rows, "profile": name}
        yield {**setting, **figures(timing, arguments.rows), "times_reference": times}


def rank_classes(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each profile, store and code base."""
    checkouts = {"this": ROOT, **({"before": arguments.against.absolute()} if arguments.against else {})}
    stores = {"uniform": UNIFORM, "mixed": tuple(arguments.ranks)}
    for profile in (REFERENCE, *arguments.profile):
        engines = {}
        for code, checkout in checkouts.items():
            for store, ranks in stores.items():
                repository = make_store(checkout, arguments.data, ranks, arguments.kinds, work)
                engines[f"{code} {store}"] = (checkout, repository, profile)
        timings = time_engines(engines, arguments, work)
        for code, checkout in checkouts.items():
            for store, ranks in stores.items():
                timing = timings[f"{code} {store}"]
                ratios = {"share_of_uniform": times_as_fast(timing, timings[f"{code} uniform"])}
                if "before" in checkouts:
                    ratios["share_of_before"] = times_as_fast(timing, timings[f"before {store}"])
                setting = {"data": arguments.data, "rows": arguments.rows, "kinds": arguments.kinds, "profile": profile}
                named = {**setting, "code": code, "code_commit": commit(checkout), "ranks": list(ranks)}
                yield {**named, **figures(timing, arguments.rows), **ratios}


RATE = (Column("rows/s", "rows_per_s", "{:,.0f}"), Column("spread", "spread", "{:.2f}"))
CASES = (
    Case(
        "profiles",
        "Rows a second of the engine in process, by profile",
        (
            Column("data", "data"),
            Column("profile", "profile"),
            *RATE,
            Column(f"× {REFERENCE}", "times_reference", "{:.2f}"),
        ),
        ("data", "profile"),
        profiles,
    ),
    Case(
        "rank_classes",
        "Rows a second of stores of one rank and of mixed ranks, this code and the code before",
        (
            Column("data", "data"),
            Column("profile", "profile"),
            Column("ranks", "ranks"),
            Column("kinds", "kinds"),
            Column("code", "code_commit"),
            *RATE,
            Column("× uniform, same code", "share_of_uniform", "{:.3f}"),
            Column("× same store, code before", "share_of_before", "{:.3f}"),
        ),
        ("data", "profile", "ranks", "kinds", "code"),
        rank_classes,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__)
    parser.add_argument("--profile", nargs="*", default=["cpu"], help="beside cpu-reference (default: cpu)")
    parser.add_argument("--against", type=Path, help="a checkout of another commit")
    parser.add_argument("--ranks", type=int, nargs="*", default=MIXED, help="of the mixed store, in turn")
    parser.add_argument("--kinds", nargs="*", choices=data.KINDS, default=["plain"], help="of adapters, in turn")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
