"""`scoremux export verify`: the changes by each precision that runs here, against float32 in ONNX Runtime."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_engine.bank.residents import Version
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_engine.store.store import Store
from scoremux_evidence.rows.labelled_row import LabelledRow
from scoremux_evidence.rows.ratings import Ratings
from scoremux_evidence.verdicts.comparison import compare_levels
from scoremux_export.errors import ExportError
from scoremux_export.plans.reduced_precision import FILES, reduced_runner

OFFERED = (
    RunnerChoice("onnxruntime", device="cuda"),
    RunnerChoice("onnxruntime", device="tensorrt"),
    RunnerChoice("openvino", precision="float32"),
    RunnerChoice("openvino", precision="bfloat16"),
    RunnerChoice("openvino", precision="int8"),
)

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PrecisionChange:
    """The changes by one precision against the reference, over the rows that have a score.

    Attributes:
        qwk: Agreement with people over the rows that have their level, NaN without one.
        reference_qwk: Agreement of the reference with people, over the same rows.
        change: The 95 % interval of qwk − reference_qwk.
        smallest_flip: Least distance of the reference's two best logits among rows whose level flipped, NaN if none
            did.
    """

    runner: RunnerChoice
    rows: int
    max_abs_logit_difference: float
    equal: float
    qwk: float
    reference_qwk: float
    change: tuple[float, float]
    smallest_flip: float
    largest_flip: float


def verify(
    repository: Path, rows: Sequence[LabelledRow], offered: Sequence[RunnerChoice] = OFFERED
) -> Iterator[PrecisionChange | tuple[RunnerChoice, str]]:
    """Compare runners with the reference on the same rows, and the graphs that `export plan` wrote in other precisions.

    Those are computed on ONNX Runtime, as a plan of them would be computed on a GPU.

    Yields the changes by each runner, or the runner and why it does not run here. Raises ExportError where no row has a
    score.
    """
    texts, tasks = [row.response for row in rows], [row.task for row in rows]
    levels = [row.level for row in rows]
    reference = logits_of(Engine.open(repository, runner=REFERENCE), texts, tasks)
    if np.isnan(reference).all():
        raise ExportError("none of the rows has a score: are their tasks in this repository's store?")
    for runner in offered:
        try:
            engine = Engine.open(repository, runner=runner)
        except (RunnerError, ImportError) as error:
            yield runner, str(error)
            continue
        yield compare(runner, reference, logits_of(engine, texts, tasks), levels)
    backbone = Backbone.open(repository / "backbone" / "1")
    for precision in (p for p, file in FILES.items() if (backbone.folder / file).is_file()):
        with reduced_runner(backbone, precision) as reduced:
            logits = logits_of(Engine(backbone, Store(repository / "store"), reduced), texts, tasks)
        yield compare(RunnerChoice("tensorrt", precision=precision), reference, logits, levels)


def logits_of(engine: Engine, texts: Sequence[str], tasks: Sequence[str]) -> Logits:
    """Return float32 [B, L_max], NaN beyond a task's levels, whose largest in a row is at the row's level.

    A value in points becomes minus its distance from the points of each level.
    """
    engine.bank.describe()
    logits = engine.logits(texts, tasks)
    with engine.bank.checkout() as versions:
        for task in set(tasks):
            version = versions.find(task)
            if isinstance(version, Version) and version.outputs == 1:
                rows, points = [row for row, name in enumerate(tasks) if name == task], version.task.levels
                logits[rows, : len(points)] = -np.abs(np.array(points) - logits[rows, :1])
    return logits


def compare(runner: RunnerChoice, reference: Logits, logits: Logits, levels: Sequence[float | None]) -> PrecisionChange:
    """Compare two sets of logits float32 [B, L_max] with NaN beyond a task's own levels."""
    scored = ~np.isnan(reference).all(axis=1)
    # NaN is never the best of a task's own levels.
    best, other = (np.where(np.isnan(x), -np.inf, x)[scored] for x in (reference, logits))
    expected, got = best.argmax(axis=1), other.argmax(axis=1)
    second, first = np.sort(best, axis=1)[:, -2:].T
    margins = (first - second)[expected != got]
    smallest, largest = (margins.min(), margins.max()) if len(margins) else (math.nan, math.nan)
    human = np.array(levels, dtype=float)[scored]
    ratings = Ratings.of(expected, got, human)
    shares, was, now, changed = compare_levels(ratings, np.zeros(len(got), np.int64), 1)
    return PrecisionChange(
        runner=runner,
        rows=int(scored.sum()),
        max_abs_logit_difference=float(np.nanmax(np.abs(logits - reference))),
        equal=1 - float(shares["moved"].value[0]),
        qwk=float(now["qwk"].value[0]),
        reference_qwk=float(was["qwk"].value[0]),
        change=changed["qwk"].at(0)[1:],
        smallest_flip=float(smallest),
        largest_flip=float(largest),
    )
