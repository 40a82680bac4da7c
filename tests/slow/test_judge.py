"""The judge on every family of models, and on a million rows of which two float32 runners decide each."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from families import FAMILIES
from judged import difference_from_peft
from making import TASKS, WORDS
from proofs import Result, Scaled
from saf import needs_data, read_rows
from scoremux_assess.agreement.close_rows import FLOAT32_LIMIT
from scoremux_engine import Engine
from scoremux_engine.judge.float64_rows import Float64Scorer
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store

JUDGED, PART = 1000, 20_000
RUNNERS = ("onnxruntime", "openvino")


@pytest.mark.parametrize("family", FAMILIES)
def test_judge_gives_the_logits_of_peft_for_a_family(family: str, tmp_path: Path, result: Result) -> None:
    difference = difference_from_peft(family, tmp_path)
    result(f"the judge against PEFT, both in float64, {family}, four kinds of adapters", f"{difference:.1e} at most")
    assert difference <= 1e-6


@needs_data
def test_rows_of_saf_are_within_the_tolerance(saf_repository: Path, scaled: Scaled, result: Result) -> None:
    rows = read_rows()[: scaled(200)]
    store = Store(saf_repository / "store")
    scorer = Float64Scorer(Backbone.open(saf_repository / "backbone" / "1"), store)
    versions = {task: scorer.version(digest) for task, digest in store.manifest().tasks.items()}
    started, exact = time.process_time(), [scorer.logits(versions[row.task], row.text) for row in rows]
    seconds, largest = (time.process_time() - started) / len(rows), 0.0
    for name in RUNNERS:
        logits = Engine.open(saf_repository, runner=RunnerChoice(name)).logits(
            [row.text for row in rows], [row.task for row in rows]
        )
        apart = [computed[: len(of_row)] - of_row for computed, of_row in zip(logits, exact, strict=True)]
        largest = max(largest, *(float(of_row.max() - of_row.min()) for of_row in apart))
    result(
        f"{len(rows)} rows of SAF by MiniLM, two float32 runners against the judge",
        f"logits' differences are {largest:.1e} from float64's at most; {seconds:.2f} s of processor time a row",
    )
    assert largest <= FLOAT32_LIMIT


def test_levels_that_differ_between_float32_runners_are_close(
    small_repository: Path, scaled: Scaled, result: Result
) -> None:
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
