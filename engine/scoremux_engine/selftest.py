"""The self-test: do rows of this store keep their bits in random mixes, on this machine, with this runner?

And what are they: digests of scores, which another machine's can be compared with, and their distance from float32's.
"""

import math
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scoremux_engine.bank.residents import Version
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.buckets import SizeClass

_MOST_ROWS = 64
_MOST_TASKS = 500
_TASKS_OF_A_CLASS, _TASKS_OF_LONG_TEXTS, _LONG_TOKENS = 3, 1, 64
MADE_UP_WORDS = ("the", "water", "heat", "moves", "because", "energy", "than", "what", "is", "measure", "two", "points")


class MadeUpRow(NamedTuple):
    """A made-up text, its task with its size class, the padded length that it gets, and how many logits."""

    text: str
    task: str
    size: SizeClass
    bucket: int
    outputs: int


@dataclass(frozen=True)
class ChangedRow:
    """The first row whose bits were different. max_abs_difference: how far one of its logits moved."""

    task: str
    bucket: int
    rows_in_mix: int
    max_abs_difference: float

    def __str__(self) -> str:
        return (
            f"a row of task {self.task}, padded to {self.bucket} tokens, has other bits among {self.rows_in_mix} rows "
            f"than alone; its logits differ by up to {self.max_abs_difference:.1e}"
        )


@dataclass
class SelfTest:
    """The figures of a self-test.

    rows: those compared, in all mixes; sizes, buckets: their size classes and padded lengths.
    """

    mixes: int = 0
    rows: int = 0
    seconds: float = 0.0
    sizes: set[SizeClass] = field(default_factory=set)
    buckets: set[int] = field(default_factory=set)
    changed: ChangedRow | None = None


def run_selftest(
    engine: Engine,
    *,
    mixes: int | None = None,
    seconds: float | None = None,
    tasks: int = _MOST_TASKS,
    loading_s: float = math.inf,
    longest: int | None = None,
) -> SelfTest:
    """Score made-up rows of the store's live tasks alone and in random mixes, and compare their bits.

    Ends at the first changed bit. A store without tasks passes, with no rows: there is nothing to score.

    Args:
        mixes: how many mixes to try; None: as many as `seconds` allow.
        seconds: when to stop, from the first mix on; None: after `mixes`. One mix is tried, whatever it takes.
        tasks: most tasks to load, drawn at random; tasks of every size class among them take part.
        loading_s: when to load no more of them. Each of a decoder's that has a prefix takes a run of the backbone.
        longest: the longest text in tokens; None: the backbone's limit.
    """
    started = time.perf_counter()
    draw, test = random.Random(0), SelfTest()
    versions = _draw_tasks(engine, tasks, draw, started + loading_s)
    by_bucket = _rows_by_bucket(engine, versions, longest or engine.backbone.spec.max_tokens, draw)
    alone: dict[MadeUpRow, bytes] = {}
    ends = math.inf if seconds is None else time.perf_counter() + seconds
    while by_bucket and test.changed is None and (mixes is None or test.mixes < mixes):
        _compare(engine, _draw_mix(by_bucket, draw), alone, ends, test)
        test.mixes += 1
        test.seconds = time.perf_counter() - started
        if time.perf_counter() >= ends:
            break
    return test


def pass_selftest(engine: Engine, folder: Path | None) -> None:
    """Run the self-test unless the run of this folder has passed it. Raises RunnerError if a bit changed."""
    passed = folder / "selftest-passed" if folder else None
    if passed and passed.exists():
        return
    test = run_selftest(engine, seconds=1.0, tasks=32, loading_s=1.0, longest=64)
    if changed := test.changed:
        raise RunnerError(f"bits are not stable on this machine: {changed}; selftest=off serves all the same")
    if passed:
        passed.touch()


def _draw_mix(by_bucket: Mapping[int, Sequence[MadeUpRow]], draw: random.Random) -> list[MadeUpRow]:
    """Return rows of few lengths, so that many share a micro-batch."""
    buckets = draw.sample(sorted(by_bucket), k=min(len(by_bucket), draw.randint(1, 4)))
    rows = [row for bucket in buckets for row in by_bucket[bucket]]
    return draw.choices(rows, k=round(_MOST_ROWS ** draw.random()))


def _compare(
    engine: Engine, mix: Sequence[MadeUpRow], alone: dict[MadeUpRow, bytes], ends: float, test: SelfTest
) -> None:
    """Score a mix, and each of its rows alone unless that was done before; note the first row that differs in `test`.

    Only the first of all rows is scored alone once the clock says `ends`.
    """
    together = engine.logits([row.text for row in mix], [row.task for row in mix])
    for row, logits in zip(mix, together, strict=True):
        if row not in alone:
            if alone and time.perf_counter() >= ends:
                continue
            alone[row] = engine.logits([row.text], [row.task])[0, : row.outputs].tobytes()
        test.rows += 1
        test.sizes.add(row.size)
        test.buckets.add(row.bucket)
        logits = logits[: row.outputs]  # how wide all are may change while a large store is described
        if logits.tobytes() != alone[row]:
            difference = np.abs(logits - np.frombuffer(alone[row], np.float32))
            test.changed = ChangedRow(row.task, row.bucket, len(mix), float(np.nanmax(difference)))
            return


def _draw_tasks(engine: Engine, most: int, draw: random.Random, ends: float) -> list[list[Version]]:
    """Return versions of at most `most` live tasks that can be scored, those of each size class together.

    No more are loaded once the clock says `ends`.
    """
    tasks = engine.bank.tasks
    by_size: dict[SizeClass, list[Version]] = defaultdict(list)
    with engine.bank.checkout() as versions:
        for task in draw.sample(tasks, k=min(len(tasks), most)):
            if by_size and time.perf_counter() >= ends:
                break
            version = versions.find(task)
            if isinstance(version, Version):
                by_size[version.size].append(version)
    return list(by_size.values())


def _rows_by_bucket(
    engine: Engine, tasks: Sequence[Sequence[Version]], longest: int, draw: random.Random
) -> dict[int, list[MadeUpRow]]:
    """Return rows of every bucket up to `longest` tokens, in each of them tasks of every size class.

    A task with more than `longest` tokens around its responses has rows of the least bucket that holds them; those that
    its prefix stands for do not count.
    """
    rows: dict[int, list[MadeUpRow]] = defaultdict(list)
    lengths = [n for n in engine.backbone.buckets.lengths if n <= longest] or [engine.backbone.buckets.lengths[0]]

    def count(version: Version, text: str) -> int:
        (tokens,) = engine.backbone.tokenizer.encode([version.task.render(text)])
        ids = (tokens.windows or (tokens,))[0].ids
        return len(ids) - version.prefix_tokens(ids, engine.backbone.spec.pad_id)

    tokens_a_word = len(engine.backbone.tokenizer.encode([" ".join(MADE_UP_WORDS)])[0].ids) / len(MADE_UP_WORDS)
    for length in lengths:
        most = _TASKS_OF_A_CLASS if length <= _LONG_TOKENS else _TASKS_OF_LONG_TEXTS
        for members in tasks:
            for version in draw.sample(members, k=min(len(members), most)):
                words = round((length - count(version, "") - draw.randint(0, 4)) / tokens_a_word)
                text = " ".join(draw.choices(MADE_UP_WORDS, k=max(1, words)))
                bucket = engine.backbone.buckets.of(count(version, text))
                rows[bucket].append(MadeUpRow(text, version.task.id, version.size, bucket, version.outputs))
    return dict(rows)
