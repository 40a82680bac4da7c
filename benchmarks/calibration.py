"""How well confidences are calibrated, whether promises are kept, and how many rows go to people.

    python -m benchmarks.calibration PREDICTIONS.parquet… [--resamples 1000] [--note NAME]

Predictions are out of fold: what `scoremux train` writes. Without any, a made-up corpus is used. Each resample draws so
many labelled rows a task, fits the policy on them, and counts on the task's other rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.rows import record
from scoremux_assess.calibration.fitting import severe_chances
from scoremux_assess.calibration.temperature import Floats, Rows, fit_temperatures, held_out_temperatures
from scoremux_assess.calibration.thresholds import Promise, choose, share_threshold
from scoremux_assess.formats.records import read_rows

SIZES = (50, 100, 500)
EXACT, CONFIDENCE = 0.85, 0.9
Tasks = Mapping[str, Rows]


def read(path: Path) -> dict[str, Rows]:
    """Return out-of-fold rows by task."""
    found: dict[str, list[tuple[list[float], int]]] = {}
    for row in read_rows(path):
        found.setdefault(str(row["task"]), []).append((list(row["probabilities"]), int(row["level"])))
    return {task: _rows(np.array([p for p, _ in rows]), np.array([h for _, h in rows])) for task, rows in found.items()}


def make_up(seed: int = 5, tasks: int = 27, rows: int = 900) -> dict[str, Rows]:
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
    right = {task: ~rows.errors for task, rows in tasks.items()}
    fell = sum(_error(after[task], right[task]) < _error(before[task], right[task]) for task in tasks)
    whole = [np.concatenate([values[task] for task in tasks]) for values in (before, after, right)]
    return _error(whole[0], whole[2]), _error(whole[1], whole[2]), fell


def keep_promises(tasks: Tasks, size: int, resamples: int, seed: int = 1) -> dict[str, float]:
    """Return the share of resamples in which the target was met, by task and pooled, and the share sent to people.

    A task with too few rows for the size is resampled with replacement, and all its rows are what is counted on. own:
    the share among (resample, task) with a threshold of its own; pooled: the share of resamples in which the rows kept
    under the threshold that tasks share meet the target together.
    """
    random = np.random.default_rng(seed)
    promise, most = Promise(1 - EXACT, None, CONFIDENCE), 1 - EXACT
    met: dict[str, list[bool]] = {"own": [], "pooled": []}
    people: dict[str, list[float]] = {"own": [], "pooled": []}
    for _ in range(resamples):
        drawn, rest = _draw(random, tasks, size)
        temperatures = fit_temperatures(drawn)[1]
        sure = [_sure(r, t) for r, t in zip(drawn, held_out_temperatures(drawn), strict=True)]
        later = [_sure(r, t) for r, t in zip(rest, temperatures, strict=True)]
        severe = [np.zeros(len(rows)) for rows in drawn]
        apart = [np.abs(rows.level - rows.human) for rows in drawn]
        own = [choose(*one, promise) for one in zip(sure, severe, apart, strict=True)]
        shared = choose(np.concatenate(sure), np.concatenate(severe), np.concatenate(apart), promise)
        kept = [s >= (2.0 if least is None else least) for s, least in zip(later, own, strict=True)]
        met["own"] += [bool(r.errors[k].mean() <= most) for r, k in zip(rest, kept, strict=True) if k.any()]
        people["own"].append(1 - float(np.concatenate(kept).mean()))
        machine = np.concatenate(later) >= (2.0 if shared is None else shared)
        people["pooled"].append(1 - float(machine.mean()))
        if machine.any():
            met["pooled"].append(bool(np.concatenate([r.errors for r in rest])[machine].mean() <= most))
    return {
        "own": _share(met["own"]),
        "own_thresholds": len(met["own"]) / resamples / len(tasks),
        "people_own": float(np.mean(people["own"])),
        "pooled": _share(met["pooled"]),
        "pooled_thresholds": len(met["pooled"]) / resamples,
        "people_pooled": float(np.mean(people["pooled"])),
    }


def _draw(random: np.random.Generator, tasks: Tasks, size: int) -> tuple[list[Rows], list[Rows]]:
    drawn, rest = [], []
    for rows in tasks.values():
        small = len(rows) <= size + 20
        picked = random.choice(len(rows), size, replace=small)
        drawn.append(rows.take(picked))
        rest.append(rows if small else rows.take(np.setdiff1d(np.arange(len(rows)), picked)))
    return drawn, rest


def _sure(rows: Rows, temperature: float | Floats) -> Floats:
    """Return confidences as the scorer computes them, but for last bits."""
    scaled = rows.probabilities ** (1 / np.broadcast_to(temperature, len(rows)))[:, None]
    sure = scaled[np.arange(len(rows)), rows.level] / scaled.sum(axis=1)
    return np.asarray(sure.astype(np.float32).astype(np.float64))


def _share(met: Sequence[bool]) -> float:
    return float(np.mean(met)) if met else float("nan")


def compare_with_fixed_share(tasks: Tasks) -> dict[str, float]:
    """Return how many rows go to people for one agreement: by a pooled threshold, and by a fixed share of each task.

    The policy's threshold is chosen with a promise of `EXACT`; the fixed share is the least for which the rows that the
    machine keeps agree as often. It sends the rows whose greatest probability is least.
    """
    _, own = fit_temperatures(list(tasks.values()))
    temperature = dict(zip(tasks, own, strict=True))
    sure = np.concatenate([_sure(rows, temperature[task]) for task, rows in tasks.items()])
    severe = np.concatenate([severe_chances(rows, temperature[task]) for task, rows in tasks.items()])
    apart = np.concatenate([np.abs(rows.level - rows.human) for rows in tasks.values()])
    least = choose(sure, severe, apart, Promise(1 - EXACT, None, CONFIDENCE))
    if least is None:
        return {"agreement": np.nan, "people": 1.0, "people_fixed_share": 1.0}
    kept = sure >= least
    agreement = float((apart[kept] == 0).mean())
    raw = {task: _sure(rows, 1.0) for task, rows in tasks.items()}
    for share in np.arange(0, 1, 0.002):
        chosen = [raw[task] >= share_threshold(raw[task], share) for task in tasks]
        machine = np.concatenate(chosen)
        if (apart[machine] == 0).mean() >= agreement:
            break
    return {"agreement": agreement, "people": 1 - float(kept.mean()), "people_fixed_share": 1 - float(machine.mean())}


def _rows(probabilities: np.ndarray, human: np.ndarray) -> Rows:  # type: ignore[type-arg]
    stated = probabilities.astype(np.float32).astype(np.float64)
    return Rows(stated, stated.argmax(axis=1), human.astype(np.int64))


def _error(sure: np.ndarray, right: np.ndarray) -> float:  # type: ignore[type-arg]
    place = np.minimum((sure * 10).astype(int), 9)
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(10)]
    return float(sum(gaps) / len(sure))


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", nargs="*", type=Path)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--note", default="", help="what the predictions come from, for the result rows")
    arguments = parser.parse_args()
    corpora = {path.stem: read(path) for path in arguments.predictions} or {"made up": make_up()}
    for name, tasks in corpora.items():
        before, after, fell = expected_error(tasks)
        rows = sum(map(len, tasks.values()))
        base = {"corpus": name, "note": arguments.note, "tasks": len(tasks), "rows": rows}
        agreement = float(np.mean(np.concatenate([~one.errors for one in tasks.values()])))
        figures = {"exact": agreement, "ece_before": before, "ece_after": after, "ece_fell_for": fell}
        _tell({**base, "what": "calibration", **figures, **compare_with_fixed_share(tasks)})
        for size in SIZES:
            kept = keep_promises(tasks, size, arguments.resamples)
            _tell({**base, "what": "promises", "labelled": size, "resamples": arguments.resamples, **kept})


def _tell(row: dict[str, object]) -> None:
    print({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    record("calibration", row)


if __name__ == "__main__":
    main()
