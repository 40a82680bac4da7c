"""The judge on a million rows of which two float32 runners decide each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from making import TASKS, WORDS
from proofs import Result, Scaled
from scoremux_assess.labels.close_rows import FLOAT32_LIMIT
from scoremux_calibrate.judge.float64_rows import Float64Scorer
from scoremux_engine import Engine
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store

JUDGED, PART = 1000, 20_000
RUNNERS = ("onnxruntime", "openvino")


def test_levels_that_differ_between_runners_are_close(small_repository: Path, scaled: Scaled, result: Result) -> None:
    """Every row whose level differs has a margin below the judge's tolerance, and so has what float64 says of each."""
    store = Store(small_repository / "store")
    scorer = Float64Scorer(Backbone.open(small_repository / "backbone" / "1"), store)
    versions = {task: scorer.version(store.manifest().tasks[task]) for task in TASKS}
    engines = [Engine.open(small_repository, runner=RunnerChoice(name)) for name in RUNNERS]
    draw, differences, differing, widest = np.random.default_rng(20), list[float](), 0, 0.0
    parts = scaled(50)
    for part in range(parts):
        texts = [" ".join(draw.choice(WORDS, draw.integers(1, 13))) for _ in range(PART)]
        tasks = draw.choice(list(TASKS), PART).tolist()
        logits = [engine.logits(texts, tasks) for engine in engines]
        if part == 0:
            for task, version in versions.items():
                places = [place for place in range(JUDGED) if tasks[place] == task]
                exact = np.array([scorer.logits(version, texts[place]) for place in places])
                for computed in logits:
                    apart = computed[places, : version.outputs] - exact
                    differences += (apart.max(axis=1) - apart.min(axis=1)).tolist()
        wide = [np.where(np.isnan(values), -np.inf, values) for values in logits]
        differ = np.flatnonzero(wide[0].argmax(axis=1) != wide[1].argmax(axis=1))
        differing += len(differ)
        for values in wide:
            sorted_ = np.sort(values[differ], axis=1)
            widest = max(widest, float((sorted_[:, -1] - sorted_[:, -2]).max(initial=0.0)))
    result(
        f"{parts * PART:,} short rows of 4 tasks, ONNX Runtime and OpenVINO in float32: levels that differ",
        f"{differing}, with margins of {widest:.1e} at most; rows below {FLOAT32_LIMIT:.1e} are called close; largest "
        f"difference from float64 {max(differences):.1e}",
    )
    assert max(widest, *differences) <= FLOAT32_LIMIT
