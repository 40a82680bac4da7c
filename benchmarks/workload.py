"""What the speed measurements run: real responses at their real lengths, as micro-batches with tables."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.saf import SafRow, read_rows
from scoremux_engine import tables
from scoremux_engine.backbone import Backbone, BackboneSpec
from scoremux_engine.engine import BUDGET_TOKENS, Engine
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.runners.runner import BackboneRunner
from scoremux_engine.scoring import microbatches
from scoremux_engine.scoring.batch import Batch
from scoremux_engine.scoring.buckets import Buckets
from scoremux_engine.scoring.tokens import Tokenizer
from scoremux_engine.tables import Tables

Ints = npt.NDArray[np.int64]

RUNNERS = {
    "onnxruntime float32": RunnerChoice("onnxruntime"),
    "openvino float32": RunnerChoice("openvino", precision="float32"),
    "openvino bfloat16": RunnerChoice("openvino", precision="bfloat16"),
    "openvino int8": RunnerChoice("openvino", precision="int8"),
}


def sample(data: Path, rows: int, seed: int = 512) -> list[SafRow]:
    """Return rows of the training split at random: all tasks, all lengths, in no order."""
    return random.Random(seed).sample(read_rows(data, "train"), rows)


@dataclass(frozen=True)
class Padded:
    """Micro-batches of a workload, ready to run. `lengths`: real tokens of every row."""

    parts: list[tuple[Ints, Ints, Ints]]
    tables: Tables
    lengths: list[int]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def run(self, runner: BackboneRunner, with_tables: Tables | None = None) -> None:
        """Run all micro-batches as the engine does, with other tables if given."""
        tables = with_tables or self.tables

        def one(part: tuple[Ints, Ints, Ints]) -> None:
            runner.run(*part, tables)

        with ThreadPoolExecutor(runner.overlap) as pool:
            list(pool.map(one, self.parts))


def random_tables(backbone: BackboneSpec, groups: int = 27, rank: int = 16, levels: int = 8, seed: int = 27) -> Tables:
    """Return tables of as many made-up adapters, for encoders that nobody trained adapters for."""
    draw = np.random.default_rng(seed)
    shapes = tables.input_shapes(backbone, tables.SizeClass(rank, levels))
    made = {n: draw.normal(0, 0.02, (groups, *shape)).astype(np.float32) for n, shape in shapes.items()}
    return Tables(made)


def padded_for(backbone: Backbone, rows: list[SafRow], made: Tables) -> Padded:
    """Bucket and pad `rows` as the engine does, tasks taken in turn from the adapters of `made`."""
    ids = [tokens.ids for tokens in Tokenizer(backbone).encode([row.text for row in rows])]
    group = np.arange(len(ids), dtype=np.int64) % len(next(iter(made.arrays.values())))
    return _in_parts(ids, group, made, backbone.spec)


def padded(
    engine: Engine, rows: list[SafRow], budget_tokens: int = BUDGET_TOKENS, buckets: Buckets | None = None
) -> Padded:
    """Admit, bucket, group and pad `rows` as the engine does."""
    spec = engine.backbone.spec
    with engine.bank.checkout() as found:
        batch = Batch.admit([r.text for r in rows], [r.task for r in rows], found, Tokenizer(engine.backbone))
        versions, group = batch.groups()
        stacked = tables.stack([version.tables for version in versions], spec, versions[0].size)
    return _in_parts([row.tokens.ids for row in batch.admitted], group, stacked, spec, budget_tokens, buckets)


def _in_parts(
    ids: list[list[int]],
    group: Ints,
    made: Tables,
    spec: BackboneSpec,
    budget_tokens: int = BUDGET_TOKENS,
    buckets: Buckets | None = None,
) -> Padded:
    planned = microbatches.plan(
        [len(i) for i in ids], [0] * len(ids), buckets or Buckets(spec.max_tokens), budget_tokens
    )
    parts = [(*microbatches.pad([ids[i] for i in p.rows], p.bucket, spec.pad_id), group[p.rows]) for p in planned]
    return Padded(parts, made, [len(i) for i in ids])
