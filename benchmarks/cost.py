"""Processor time of 1,000 responses, and what it costs: the engine, PEFT, and a whole model for each task.

    python -m benchmarks cost --price 0.04
    python -m benchmarks cost --texts SAF --only scoremux PEFT

Every way runs in a process of its own and scores all rows once a round, in turn. Its figure is the user and system time
of that process and its children, median over rounds. Memory, and cores that wait, are not in it. `--price` is the price
of one core for an hour, in any currency. A fully fine-tuned model computes what a merged one does. Models that are
opened one at a time are opened in each round: the more rows a task has, the less of the time that is.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import data
from benchmarks.case import case, data_folder
from benchmarks.child import Child, ChildError
from benchmarks.data import Labelled
from benchmarks.peers.base import Peer, load
from benchmarks.peers.batches import TokenIds
from benchmarks.peers.comparison import waves
from benchmarks.peers.peft_torch import AUTOCAST, CONVERTED
from benchmarks.peers.scoremux import PRECISIONS, publish_once
from benchmarks.rows import Row
from benchmarks.stores import make_all_linear
from benchmarks.timing import Timing, times_as_fast

QUERY_VALUE, ALL, WEIGHTS = "query and value", "all Linears", "all weights"
WHOLE = {
    "a model for each task, all in memory": "merged:Merged",
    "a model for each task, one at a time": "merged:OneAtATime",
}
PEFT_PRECISIONS = {"float32": PRECISIONS[:1], "bfloat16": (AUTOCAST, CONVERTED)}
WORDS = {"float32": "f32", "bfloat16": "bf16"}
"""What OpenVINO calls them."""
SHORTER = 8
"""Of made-up texts, which are long, so many times fewer rows are scored."""


class Way(NamedTuple):
    """A way to score, as the table shows it, and what runs it."""

    way: str
    sites: str
    precision: str
    peer: Peer


def ways(work: Path) -> Iterator[Way]:
    """Yield every way; the first is the reference."""
    everywhere = make_all_linear(work)
    places = {
        QUERY_VALUE: (publish_once(str(work)).absolute(), ""),
        ALL: (everywhere / "repository", str(everywhere / "adapters")),
    }
    for sites, (repository, adapters) in places.items():
        for precision in PRECISIONS:
            options: dict[str, Any] = {"repository": str(repository), "settings": [f"precision={precision}"]}
            yield _way("scoremux", sites, precision, "scoremux:ScoremuxEngine", options)
        options = {"repository": str(repository), "settings": ["precision=float32"]}
        yield _way("scoremux in Triton, with its client", sites, "float32", "scoremux:ScoremuxTriton", options)
        for precision in WORDS:
            options = {"adapters": adapters, "precisions": PEFT_PRECISIONS[precision]}
            yield _way("PEFT mixed batch, by length", sites, precision, "peft_torch:PeftMixed", options)
            yield _way("PEFT set_adapter, task after task", sites, precision, "peft_torch:PeftSwitched", options)
    for name, target in WHOLE.items():
        for precision, word in WORDS.items():
            yield _way(name, WEIGHTS, precision, target, {"precision": word}, heavy=target == "merged:Merged")


def _way(way: str, sites: str, precision: str, target: str, options: dict[str, Any], heavy: bool = False) -> Way:
    return Way(way, sites, precision, Peer(f"{way}, {sites}, {precision}", target, options, heavy=heavy))


def responses(texts: str, count: int) -> list[Labelled]:
    """Return rows of the 27 tasks: of a corpus, or made-up texts of a number of tokens."""
    if not texts.isdigit():
        return data.for_examples(data.sample(data_folder(texts), count))
    tasks = [folder.name for folder in data.example_adapters()]
    numbers = range(max(len(tasks), count // SHORTER))
    return [Labelled(str(n), tasks[n % len(tasks)], data.text_of(int(texts), n), 0) for n in numbers]


def processor_time(
    peers: Sequence[Peer], rows: Sequence[Labelled], rounds: int, work: Path
) -> dict[Peer, tuple[Timing, str]]:
    """Return processor time and setting by peer; one that cannot be had here is named on standard error."""
    numbers, children, used = range(len(rows)), dict[Peer, Child](), dict[Peer, Timing]()
    with ExitStack() as held:
        for peer in peers:
            try:
                child = held.enter_context(load(peer, work, rows))
                child.logits(numbers)  # a shape's first run makes its kernels
                children[peer], used[peer] = child, Timing([])
            except ChildError as error:
                print(f"not measured: {peer.name}: {error}", file=sys.stderr)
        for _ in range(rounds):
            for peer, child in children.items():
                before_s = child.processor_s()
                child.logits(numbers)
                used[peer].seconds.append(child.processor_s() - before_s)
        return {peer: (timing, children[peer].setting()) for peer, timing in used.items()}


@case(
    columns=(
        "texts; tokens = tokens:.0f; rows; way; sites; precision; setting; processor s for 1,000 = cpu_s:.2f; "
        "spread = spread:.2f; × scoremux, query and value, float32 = times_first:.2f; price for 1,000 = price:.6f; "
        "of a core-hour = core_hour"
    ),
    keys="texts way sites precision",
    options={
        "--texts": {
            "nargs": "+",
            "default": ["SCIENTSBANK", "SAF", "512"],
            "help": "a corpus; tokens of made-up texts",
        },
        "--price": {"type": float, "help": "price of one core for an hour"},
        "--only": {"nargs": "+", "default": [""], "help": "ways whose names contain one of these, beside the first"},
    },
    defaults={"rounds": 3},
)
def cost(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Processor time of 1,000 responses to 27 tasks, and its price."""
    first, *others = ways(work)
    first = first._replace(peer=replace(first.peer, reference=True))
    chosen = [first, *(way for way in others if any(part in way.peer.name for part in arguments.only))]
    for texts in arguments.texts:
        rows = responses(texts, arguments.rows)
        tokens = statistics.mean(map(len, TokenIds().of(rows)))
        for row in _of_texts(chosen, rows, arguments, work):
            yield {"texts": texts, "tokens": tokens, "rows": len(rows), **row}


def _of_texts(chosen: Sequence[Way], rows: Sequence[Labelled], arguments: argparse.Namespace, work: Path) -> list[Row]:
    """Return a row for each way to score some texts; adapters on all Linears in float32 name the least of each way."""
    found: dict[Peer, Row] = {}
    of_peer = {way.peer: way for way in chosen}
    for wave in waves(list(of_peer)):
        used = processor_time(wave, rows, arguments.rounds, work)
        for peer, (timing, setting) in used.items():
            way, cpu_s = of_peer[peer], timing.median_s / len(rows) * 1000
            row = {"way": way.way, "sites": way.sites, "precision": way.precision, "setting": setting, "cpu_s": cpu_s}
            row |= {"rounds": len(timing.seconds), "spread": timing.spread}
            row |= {"times_first": times_as_fast(used[wave[0]][0], timing)}
            if arguments.price is not None:
                row |= {"core_hour": arguments.price, "price": cpu_s / 3600 * arguments.price}
            found.setdefault(peer, row)
    beside = sorted((row for row in found.values() if row["sites"] != QUERY_VALUE), key=lambda row: row["cpu_s"])
    least = {row["way"]: row for row in reversed(beside)}
    shown = "; ".join(f"{name} {row['cpu_s']:.1f} s ({_with_precision(row)})" for name, row in sorted(least.items()))
    return [{**row, "shown": shown} if _default(row) else row for row in found.values()]


def _with_precision(row: Row) -> str:
    """Return the setting that was measured, with its precision."""
    precision, setting = row["precision"], row["setting"]
    return str(setting) if precision in setting else f"{precision}, {setting}".removesuffix(", ")


def _default(row: Row) -> bool:
    return (row["way"], row["sites"], row["precision"]) == ("scoremux", ALL, "float32")
