"""How fast rows are scored: profiles side by side, stores of mixed ranks, and the way through client and Triton.

    python -m benchmarks profiles --data SAF
    python -m benchmarks rank_classes --data SCIENTSBANK --against PATH_TO_CHECKOUT
    python -m benchmarks lone

Each engine runs in a process of its own. All score the same rows once a round, in turn; ratios are medians of the
rounds' own ratios. `--against` names a checkout of another commit, which exports and publishes with its own code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import data
from benchmarks.case import PROFILES, RATE, case, data_folder
from benchmarks.child import ENGINE, SERVED, Child, checkout_environment, open_children
from benchmarks.cost import ALL, QUERY_VALUE, WORDS
from benchmarks.data import Labelled
from benchmarks.peers.batches import TokenIds
from benchmarks.rows import ROOT, Row, commit
from benchmarks.stores import MIXED, UNIFORM, make_all_linear, make_store
from benchmarks.timing import Name, Timing, figures, interleave, times_as_fast

REFERENCE = "cpu-reference"
MERGED = "benchmarks.peers.merged:OneModel"
LIMIT, MIXED_TASKS, ONE_TASK = "the limit: the plain backbone in OpenVINO", "tasks mixed", "one task"
MATMUL, MATMUL_WIDTH = "float32 matmul on all cores", 2048
LONE_ROWS, LONE_TOKENS = 200, (16, 64, 512)


class Engine(NamedTuple):
    """What computes, and which rows; None: those of the corpus."""

    checkout: Path
    repository: Path
    profile: str
    rows: Sequence[Labelled] | None = None


def time_engines(
    engines: Mapping[Name, Engine],
    arguments: argparse.Namespace,
    work: Path,
    others: Mapping[Name, Callable[[], object]] | None = None,
) -> dict[Name, Timing]:
    """Time engines on the same texts, round by round.

    Args:
        engines: by name.
        arguments: of the command line.
        work: what is written along the way.
        others: more works that take turns with them, by name.
    """
    rows = data.sample(data_folder(arguments.data), arguments.rows)
    numbers = list(range(arguments.rows))
    with ExitStack() as held:
        works: dict[Name, Callable[[], object]] = dict(others or {})
        for number, (name, engine) in enumerate(engines.items()):
            base, *settings = engine.profile.split(",")
            options = {"repository": engine.repository.absolute(), "profile": base, "settings": settings}
            environment = checkout_environment(engine.checkout)
            log = work / f"{number}.log"
            child = held.enter_context(Child(ENGINE, options, engine.rows or rows, log, environment=environment))
            works[name] = partial(child.logits, numbers)
        return interleave(works, arguments.rounds)


@case(
    columns=(
        "data; profile; sites, if not query and value = sites; rows of, if not tasks mixed = rows_of; "
        f"{RATE}; × {REFERENCE} = times_reference:.2f; of the plain backbone = share_of_limit:.2f; "
        "of the float32 matmul peak, on real tokens = share_of_peak:.2f"
    ),
    keys="data profile sites rows_of",
    options=PROFILES,
)
def profiles(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Rows a second of the engine in process, by profile, and of the plain backbone."""
    rows = data.sample(data_folder(arguments.data), arguments.rows)
    stores = {
        QUERY_VALUE: (make_store(work, arguments.data), rows),
        ALL: (make_all_linear(work) / "repository", data.for_examples(rows)),
    }
    first = (REFERENCE, QUERY_VALUE, MIXED_TASKS)
    engines = {first: Engine(ROOT, stores[QUERY_VALUE][0], REFERENCE)}
    for profile in arguments.profile:
        for sites, (repository, mixed) in stores.items():
            one = [replace(row, task=mixed[0].task) for row in mixed]
            engines[profile, sites, MIXED_TASKS] = Engine(ROOT, repository, profile, mixed)
            engines[profile, sites, ONE_TASK] = Engine(ROOT, repository, profile, one)
    square = np.random.default_rng(0).normal(0, 1, (MATMUL_WIDTH, MATMUL_WIDTH)).astype(np.float32)
    others: dict[tuple[str, str, str], Callable[[], object]] = {(MATMUL, "", ""): lambda: square @ square}
    limits = {
        (LIMIT, "", name): (MERGED, {"scratch": work.absolute(), "precision": word}) for name, word in WORDS.items()
    }
    with open_children(limits, data.for_examples(rows), work) as plain:
        others |= {name: partial(child.logits, range(len(rows))) for name, child in plain.items()}
        timings = time_engines(engines, arguments, work, others)
    peak = 2 * MATMUL_WIDTH**3 / min(timings.pop((MATMUL, "", "")).seconds)
    operations = 2 * data.weights_in_products() * sum(map(len, TokenIds().of(rows)))
    for (profile, sites, rows_of), timing in timings.items():
        setting = {"data": arguments.data, "rows": len(rows), "profile": profile}
        if (sites, rows_of) != first[1:]:
            setting |= {"sites": sites, "rows_of": rows_of}
        speed = {"times_reference": times_as_fast(timing, timings[first]), "peak_gflops": peak / 1e9}
        speed |= {"share_of_peak": operations / timing.median_s / peak}
        limit = timings[LIMIT, "", "bfloat16" if "bfloat16" in profile else "float32"]
        yield {**setting, **figures(timing, len(rows)), **speed, "share_of_limit": times_as_fast(timing, limit)}


@case(
    columns=(
        f"data; profile; ranks; code = code_commit; {RATE}; × uniform, same code = share_of_uniform:.3f; "
        "× same store, code before = share_of_before:.3f"
    ),
    keys="data profile ranks code",
    options={
        **PROFILES,
        "--against": {"type": Path, "help": "a checkout of another commit"},
        "--ranks": {"type": int, "nargs": "*", "default": MIXED, "help": "of the mixed store, in turn"},
    },
)
def rank_classes(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Rows a second of stores of one rank and of mixed ranks."""
    checkouts = {"this": ROOT, **({"before": arguments.against.absolute()} if arguments.against else {})}
    stores = {"uniform": UNIFORM, "mixed": tuple(arguments.ranks)}
    for profile in (REFERENCE, *arguments.profile):
        engines = {}
        for code, checkout in checkouts.items():
            for store, ranks in stores.items():
                repository = make_store(work, arguments.data, ranks, checkout)
                engines[f"{code} {store}"] = Engine(checkout, repository, profile)
        timings = time_engines(engines, arguments, work)
        for code, checkout in checkouts.items():
            for store, ranks in stores.items():
                timing = timings[f"{code} {store}"]
                ratios = {"share_of_uniform": times_as_fast(timing, timings[f"{code} uniform"])}
                if "before" in checkouts:
                    ratios["share_of_before"] = times_as_fast(timing, timings[f"before {store}"])
                setting = {"data": arguments.data, "rows": arguments.rows, "profile": profile}
                named = {**setting, "code": code, "code_commit": commit(checkout), "ranks": list(ranks)}
                yield {**named, **figures(timing, arguments.rows), **ratios}


@case(
    columns=(
        f"data; profile; {RATE}; of the engine's rows/s = share_of_engine:.3f; "
        "a lone row, ms: p50 = lone_p50_ms:.1f; p99 = lone_p99_ms:.1f; "
        "over the engine, median = lone_over_engine_ms:.1f"
    ),
    keys="data profile",
    options=PROFILES,
)
def served(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Client, gRPC and Triton beside the engine in process, on the same rows."""
    repository = make_store(work, arguments.data)
    rows = data.sample(data_folder(arguments.data), max(arguments.rows, LONE_ROWS))
    numbers, lone = list(range(arguments.rows)), list(range(LONE_ROWS))
    for profile in (REFERENCE, *arguments.profile):
        options = {"scratch": work.absolute(), "repository": repository.absolute(), "profile": profile}
        with open_children({"engine": (ENGINE, options), "served": (SERVED, options)}, rows, work) as children:
            works = {name: partial(child.logits, numbers) for name, child in children.items()}
            timings = interleave(works, arguments.rounds)
            for child in children.values():
                child.singly(lone)  # a shape's first run makes its kernels
            alone = {name: np.array(child.singly(lone)[0]) for name, child in children.items()}
        p50, p99 = np.percentile(alone["served"], [50, 99]) * 1e3
        over = np.median(alone["served"] - alone["engine"]) * 1e3
        latency = {"lone_p50_ms": float(p50), "lone_p99_ms": float(p99), "lone_over_engine_ms": float(over)}
        setting = {"data": arguments.data, "rows": arguments.rows, "profile": profile}
        share = times_as_fast(timings["served"], timings["engine"])
        yield {**setting, **figures(timings["served"], arguments.rows), "share_of_engine": share, **latency}


@case(
    columns=(
        "tokens; profile; way; p50, ms = p50_ms:.1f; p99, ms = p99_ms:.1f; p50 over merged, ms = over_merged_ms:+.1f"
    ),
    keys="tokens profile way",
    options=PROFILES,
)
def lone(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """One row at a time, beside a model of its task alone that has all cores for it."""
    repository = make_store(work)
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
        numbers = list(range(count))
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        with open_children(ways, rows, work) as children:
            for number in range(arguments.rounds + 1):  # the first one makes kernels
                for way, child in children.items():
                    taken = child.singly(numbers[: count if number else 10])[0]
                    seconds[way] += taken if number else []
        for way, taken in seconds.items():
            p50, p99 = np.percentile(taken, [50, 99]) * 1e3
            over = p50 - float(np.median(seconds[next(iter(ways))])) * 1e3
            yield {"tokens": tokens, "profile": arguments.profile[0], "way": way, "p50_ms": p50, "p99_ms": p99,
                   "over_merged_ms": over}  # fmt: skip
