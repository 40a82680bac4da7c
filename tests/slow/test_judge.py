"""The judge on every family of models, and on a million rows of which two float32 runners decide each."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from families import FAMILIES
from judged import difference_from_peft, reach
from making import TASKS, WORDS
from proofs import Result, Scaled
from saf import needs_data, read_rows
from scoremux_engine import Engine
from scoremux_engine.judge.exact_rows import ExactScorer
from scoremux_engine.judge.judged_rows import MEDIANS
from scoremux_engine.judge.rounding_bounds import SAFETY
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.store.store import Store

JUDGED, PART = 1000, 20_000
RUNNERS = ("onnxruntime", "openvino")


@pytest.mark.parametrize("family", FAMILIES)
def test_judge_gives_the_logits_of_peft_for_a_family(family: str, tmp_path: Path, result: Result) -> None:
    difference = difference_from_peft(family, tmp_path)
    result(f"the judge against PEFT, both in float64, {family}, four kinds of adapters", f"{difference:.1e} at most")
    assert difference <= 1e-12


@pytest.mark.parametrize("family", FAMILIES)
def test_bounds_of_a_family_are_what_the_worst_errors_reach(
    family: str, tmp_path: Path, scaled: Scaled, result: Result
) -> None:
    rows = scaled(20)
    reached = reach(family, tmp_path, rows)
    result(
        f"{family}, {rows} rows: the share of the judge's bound that errors reach",
        f"worst errors {reached.worst[0]:.3f} to {reached.worst[1]:.3f} of it to first order; two float32 runners "
        f"{reached.float32:.1e} at most of it as stated",
    )
    assert 1 / SAFETY < reached.worst[0] <= reached.worst[1] < SAFETY
    assert reached.float32 < 1


@needs_data
def test_rows_that_a_derived_bound_makes_certain(saf_repository: Path, scaled: Scaled, result: Result) -> None:
    """SAF's test rows and some training rows, by the engine's default; no runner may err by more than the bound."""
    rows = [*read_rows(), *read_rows("train")][: scaled(JUDGED)]
    store = Store(saf_repository / "store")
    scorer = ExactScorer(Backbone.open(saf_repository / "backbone" / "1"), store)
    versions = {task: scorer.version(digest) for task, digest in store.manifest().tasks.items()}
    texts, tasks = [row.text for row in rows], [row.task for row in rows]
    computed = [Engine.open(saf_repository, runner=RunnerChoice(n)).logits(texts, tasks) for n in RUNNERS]
    started, bounds, certain, largest = time.process_time(), list[float](), 0, 0.0
    for place, row in enumerate(rows):
        version = versions[row.task]
        (exact,), bound = scorer.logits(version, [row.text]), scorer.bounds(version, row.text)
        top = int(exact.argmax())
        gaps, others = exact[top] - np.delete(exact, top), np.delete(bound, top)
        certain += bool((gaps > others).all())
        bounds.append(float(others.max()))
        for logits in computed:
            apart = logits[place, : version.outputs] - exact
            largest = max(largest, float((np.delete(np.abs(apart - apart[top]), top) / others).max()))
    seconds = (time.process_time() - started) / len(rows)
    result(
        f"{len(rows):,} rows of SAF by MiniLM that the judge's derived bound makes certain",
        f"{certain}; median bound {np.median(bounds):.1e}; two float32 runners differ by {largest:.1e} of it at most; "
        f"{seconds:.2f} s of processor time a row",
    )
    assert largest < 1


def test_levels_that_differ_between_float32_runners_are_close(
    small_repository: Path, scaled: Scaled, result: Result
) -> None:
    """The limit comes from the judge's thousand rows; every row whose level differs has a margin below it."""
    store = Store(small_repository / "store")
    scorer = ExactScorer(Backbone.open(small_repository / "backbone" / "1"), store)
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
