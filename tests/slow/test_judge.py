"""The judge on every family of models, and on a million rows of which two float32 runners decide each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from families import FAMILIES
from judged import difference_from_peft
from making import TASKS, WORDS
from proofs import Result, Scaled
from scoremux_engine import Engine
from scoremux_engine.judge.exact_rows import ExactScorer
from scoremux_engine.judge.judged_rows import MEDIANS
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store

JUDGED, PART = 1000, 20_000


@pytest.mark.parametrize("family", FAMILIES)
def test_judge_gives_the_logits_of_peft_for_a_family(family: str, tmp_path: Path, result: Result) -> None:
    difference = difference_from_peft(family, tmp_path)
    result(f"the judge against PEFT, both in float64, {family}, four kinds of adapters", f"{difference:.1e} at most")
    assert difference <= 1e-12


def test_levels_that_differ_between_float32_runners_are_close(
    small_repository: Path, scaled: Scaled, result: Result
) -> None:
    """The limit comes from the judge's thousand rows; every row whose level differs has a margin below it."""
    store = Store(small_repository / "store")
    scorer = ExactScorer(Backbone.open(small_repository / "backbone" / "1"), store)
    versions = {task: scorer.version(store.manifest().tasks[task]) for task in TASKS}
    engines = [Engine.open(small_repository, runner=RunnerChoice(name)) for name in ("onnxruntime", "openvino")]
    draw, differences, differing, widest = np.random.default_rng(20), list[float](), 0, 0.0
    parts = scaled(50)
    for part in range(parts):
        texts = [" ".join(draw.choice(WORDS, draw.integers(1, 13))) for _ in range(PART)]
        tasks = draw.choice(list(TASKS), PART).tolist()
        logits = [engine.logits(texts, tasks) for engine in engines]
        if part == 0:
            for task, version in versions.items():
                places = [place for place in range(JUDGED) if tasks[place] == task]
                exact = scorer.logits(version, [texts[place] for place in places])
                for computed in logits:
                    apart = computed[places, : version.outputs] - exact
                    differences += (apart.max(axis=1) - apart.min(axis=1)).tolist()
        wide = [np.where(np.isnan(values), -np.inf, values) for values in logits]
        differ = np.flatnonzero(wide[0].argmax(axis=1) != wide[1].argmax(axis=1))
        differing += len(differ)
        for values in wide:
            sorted_ = np.sort(values[differ], axis=1)
            widest = max(widest, float((sorted_[:, -1] - sorted_[:, -2]).max(initial=0.0)))
    limit = MEDIANS * float(np.median(differences))
    result(
        f"{parts * PART:,} short rows of 4 tasks, ONNX Runtime and OpenVINO in float32: levels that differ",
        f"{differing}, with margins of {widest:.1e} at most; rows below {limit:.1e} are called close; largest "
        f"difference from float64 {max(differences):.1e}",
    )
    assert widest <= limit
