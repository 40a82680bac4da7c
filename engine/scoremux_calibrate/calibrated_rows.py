"""Which labelled rows of a task its calibration rests on: by scale, by who sent them to people, by condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from scoremux_assess.labels.labelled_rows import LabelledRow
from scoremux_assess.labels.weights import ALL, ROUTE
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.decision import Decision
from scoremux_decide.policy import ScoringPolicy
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.package_files import DECISION_JSON
from scoremux_engine.packages.task import Task
from scoremux_engine.store.store import Store
from scoremux_files.errors import reading


def on_the_live_scale(
    rows: Sequence[LabelledRow], task: Task, store: Store, past: Collection[str], left_out: Counter[str]
) -> list[LabelledRow]:
    """Return rows of one task without those that people read when it had another number of levels."""
    folders = {
        version: store.package_folder(version) for version in {row.version for row in rows} & set(past) if version
    }
    other = {
        v for v, folder in folders.items() if folder.exists() and len(Task.read(folder).levels) != len(task.levels)
    }
    kept = [row for row in rows if row.version not in other]
    if other:
        left_out["read when their task had another number of levels"] += len(rows) - len(kept)
    return kept


def with_census(rows: Sequence[LabelledRow], store: Store, past: Collection[str]) -> list[LabelledRow]:
    """Return rows of one task; those of a version that sent all responses to people are a sample of all responses.

    past: all versions of the task. For rows that do not say which scored them, none of these may keep a response.
    """
    routed = {row.version for row in rows if row.chosen_by == ROUTE}
    asked = past if None in routed else routed & set(past)
    decisions = {version: decision_of(store.package_folder(version)) for version in asked if version}
    thresholds = {version: decision.threshold for version, decision in decisions.items() if decision is not None}
    census: set[str | None] = {version for version, t in thresholds.items() if t is not None and t.least is None}
    if census and len(census) == len(thresholds):
        census.add(None)
    return [replace(row, chosen_by=ALL) if row.chosen_by == ROUTE and row.version in census else row for row in rows]


def without_conditions(
    rows: Sequence[LabelledRow], task: Task, policy: ScoringPolicy, left_out: Counter[str]
) -> list[LabelledRow]:
    """Return the rows of a task whose texts have no condition."""
    finder = Finder(policy.conditions_of(task.id), task.question, task.reference, [task.language])
    attempts = []
    for row in rows:
        condition = finder.find(row.text) if row.text is not None else None
        if condition is None:
            attempts.append(row)
        else:
            left_out[f"condition {condition.code}"] += 1
    return attempts


def origin_of(row: LabelledRow) -> str:
    """Return the name of a row's file, after how the row was chosen where that is known."""
    file = Path(row.where.rpartition(", row ")[0]).name
    return f"{row.chosen_by} of {file}" if row.chosen_by else file


def decision_of(folder: Path) -> Decision | None:
    """Return the decision of a version, None where it has none or is no longer there."""
    path = folder / DECISION_JSON
    if not path.exists():
        return None
    with reading(path, EngineError):
        data = path.read_bytes()
    return Decision.parse(data, str(path))
