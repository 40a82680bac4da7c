"""Figures and thresholds from a desk's labelled file, weighted, against those of a random half of all rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import saf
from proofs import Result, Scaled
from scoremux_assess.agreement.joined_columns import TruthColumns
from scoremux_assess.agreement.joining import read_joined
from scoremux_assess.agreement.ratings import Ratings
from scoremux_assess.agreement.statistics import statistics
from scoremux_assess.decisions.calibration.tested_rows import RowsUnderTest
from scoremux_assess.decisions.calibration.thresholds import Promise, choose
from scoremux_engine import Engine
from scoremux_train.commands import train

Floats = npt.NDArray[np.float64]
SCIENTSBANK = saf.DATA.with_name("scientsbank")
DRAWS, TO_PEOPLE, BEHIND = 500, 0.4, 0.25
NAMES = ("exact", "qwk", "smd", "kept_exact", "record_exact", "people")
TASK = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Scores:
    """All rows of a corpus: what the machine gave, how sure it was, and the human's level."""

    level: Floats
    confidence: Floats
    human: Floats

    @property
    def kept(self) -> npt.NDArray[np.bool_]:
        """Rows of which the machine is surest."""
        return np.asarray(self.confidence > np.quantile(self.confidence, TO_PEOPLE))

    def second(self, random: np.random.Generator) -> Floats:
        """Return a second human, as no corpus has one: the first, and one level off in a sixth of the rows."""
        return np.clip(self.human + random.choice([-1, 0, 0, 0, 0, 1], len(self.human)), 0, None)


def of_saf(repository: Path) -> Scores:
    """Return the example adapters on SAF's test split."""
    rows = saf.read_rows()
    scored = Engine.open(repository).score([row.text for row in rows], [row.task for row in rows])
    columns = ([s.level for s in scored], [max(s.probabilities) for s in scored], [row.level for row in rows])
    return Scores(*(np.array(column, np.float64) for column in columns))


def of_scientsbank(folder: Path) -> Scores:
    """Return out-of-fold predictions of SciEntsBank's training split."""
    rows = [json.loads(line) for line in (SCIENTSBANK / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{"id": r["response_id"], "task": r["task_id"], "text": r["text"], "level": r["level"]} for r in rows]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "train.toml").write_text("folds = 2\ncurve_folds = 0\n[recipe]\nepochs = 2\n")
    train([folder / "rows.jsonl"], str(saf.minilm()), folder / "out", config=folder / "train.toml")
    table = pq.read_table(folder / "out" / "predictions.parquet").to_pylist()
    columns = zip(*((np.argmax(r["probabilities"]), max(r["probabilities"]), r["level"]) for r in table), strict=True)
    return Scores(*(np.array(column, np.float64) for column in columns))


def made_up(rows: int = 3000) -> Scores:
    """Return a machine that states its confidence rightly."""
    random = np.random.default_rng(4)
    confidence, human = random.beta(3, 1.2, rows), random.integers(0, 4, rows).astype(float)
    wrong = random.random(rows) > confidence
    return Scores(np.where(wrong, np.clip(human + random.choice([-1, 1], rows), 0, 3), human), confidence, human)


def desk_ratings(scores: Scores, folder: Path, random: np.random.Generator, second: Floats) -> Ratings:
    """Return the ratings of a desk's labelled file: all rows sent to people, and a share of the machine's."""
    kept, draw = scores.kept, random.random(len(scores.human)) < BEHIND
    read = np.flatnonzero(~kept | draw)
    chosen = np.where(kept[read], "read_behind", "route")
    probability = pa.array(np.full(len(read), BEHIND), mask=~kept[read])
    # Half of the rows are read twice.
    twice = pa.array(second[read], mask=random.random(len(read)) < 0.5)
    columns = {"id": [f"r{n}" for n in read], "level": scores.human[read], "second": twice}
    pq.write_table(pa.table({**columns, "chosen_by": chosen, "probability": probability}), folder / "labelled.parquet")
    return read_joined(folder / "scored.parquet", folder / "labelled.parquet", TruthColumns(second="second")).ratings


def figures(ratings: Ratings) -> dict[str, float]:
    """Return the figures of all rows together."""
    return {name: float(value[0]) for name, value in statistics(ratings, np.zeros(len(ratings), int), 1).items()}


def threshold(scores: Scores, rows: npt.NDArray[np.int64], weight: Floats, target: float) -> float | None:
    """Return the threshold that rows show to keep a promise of exact agreement."""
    wrong = (scores.level != scores.human).astype(np.float64)[rows]
    nothing, unknown = np.zeros(len(rows)), np.full(len(rows), np.nan)
    columns = (scores.confidence[rows], nothing, wrong, nothing, unknown, unknown, weight, np.full(len(rows), -1))
    return choose(RowsUnderTest(*columns), Promise(1 - target, None, 0.9))


@pytest.mark.parametrize("corpus", ["SAF", "SciEntsBank", "made up"])
def test_desk_rows_and_a_random_half_give_the_figures_of_all_rows(
    corpus: str, tmp_path: Path, scaled: Scaled, result: Result, request: pytest.FixtureRequest
) -> None:
    if corpus != "made up" and not (SCIENTSBANK / "train.jsonl").exists():
        pytest.skip("the data are not in $SCOREMUX_DATA")
    scores = (
        made_up()
        if corpus == "made up"
        else of_saf(request.getfixturevalue("saf_repository"))
        if corpus == "SAF"
        else of_scientsbank(tmp_path)
    )
    random, draws, rows = np.random.default_rng(9), scaled(DRAWS), len(scores.human)
    routes = np.where(scores.kept, "machine", "human:low_confidence")
    output = {"id": [f"r{n}" for n in range(rows)], "task": ["t"] * rows, "status": ["OK"] * rows, "route": routes}
    pq.write_table(pa.table({**output, "level": scores.level.astype(np.int32)}), tmp_path / "scored.parquet")
    second, kept = scores.second(random), scores.kept
    every = Ratings.of(scores.human, scores.level, second, kept=kept.astype(float))
    true, found = figures(every), {name: np.empty((draws, 2)) for name in NAMES}
    # A promise that some thresholds keep and some break.
    surest = scores.confidence > np.quantile(scores.confidence, 0.5)
    target = float((scores.level == scores.human)[surest].mean()) - 0.02
    held: list[list[bool]] = [[], []]
    for draw in range(draws):
        desk = desk_ratings(scores, tmp_path, random, second)
        half = random.permutation(rows)[: rows // 2]
        for way, ratings in enumerate((desk, every.take(half))):
            values = figures(ratings)
            for name in NAMES:
                found[name][draw, way] = values[name]
        read = np.flatnonzero(~kept | (random.random(rows) < BEHIND))
        for way, (labelled, weight) in enumerate(
            ((read, np.where(kept[read], 1 / BEHIND, 1.0)), (half, np.ones(len(half))))
        ):
            least = threshold(scores, labelled, weight, target)
            if least is not None:
                held[way].append(bool((scores.level == scores.human)[scores.confidence >= least].mean() >= target))
    for name, values in found.items():
        bias, error = values.mean(axis=0) - true[name], values.std(axis=0) / np.sqrt(draws)
        shown = "; ".join(f"{way} {b:+.4f} ± {e:.4f}" for way, b, e in zip(("desk", "half"), bias, error, strict=True))
        result(f"bias of {name} from a desk's rows and from a random half, {corpus}, {rows} rows", shown)
        # A ratio of random sums, and a QWK, have a bias of their own of the order of 1 / n.
        assert (np.abs(bias) <= 3 * error + 1 / rows).all(), (name, bias, error)
    shares = [(len(way) / draws, float(np.mean(way)) if way else float("nan")) for way in held]
    shown = "; ".join(
        f"{name}: found in {f:.1%}, kept in {k:.1%}" for name, (f, k) in zip(("desk", "half"), shares, strict=True)
    )
    result(f"promise of exact agreement {target:.2f} at 90 %, {corpus}", shown)
    # Of those found at most a tenth of all draws may be broken.
    assert all(f * (1 - k) <= 0.1 + 3 * np.sqrt(0.09 / draws) for f, k in shares if f), shares
