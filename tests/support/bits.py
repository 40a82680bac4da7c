"""One response in random mixes: is any bit ever different? Tables of made-up adapters."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from scoremux_engine import Engine
from scoremux_engine.model import tables
from scoremux_engine.model.backbone import BackboneSpec
from scoremux_engine.model.tables import Tables

POPULARITIES = ("distinct", "uniform", "zipf", "identical", "skewed")


def popular(kind: str, tasks: Sequence[str], size: int, draw: random.Random) -> list[str]:
    """Return `size` tasks: in turn, evenly, by Zipf's law, all the same, or one as often as all others together."""
    shuffled = draw.sample(tasks, len(tasks))
    if kind == "distinct":
        return [shuffled[i % len(shuffled)] for i in range(size)]
    weights = {
        "uniform": [1.0] * len(shuffled),
        "zipf": [1 / (i + 1) for i in range(len(shuffled))],
        "identical": [1.0] + [0.0] * (len(shuffled) - 1),
        "skewed": [float(len(shuffled))] + [1.0] * (len(shuffled) - 1),
    }
    return draw.choices(shuffled, weights[kind], k=size)


def count_changed(engine: Engine, fillers: Sequence[str], mixes: int, most_rows: int, seed: int = 5000) -> int:
    """Score one response alone, then in `mixes` mixes at random places; return in how many its bits differ.

    Sizes of mixes are drawn evenly on a logarithmic scale, so that small batches, where kernels change, come as often
    as large ones. Tasks come in five popularity mixes.
    """
    draw = random.Random(seed)
    watched = draw.sample(fillers, 8)
    alone: dict[tuple[str, str], bytes] = {}
    changed = 0
    for number in range(mixes):
        size = round(most_rows ** draw.random())
        tasks = popular(POPULARITIES[number % len(POPULARITIES)], engine.bank.tasks, size, draw)
        texts, place = draw.choices(fillers, k=size), draw.randrange(size)
        texts[place] = draw.choice(watched)
        key = texts[place], tasks[place]
        if key not in alone:
            alone[key] = engine.logits([key[0]], [key[1]])[0].tobytes()
        changed += engine.logits(texts, tasks)[place].tobytes() != alone[key]
    return changed


def random_tables(backbone: BackboneSpec, groups: int = 27, rank: int = 16, levels: int = 8, seed: int = 27) -> Tables:
    """Return tables of as many made-up adapters."""
    draw = np.random.default_rng(seed)
    shapes = tables.input_shapes(backbone, tables.SizeClass(rank, levels))
    made = {n: draw.normal(0, 0.02, (groups, *shape)).astype(np.float32) for n, shape in shapes.items()}
    return Tables(made)
