"""Several adapters of one task: their mean for answers that one of them would send to people, and their mean as one.

    python -m benchmarks ensembles --data SAF --tasks 9 --work FOLDER

Adapters of the default recipe are trained on three of four folds, once for each draw (order of rows, dropout and A;
heads start alike), and score the fourth. Temperatures and thresholds are those of `scoremux calibrate`: the promise is
exact agreement with 90 % confidence, over all tasks together. The machine keeps answers of which the first adapter is
sure. The mean of all adapters decides about the other answers, under the same promise about all that is kept. Each
adapter is the first in turn. Intervals are by resampling of tasks.

The mean as one adapter has the ranks of all side by side, which is the mean of their differences B A, and the mean of
their heads.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.case import case, data_folder
from benchmarks.quality import overall
from benchmarks.rows import Row
from benchmarks.screening import EVERY_LABEL, THIRDS, Predicted, Recipes, minus, predict

RESAMPLED = 200
CONFIDENCE = 0.9

Floats = npt.NDArray[np.float64]


def chosen_tasks(folder: Path, count: int) -> list[str]:
    """Return so many tasks of a corpus, chosen by a digest of their ids."""
    names = Recipes(folder, 10**6, Path()).names
    return sorted(sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())[:count])


@case(
    columns=(
        "data; tasks; adapters; rows; promise; one adapter: to people = routed:.3f; exact of those kept = exact:.3f; "
        "kept of these by the mean of all = shown_back; all by the mean: to people = routed_by_all:.3f; "
        "mean QWK: one = qwk_one:.3f; mean of probabilities minus one = shown_all; "
        "one adapter of their mean minus one = shown_merged"
    ),
    keys="data tasks adapters promise",
    options={
        "--tasks": {"type": int, "default": 27, "help": "so many, by a digest of their ids (default: %(default)s)"},
        "--adapters": {"type": int, "default": 3, "help": "of each task (default: %(default)s)"},
        "--promises": {"type": float, "nargs": "+", "default": [0.75, 0.8, 0.85, 0.9, 0.95], "help": "exact agreement"},
    },
)
def ensembles(arguments: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Several adapters of one task: what their mean takes back from people, and their mean as one adapter."""
    folder = data_folder(arguments.data)
    names = chosen_tasks(folder, arguments.tasks)
    measured = Recipes(folder, len(names), work, names)
    members, merged = _members(measured, arguments.adapters)
    means = [np.mean(p, axis=0) for p in zip(*(one.probabilities for one in members), strict=True)]
    mean = Predicted(members[0].rows, means)
    figures = {
        **{"data": arguments.data, "tasks": len(names), "adapters": len(members), "rows": len(mean.rows)},
        "qwk_one": float(np.mean([overall(one.rows, one.levels)["mean_qwk"] for one in members])),
        "shown_all": minus(_repeated(mean, len(members)), _joined(members))["shown_mean"],
        "shown_merged": minus(_repeated(merged, len(members)), _joined(members))["shown_mean"],
    }
    tasks = sorted({row.task for row in mean.rows})
    tested = [_tested(tasks, predicted) for predicted in (*members, mean)]
    draw = np.random.default_rng(12)
    drawn = [np.arange(len(tasks)), *(draw.choice(len(tasks), len(tasks)) for _ in range(RESAMPLED))]
    for promise in arguments.promises:
        found = np.array([_shares(tested, of.tolist(), promise) for of in drawn])
        (routed, back, by_all, exact), shares = found[0], found[1:, 1]
        if not routed:
            continue
        low, high = np.nanquantile(shares, [0.025, 0.975])
        shown = f"{back:.3f} ({low:.3f} – {high:.3f})"
        yield {
            **figures,
            **{"promise": promise, "routed": routed, "exact": exact, "routed_by_all": by_all, "shown_back": shown},
        }


def _members(measured: Recipes, count: int) -> tuple[list[Predicted], Predicted]:
    """Return what each adapter predicts, and one with the mean of their differences; rows are in the same order."""
    members = []
    tables: dict[str, list[Any]] = {}

    def keep(prepared: Any, trained: Sequence[Any]) -> None:
        for task, table in zip(prepared.tasks, trained, strict=True):
            tables.setdefault(task.task.id, []).append(prepared.layout.views(table.table))

    for draw in range(1, count + 1):
        ((_, predicted),) = measured.few_labels([f"draw={draw}"], [EVERY_LABEL], THIRDS, keep)
        members.append(predicted)
    merged = Predicted([], [])
    prepared = measured.prepare([f"rank={8 * count}"], sorted(tables))
    predict(prepared, [_merged(prepared, tables[task.task.id]) for task in prepared.tasks], 0, merged)
    order = {(row.task, row.id): place for place, row in enumerate(members[0].rows)}
    return [_in_order(one, order) for one in members], _in_order(merged, order)


def _in_order(predicted: Predicted, order: dict[tuple[str, str], int]) -> Predicted:
    pairs = sorted(
        zip(predicted.rows, predicted.probabilities, strict=True), key=lambda pair: order[pair[0].task, pair[0].id]
    )
    return Predicted([row for row, _ in pairs], [p for _, p in pairs])


def _merged(prepared: Any, tables: Sequence[Any]) -> Any:
    """Return the table with the ranks of all side by side; alpha / rank falls with their number."""
    import torch

    row = torch.zeros(prepared.layout.width)
    for name, part in prepared.layout.views(row).items():
        if name.startswith(("A.", "B.")):
            part.copy_(torch.cat([table[name] for table in tables], dim=1 if name.startswith("A.") else 0))
        else:
            levels = tables[0][name].shape[-1]
            part[..., :levels] = torch.stack([table[name] for table in tables]).mean(0)[..., : part.shape[-1]]
    return row


def _repeated(predicted: Predicted, times: int) -> Predicted:
    return Predicted(predicted.rows * times, predicted.probabilities * times)


def _joined(parts: Sequence[Predicted]) -> Predicted:
    return Predicted([row for part in parts for row in part.rows], [p for part in parts for p in part.probabilities])


def _tested(tasks: Sequence[str], predicted: Predicted) -> list[Any]:
    """Return the rows of each task as the test of a promise counts them."""
    from scoremux_evidence.promise.temperature import temperatures_of
    from scoremux_evidence.promise.thresholds import under_test
    from scoremux_evidence.rows.table import Rows

    rows = {}
    for task in tasks:
        pairs = [(row, p) for row, p in zip(predicted.rows, predicted.probabilities, strict=True) if row.task == task]
        count = len(pairs)
        rows[task] = Rows.of(
            probabilities=np.array([p for _, p in pairs], np.float64),
            machine=np.array([int(np.argmax(p)) for _, p in pairs]),
            human=np.array([row.level for row, _ in pairs]),
            second=np.full(count, np.nan),
            weight=np.ones(count),
            student=np.full(count, -1),
            text=np.arange(count),
        )
    _, held_out, _ = temperatures_of(rows)
    return [under_test(of_task, held_out[task]) for task, of_task in rows.items()]


def _shares(tested: Sequence[Sequence[Any]], drawn: Sequence[int], promise: float) -> list[float]:
    """Return shares of rows: to people by one adapter, of these kept by all, to people by all; and the exact agreement.

    tested: Of each adapter and of their mean, the rows of each task.
    """
    from scoremux_evidence.promise.thresholds import Promise, choose
    from scoremux_evidence.rows.table import Rows

    *members, mean = [Rows.joined([of[place].plus(student=of[place].student) for place in drawn]) for of in tested]
    asked = Promise(1 - promise, None, CONFIDENCE)
    by_all = choose(mean, asked)
    routed_by_all = 1.0 if by_all is None else float((mean.confidence < by_all).mean())
    found = []
    for one in members:
        least = choose(one, asked)
        kept = one.confidence >= least if least is not None else np.zeros(len(one), bool)
        columns = {
            name: np.where(kept, one[name], mean[name]) for name in ("confidence", "severe", "errors", "critical")
        }
        both = one.plus(**columns, least=np.where(kept, 1 + one.confidence, mean.confidence))
        second = choose(both, asked)
        kept_by_both = kept if second is None else kept | (mean.confidence >= second)
        routed, left = 1 - kept.mean(), 1 - kept_by_both.mean()
        exact = 1 - one.errors[kept].mean() if kept.any() else np.nan
        found.append((routed, (routed - left) / routed if routed else np.nan, exact))
    routed, back, exact = np.nanmean(found, axis=0)
    return [float(routed), float(back), routed_by_all, float(exact)]
