"""How fast rows are scored: profiles side by side, stores of mixed ranks, and the way through client and Triton.

    python -m benchmarks.speed --case profiles --data SAF
    python -m benchmarks.speed --case rank_classes --data SCIENTSBANK --against PATH_TO_CHECKOUT
    python -m benchmarks.speed --case lone

Each engine runs in a process of its own. All score the same rows once a round, in turn; ratios are medians of the
rounds' own ratios. `--against` names a checkout of another commit, which exports and publishes with its own code.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.child import Child, call_aside, checkout_environment, write_rows
from benchmarks.data import Labelled
from benchmarks.peers.batches import TokenIds
from benchmarks.rows import ROOT, Row, commit
from benchmarks.timing import Timing, interleave, times_as_fast

UNIFORM, MIXED = (8,), (4, 8, 16, 32, 64)
REFERENCE = "cpu-reference"
ENGINE, SERVED = "benchmarks.peers.scoremux:ScoremuxEngine", "benchmarks.peers.scoremux:ScoremuxTriton"
MERGED = "benchmarks.peers.merged:OneModel"
MATMUL, MATMUL_WIDTH = "float32 matmul on all cores", 2048
LONE_ROWS, LONE_TOKENS = 200, (16, 64, 512)


def time_engines(
    engines: dict[str, tuple[Path, Path, str]],
    arguments: argparse.Namespace,
    work: Path,
    others: Mapping[str, Callable[[], object]] | None = None,
) -> dict[str, Timing]:
    """Time engines on the same rows, round by round.

    Args:
        engines: name → (checkout, repository, profile).
        arguments: of the command line.
        work: what is written along the way.
        others: more works that take turns with them, by name.
    """
    rows = write_rows(data.sample(case.data_folder(arguments.data), arguments.rows), work / "rows.jsonl")
    numbers = list(range(arguments.rows))
    with ExitStack() as held:
        works: dict[str, Callable[[], object]] = dict(others or {})
        for number, (name, (checkout, repository, profile)) in enumerate(engines.items()):
            base, *settings = profile.split(",")
            options = {"repository": repository.absolute(), "profile": base, "settings": settings}
            environment = checkout_environment(checkout)
            child = held.enter_context(Child(ENGINE, options, rows, work / f"{number}.log", environment=environment))
            works[name] = partial(child.ask, "logits", numbers=numbers)
        return interleave(works, arguments.rounds)


def make_store(checkout: Path, data_name: str, ranks: Sequence[int], kinds: Sequence[str], work: Path) -> Path:
    """Export and publish with a checkout's own code, into a folder of `work`, unless that is done; return it.

    The example adapters are taken for SAF at rank 8 and kind plain, made-up ones otherwise.
    """
    corpus = data_name.strip("/").rpartition("/")[2].lower()
    name = "-".join([corpus, commit(checkout), *map(str, ranks), *kinds])
    repository, folders = work / name, None
    if (repository / "store" / "manifest.json").exists():
        return repository
    if data_name != "SAF" or tuple(ranks) != UNIFORM or list(kinds) != ["plain"]:
        folders = data.made_up_adapters(case.data_folder(data_name), work.absolute() / f"{name}-tasks", ranks, kinds)
    environment, dora = checkout_environment(checkout), "dora" in kinds
    exported = work / f"exported-{commit(checkout)}{'-dora' if dora else ''}"
    call_aside("benchmarks.data:export", exported.absolute(), dora, environment=environment)
    shutil.copytree(exported / "backbone", repository / "backbone", dirs_exist_ok=True)
    given = [str(folder) for folder in folders] if folders else None
    call_aside("benchmarks.data:publish", repository.absolute(), given, environment=environment)
    return repository


def figures(timing: Timing, rows: int) -> dict[str, Any]:
    """Return what a row says of one timing."""
    return {"rows_per_s": rows / timing.median_s, "spread": timing.spread, "rounds": len(timing.seconds)}


def profiles(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each profile."""
    repository = make_store(ROOT, arguments.data, UNIFORM, ["plain"], work)
    engines = {name: (ROOT, repository, name) for name in (REFERENCE, *arguments.profile)}
    square = np.random.default_rng(0).normal(0, 1, (MATMUL_WIDTH, MATMUL_WIDTH)).astype(np.float32)
    timings = time_engines(engines, arguments, work, {MATMUL: lambda: square @ square})
    peak = 2 * MATMUL_WIDTH**3 / min(timings.pop(MATMUL).seconds)
    tokens = sum(map(len, TokenIds().of(data.sample(case.data_folder(arguments.data), arguments.rows))))
    operations = 2 * data.weights_in_products() * tokens
    for name, timing in timings.items():
        times = times_as_fast(timing, timings[REFERENCE])
        setting = {"data": arguments.data, "rows": arguments.rows, "profile": name}
        share = operations / timing.median_s / peak
        speed = {"times_reference": times, "peak_gflops": peak / 1e9, "share_of_peak": share}
        yield {**setting, **figures(timing, arguments.rows), **speed}


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


def served(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each profile: client, gRPC and Triton beside the engine in process."""
    repository = make_store(ROOT, arguments.data, UNIFORM, ["plain"], work)
    rows = data.sample(case.data_folder(arguments.data), max(arguments.rows, LONE_ROWS))
    file, numbers, lone = write_rows(rows, work / "rows.jsonl"), list(range(arguments.rows)), list(range(LONE_ROWS))
    for profile in (REFERENCE, *arguments.profile):
        options = {"scratch": work.absolute(), "repository": repository.absolute(), "profile": profile}
        with (
            Child(ENGINE, options, file, work / "engine.log") as engine,
            Child(SERVED, options, file, work / "served.log") as server,
        ):
            works = {"engine": engine, "served": server}
            asked = {name: lambda child=child: child.ask("logits", numbers=numbers) for name, child in works.items()}
            timings = interleave(asked, arguments.rounds)
            for child in works.values():
                child.ask("singly", numbers=lone)  # a shape's first run makes its kernels
            alone = {name: np.array(child.ask("singly", numbers=lone)["seconds"]) for name, child in works.items()}
        p50, p99 = np.percentile(alone["served"], [50, 99]) * 1e3
        over = np.median(alone["served"] - alone["engine"]) * 1e3
        latency = {"lone_p50_ms": float(p50), "lone_p99_ms": float(p99), "lone_over_engine_ms": float(over)}
        setting = {"data": arguments.data, "rows": arguments.rows, "profile": profile}
        share = times_as_fast(timings["served"], timings["engine"])
        yield {**setting, **figures(timings["served"], arguments.rows), "share_of_engine": share, **latency}


def lone(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each length and way: one row at a time, beside a merged model that has all cores for it."""
    repository = make_store(ROOT, "SAF", UNIFORM, ["plain"], work)
    task = data.example_adapters()[0].name
    scratch = {"scratch": work.absolute()}
    ours = {**scratch, "repository": repository.absolute(), "profile": arguments.profile[0]}
    ways = {
        "merged into one OpenVINO model, in process": (MERGED, {**scratch, "precision": "f32", "at_once": 1}),
        "engine, in process": (ENGINE, ours),
        "client, gRPC and Triton": (SERVED, ours),
    }
    for tokens in LONE_TOKENS:
        count = max(LONE_ROWS // 10, LONE_ROWS * LONE_TOKENS[0] // tokens)
        rows = [Labelled(str(number), task, data.text_of(tokens, number), 0) for number in range(count)]
        file, numbers = write_rows(rows, work / "rows.jsonl"), list(range(count))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with ExitStack() as held:
            children = {
                way: held.enter_context(Child(target, options, file, work / f"{number}.log"))
                for number, (way, (target, options)) in enumerate(ways.items())
            }
            for number in range(arguments.rounds + 1):  # the first one makes kernels
                for way, child in children.items():
                    found = child.ask("singly", numbers=numbers[: count if number else 10])["seconds"]
                    seconds[way] += found if number else []
        for way, found in seconds.items():
            p50, p99 = np.percentile(found, [50, 99]) * 1e3
            over = p50 - float(np.median(seconds[next(iter(ways))])) * 1e3
            yield {"tokens": tokens, "profile": arguments.profile[0], "way": way, "p50_ms": p50, "p99_ms": p99,
                   "over_merged_ms": over}  # fmt: skip


def imports(arguments: argparse.Namespace, _work: Path) -> Iterable[Row]:
    """Yield a row: how long a fresh interpreter takes to import the client, over one that imports nothing."""
    codes = {"nothing": "pass", "client": "import scoremux_client"}
    works = {n: lambda code=c: subprocess.run([sys.executable, "-c", code], check=True) for n, c in codes.items()}
    timings = interleave(works, 2 * arguments.rounds)
    took_s = timings["client"].median_s - timings["nothing"].median_s
    yield {"import_s": took_s, "spread": timings["client"].spread}


DATA, PROFILE = Column("data", "data"), Column("profile", "profile")
RATE = (Column("rows/s", "rows_per_s", "{:,.0f}"), Column("spread", "spread", "{:.2f}"))
CASES = (
    Case(
        "profiles",
        "Rows a second of the engine in process, by profile",
        (
            DATA,
            PROFILE,
            *RATE,
            Column(f"× {REFERENCE}", "times_reference", "{:.2f}"),
            Column("of the float32 matmul peak, on real tokens", "share_of_peak", "{:.2f}"),
        ),
        ("data", "profile"),
        profiles,
    ),
    Case(
        "rank_classes",
        "Rows a second of stores of one rank and of mixed ranks, this code and the code before",
        (
            DATA,
            PROFILE,
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
    Case(
        "served",
        "Client, gRPC and Triton beside the engine in process, on the same rows",
        (
            DATA,
            PROFILE,
            *RATE,
            Column("of the engine's rows/s", "share_of_engine", "{:.3f}"),
            Column("a lone row, ms: p50", "lone_p50_ms", "{:.1f}"),
            Column("p99", "lone_p99_ms", "{:.1f}"),
            Column("over the engine, median", "lone_over_engine_ms", "{:.1f}"),
        ),
        ("data", "profile"),
        served,
    ),
    Case(
        "lone",
        "One row at a time, beside a model of its task alone that has all cores for it",
        (
            Column("tokens", "tokens"),
            PROFILE,
            Column("way", "way"),
            Column("p50, ms", "p50_ms", "{:.1f}"),
            Column("p99, ms", "p99_ms", "{:.1f}"),
            Column("p50 over merged, ms", "over_merged_ms", "{:+.1f}"),
        ),
        ("tokens", "profile", "way"),
        lone,
    ),
    Case(
        "imports",
        "`import scoremux_client` in a fresh interpreter",
        (Column("s", "import_s", "{:.2f}"), Column("spread", "spread", "{:.2f}")),
        (),
        imports,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__)
    parser.add_argument(
        "--profile",
        nargs="*",
        default=["cpu"],
        help="beside cpu-reference: NAME or FILE, maybe with settings, as in cpu,precision=int8",
    )
    parser.add_argument("--against", type=Path, help="a checkout of another commit")
    parser.add_argument("--ranks", type=int, nargs="*", default=MIXED, help="of the mixed store, in turn")
    parser.add_argument("--kinds", nargs="*", choices=data.KINDS, default=["plain"], help="of adapters, in turn")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
