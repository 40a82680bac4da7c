"""How well confidences are calibrated, whether promises are kept, and how many rows go to people.

    python -m benchmarks calibration PREDICTIONS.parquet… [--resamples 1000] [--note NAME]

Predictions are out of fold: what `scoremux train` writes. Without any, a made-up corpus is used. Each resample draws so
many labelled rows a task, fits the policy on them, and counts on the task's other rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.rows import record
from scoremux_assess.decisions.calibration.labelled_scores import Floats, LabelledScores
from scoremux_assess.decisions.calibration.ranges import Growth, reach
from scoremux_assess.decisions.calibration.temperature import fit_temperatures, held_out_temperatures
from scoremux_assess.decisions.calibration.thresholds import Promise, choose, share_threshold
from scoremux_files.rows.readers import read_rows

SIZES = (50, 100, 500)
EXACT, CONFIDENCE = 0.85, 0.9
_LEAST_REST = 20
Tasks = Mapping[str, LabelledScores]


def read(path: Path) -> dict[str, LabelledScores]:
    """Return out-of-fold rows by task."""
    found: dict[str, list[tuple[list[float], int]]] = {}
    for row in read_rows(path):
        found.setdefault(str(row["task"]), []).append((list(row["probabilities"]), int(row["level"])))
    return {task: _rows(np.array([p for p, _ in rows]), np.array([h for _, h in rows])) for task, rows in found.items()}


def make_up(seed: int = 5, tasks: int = 27, rows: int = 900) -> dict[str, LabelledScores]:
    """Return a corpus of tasks of different difficulty, each bolder or more timid than it should be."""
    random = np.random.default_rng(seed)
    made = {}
    for number in range(tasks):
        levels = int(random.integers(2, 6))
        true = random.dirichlet(np.full(levels, random.uniform(0.08, 0.8)), rows)
        human = (true.cumsum(axis=1) < random.random((rows, 1))).sum(axis=1).clip(max=levels - 1)
        stated = np.maximum(true, 1e-6) ** random.uniform(0.6, 2.5)
        made[f"t-{number}"] = _rows(stated / stated.sum(axis=1, keepdims=True), human)
    return made


def expected_error(tasks: Tasks, folds: int = 5, seed: int = 0) -> tuple[float, float, int]:
    """Return the calibration error of all rows before and after, and for how many tasks it fell; ten bins.

    The rows of each fold get the temperatures that the other folds' rows have.
    """
    random = np.random.default_rng(seed)
    fold = {task: random.permutation(len(rows)) % folds for task, rows in tasks.items()}
    before = {task: _sure(rows, 1.0) for task, rows in tasks.items()}
    after = {task: np.zeros(len(rows)) for task, rows in tasks.items()}
    for number in range(folds):
        kept = [rows.take(fold[task] != number) for task, rows in tasks.items()]
        for (task, rows), value in zip(tasks.items(), fit_temperatures(kept)[1], strict=True):
            held = fold[task] == number
            after[task][held] = _sure(rows.take(held), value)
    right = {task: rows.distance == 0 for task, rows in tasks.items()}
    fell = sum(_error(after[task], right[task]) < _error(before[task], right[task]) for task in tasks)
    whole = [np.concatenate([values[task] for task in tasks]) for values in (before, after, right)]
    return _error(whole[0], whole[2]), _error(whole[1], whole[2]), fell


def keep_promises(tasks: Tasks, size: int, resamples: int, seed: int = 1) -> dict[str, float]:
    """Return how often promises and ranges held on the rows that were not drawn, and the share sent to people.

    A task with too few rows for the size is drawn from with replacement, and all its rows are what is counted on;
    `with_replacement`: how many tasks. Of thresholds of tasks' own (`own`) and of one that they share (`pooled`):
    `kept`, the share of cases in which the rows left to the machine met the target, which they do where it is left
    none; `worst_task`, the same of one task; `chosen`, the share of cases in which it was left some;
    `kept_where_chosen`, of those; `people`, the share of rows sent to people. `ranges_held`: the share of rows whose
    range of levels, with a number of their task's own, holds the human's; `ranges_held_worst_task`: of one task.
    """
    random, promise = np.random.default_rng(seed), Promise(1 - EXACT, None, CONFIDENCE)
    own, pooled = _Promises(), _Promises()
    held: list[float] = []
    widths: list[float] = []
    for _ in range(resamples):
        drawn, rest = _draw(random, tasks, size)
        temperatures = fit_temperatures(drawn)[1]
        shares = [r.calibrated(t) for r, t in zip(drawn, held_out_temperatures(drawn), strict=True)]
        later = [r.calibrated(t) for r, t in zip(rest, temperatures, strict=True)]
        sure = [_of_level(r, own_shares) for r, own_shares in zip(drawn, shares, strict=True)]
        sure_later = [_of_level(r, own_shares) for r, own_shares in zip(rest, later, strict=True)]
        nothing = [np.zeros(len(rows)) for rows in drawn]
        distances = [rows.distance for rows in drawn]
        for one, rows, then in zip(zip(sure, nothing, distances, strict=True), rest, sure_later, strict=True):
            own.add(choose(*one, promise), then, (rows.distance > 0))
        shared = choose(np.concatenate(sure), np.concatenate(nothing), np.concatenate(distances), promise)
        pooled.add(shared, np.concatenate(sure_later), np.concatenate([(rows.distance > 0) for rows in rest]))
        for rows, before, then_rows, then_shares in zip(drawn, shares, rest, later, strict=True):
            number = reach(Growth.of(rows, before).needed, CONFIDENCE)
            growth = Growth.of(then_rows, then_shares)
            held.append(float((growth.needed <= number).mean()))
            widths.append(float(growth.widths(number).mean()))
    of_task = np.array(held).reshape(-1, len(tasks)).mean(axis=0)
    ranges = {"ranges_held": float(of_task.mean()), "ranges_held_worst_task": float(of_task.min())}
    ranges |= {"range_width": float(np.mean(widths))}
    ranges["with_replacement"] = sum(_is_small(rows, size) for rows in tasks.values())
    return {**own.figures("own", len(tasks)), **pooled.figures("pooled"), **ranges}


@dataclass
class _Promises:
    """What became of thresholds. wrong: the share of errors in what the machine kept, NaN where it kept nothing."""

    wrong: list[float] = field(default_factory=list)
    people: list[float] = field(default_factory=list)

    def add(self, least: float | None, sure: Floats, errors: npt.NDArray[np.bool_]) -> None:
        """Count a threshold on rows to come."""
        machine = sure >= (np.inf if least is None else least)
        self.wrong.append(float(errors[machine].mean()) if machine.any() else np.nan)
        self.people.append(1 - float(machine.mean()))

    def figures(self, name: str, tasks: int = 1) -> dict[str, float]:
        """Return the figures of a result row. tasks: how many thresholds each resample has."""
        wrong = np.array(self.wrong)
        chosen = ~np.isnan(wrong)
        kept = wrong[chosen] <= 1 - EXACT
        broken = np.nan_to_num(wrong, nan=0.0).reshape(-1, tasks) > 1 - EXACT
        return {
            f"{name}_kept": float(1 - broken.mean()),
            f"{name}_worst_task": float(1 - broken.mean(axis=0).max()),
            f"{name}_chosen": float(chosen.mean()),
            f"{name}_kept_where_chosen": float(kept.mean()) if len(kept) else float("nan"),
            f"{name}_people": float(np.mean(self.people)),
        }


def _draw(random: np.random.Generator, tasks: Tasks, size: int) -> tuple[list[LabelledScores], list[LabelledScores]]:
    drawn, rest = [], []
    for rows in tasks.values():
        small = _is_small(rows, size)
        picked = random.choice(len(rows), size, replace=small)
        drawn.append(rows.take(picked))
        rest.append(rows if small else rows.take(np.setdiff1d(np.arange(len(rows)), picked)))
    return drawn, rest


def _is_small(rows: LabelledScores, size: int) -> bool:
    return len(rows) <= size + _LEAST_REST


def _sure(rows: LabelledScores, temperature: float | Floats) -> Floats:
    """Return confidences as the scorer computes them, but for last bits."""
    return _of_level(rows, rows.calibrated(temperature))


def _of_level(rows: LabelledScores, shares: Floats) -> Floats:
    return np.asarray(shares[np.arange(len(rows)), rows.level].astype(np.float32).astype(np.float64))


def compare_with_fixed_share(tasks: Tasks) -> dict[str, float]:
    """Return how many rows go to people for one agreement: by a pooled threshold, and by a fixed share of each task.

    The policy's threshold is chosen with a promise of `EXACT`; the fixed share is the least for which the rows that the
    machine keeps agree as often. It sends the rows whose greatest probability is least.
    """
    _, own = fit_temperatures(list(tasks.values()))
    temperature = dict(zip(tasks, own, strict=True))
    sure = np.concatenate([_sure(rows, temperature[task]) for task, rows in tasks.items()])
    distance = np.concatenate([rows.distance for rows in tasks.values()])
    least = choose(sure, np.zeros(len(sure)), distance, Promise(1 - EXACT, None, CONFIDENCE))
    if least is None:
        return {"agreement": np.nan, "people": 1.0, "people_fixed_share": 1.0}
    kept = sure >= least
    agreement = float((distance[kept] == 0).mean())
    raw = {task: _sure(rows, 1.0) for task, rows in tasks.items()}
    for share in np.arange(0, 1, 0.002):
        chosen = [raw[task] >= share_threshold(raw[task], share) for task in tasks]
        machine = np.concatenate(chosen)
        if (distance[machine] == 0).mean() >= agreement:
            break
    return {"agreement": agreement, "people": 1 - float(kept.mean()), "people_fixed_share": 1 - float(machine.mean())}


def _rows(probabilities: np.ndarray, human: np.ndarray) -> LabelledScores:  # type: ignore[type-arg]
    stated = probabilities.astype(np.float32).astype(np.float64)
    return LabelledScores(stated, stated.argmax(axis=1), human.astype(np.int64))


def _error(sure: np.ndarray, right: np.ndarray) -> float:  # type: ignore[type-arg]
    place = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(10)]
    return float(sum(gaps) / len(sure))


def main(words: list[str]) -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="*", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--note", default="", help="what the predictions come from, for the result rows")
    arguments = parser.parse_args(words)
    corpora = {path.stem: read(path) for path in arguments.predictions} or {"made up": make_up()}
    for name, tasks in corpora.items():
        before, after, fell = expected_error(tasks)
        rows = sum(map(len, tasks.values()))
        base = {"corpus": name, "note": arguments.note, "tasks": len(tasks), "rows": rows}
        agreement = float(np.mean(np.concatenate([one.distance == 0 for one in tasks.values()])))
        figures = {"exact": agreement, "ece_before": before, "ece_after": after, "ece_fell_for": fell}
        _tell({**base, "what": "calibration", **figures, **compare_with_fixed_share(tasks)})
        for size in SIZES:
            kept = keep_promises(tasks, size, arguments.resamples)
            _tell({**base, "what": "promises", "labelled": size, "resamples": arguments.resamples, **kept})


def _tell(row: dict[str, object]) -> None:
    print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    record("calibration", row)
