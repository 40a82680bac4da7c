"""The axes of growth: for each value, what is made and what is timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.memory import resident_bytes
from benchmarks.workload import RUNNERS, Padded, padded_for, random_tables, sample
from scoremux_engine import Engine
from scoremux_engine.backbone import Backbone
from scoremux_engine.engine import BUDGET_TOKENS
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_engine.store.manifest import Manifest
from scoremux_engine.store.store import Store
from scoremux_engine.tables import Tables

ROWS, GROUPS = 512, 27


@dataclass(frozen=True)
class Setting:
    """What all values of an axis share. repository: MiniLM, and for the axis `tasks` as many tasks as its last."""

    data: Path
    repository: Path
    runner: str

    @cached_property
    def backbone(self) -> Backbone:
        return Backbone.open(self.repository / "backbone" / "1")

    @cached_property
    def made(self) -> BackboneRunner:
        return self.runner_of(None)

    def runner_of(self, threads: int | None) -> BackboneRunner:
        """Return a runner with so many threads."""
        return dataclasses.replace(RUNNERS[self.runner], threads=threads).make(self.backbone)

    @cached_property
    def texts(self) -> list[str]:
        return [row.text for row in sample(self.data, ROWS)]


@dataclass(frozen=True)
class Work:
    """`run` does `amount` (rows or tokens); empty_bytes: the process before all that differs by value was made."""

    run: Callable[[], object]
    amount: int
    empty_bytes: int


@dataclass(frozen=True)
class Axis:
    """unit: of `Work.amount`."""

    values: tuple[int, ...]
    unit: str
    work: Callable[[Setting, int], Work]


def _tasks(setting: Setting, value: int) -> Work:
    """512 rows, spread over `value` resident tasks."""
    runner, texts, empty = setting.made, setting.texts, resident_bytes()
    engine = Engine(setting.backbone, _store_of(setting.repository / "store", value), runner)
    engine.bank.load_live()
    live = engine.bank.tasks
    asked = [live[i * 7 % value] for i in range(ROWS)]  # 7 and powers of 3 share no factor: all tasks in turn
    return Work(lambda: engine.logits(texts, asked), ROWS, empty)


def _store_of(whole: Path, tasks: int) -> Store:
    """Return a store of the first tasks of another, with the same packages."""
    folder = whole.parent / f"store-{tasks}"
    if not folder.exists():
        manifest = Store(whole).manifest()
        live = {task: manifest.tasks[task] for task in sorted(manifest.tasks)[:tasks]}
        folder.mkdir()
        (folder / "packages").symlink_to(whole / "packages")
        (folder / "manifest.json").write_bytes(Manifest(tasks=live, backbone=manifest.backbone).to_json())
    return Store(folder)


def _rank(setting: Setting, value: int) -> Work:
    """512 rows of 27 made-up adapters of rank `value`."""
    runner, rows, empty = setting.made, sample(setting.data, ROWS), resident_bytes()
    made = _as_taken(random_tables(setting.backbone.spec, GROUPS, value), runner)
    work = padded_for(setting.backbone, rows, made)
    return Work(lambda: work.run(runner), ROWS, empty)


def _rows(setting: Setting, value: int) -> Work:
    """512 rows of 27 tasks, `value` in a call."""
    runner, texts, empty = setting.made, setting.texts, resident_bytes()
    engine = Engine(setting.backbone, Store(setting.repository / "store"), runner)
    engine.bank.load_live()
    live = engine.bank.tasks
    asked = [live[i % len(live)] for i in range(ROWS)]

    def run() -> None:
        for start in range(0, ROWS, value):
            engine.logits(texts[start : start + value], asked[start : start + value])

    return Work(run, ROWS, empty)


def _length(setting: Setting, value: int) -> Work:
    """Eight full micro-batches of rows of `value` tokens, 27 made-up adapters."""
    runner, empty, parts = setting.made, resident_bytes(), 8
    draw = np.random.default_rng(value)
    count = BUDGET_TOKENS // value
    shape, group = (count, value), np.arange(count, dtype=np.int64) % GROUPS
    ids = [draw.integers(1000, 20000, shape, dtype=np.int64) for _ in range(parts)]
    mask = np.ones(shape, dtype=np.int64)
    made = _as_taken(random_tables(setting.backbone.spec, GROUPS), runner)
    work = Padded([(part, mask, group) for part in ids], made, [value] * (count * parts))
    return Work(lambda: work.run(runner), work.tokens, empty)


def _threads(setting: Setting, value: int) -> Work:
    """512 rows of 27 tasks with `value` threads."""
    empty = resident_bytes()
    engine = Engine(setting.backbone, Store(setting.repository / "store"), setting.runner_of(value))
    engine.bank.load_live()
    live = engine.bank.tasks
    asked = [live[i % len(live)] for i in range(ROWS)]
    return Work(lambda: engine.logits(setting.texts, asked), ROWS, empty)


def _as_taken(made: Tables, runner: BackboneRunner) -> Tables:
    """Return tables in the types that the runner takes, as the bank holds them."""
    return Tables({n: a.astype(runner.dtypes.get(n, a.dtype), copy=False) for n, a in made.arrays.items()})


AXES = {
    "tasks": Axis((1, 3, 9, 27, 81, 243, 729, 2187), "rows", _tasks),
    "rank": Axis((4, 8, 16, 32, 64), "rows", _rank),
    "rows": Axis((1, 2, 4, 8, 16, 32, 64, 128, 256, 512), "rows", _rows),
    "length": Axis((8, 16, 32, 64, 128, 256, 512), "tokens", _length),
    "threads": Axis((1, 2), "rows", _threads),
}
