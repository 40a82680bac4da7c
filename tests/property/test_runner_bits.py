"""One response in random mixes, every runner and precision: identical bits."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from making import TASKS, WORDS
from scoremux_engine import Engine
from scoremux_engine.runners.choose import RunnerChoice

RUNNERS = [
    RunnerChoice("onnxruntime"),
    RunnerChoice("openvino", precision="float32"),
    RunnerChoice("openvino", precision="bfloat16"),
    RunnerChoice("openvino", precision="int8"),
]


def popularities(draw: random.Random, size: int) -> list[str]:
    """Return tasks for a mix, by one of the five ways in which tasks can be popular."""
    tasks = list(TASKS)
    draw.shuffle(tasks)
    return draw.choice(
        [
            [tasks[i % len(tasks)] for i in range(size)],  # distinct: as many as there are
            draw.choices(tasks, k=size),  # uniform
            draw.choices(tasks, [1 / (i + 1) for i in range(len(tasks))], k=size),  # zipf
            [tasks[0]] * size,  # identical
            draw.choices(tasks, [8, 1, 1, 1], k=size),  # skewed
        ]
    )


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda r: f"{r.name}-{r.precision}")
def test_a_response_keeps_its_bits_in_random_mixes(small_repository: Path, runner: RunnerChoice) -> None:
    engine = Engine.open(small_repository, runner=runner)
    draw = random.Random(27)
    text = "the router hands out addresses to the hosts"
    alone = {task: engine.logits([text], [task])[0] for task in TASKS}
    for _ in range(150):
        size = draw.choice([1, 2, 3, 7, 30, 120])
        tasks = popularities(draw, size)
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in tasks]
        place = draw.randrange(size)
        texts[place] = text
        logits = engine.logits(texts, tasks)[place]
        assert np.array_equal(logits, alone[tasks[place]], equal_nan=True)
