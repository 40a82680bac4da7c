"""Labelled rows of live tasks → their new versions, each with a `decision.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_assess.decisions.calibration.temperature import Rows
from scoremux_assess.decisions.decision import Decision
from scoremux_assess.decisions.fit import Labelled, conditions_of, fit, unsure
from scoremux_assess.decisions.policy import Policy
from scoremux_client.errors import InputError
from scoremux_client.rows import Scored
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.decider import finder_of
from scoremux_engine.packages.source import DECISION_JSON, Folder, Spans
from scoremux_engine.packages.span import span_of
from scoremux_engine.packages.task import Task
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store

NO_PROBABILITIES = "the task's head gives one value and no probabilities"
"""Why rows of a task with a regression head are left out."""

_BATCH_ROWS = 256
_SUM_WITHIN = 1e-3


@dataclass(frozen=True)
class LabelledRow:
    """A response with the level that a human gave it, and that of a second one; where: its file and row.

    text: None where only its prediction is known. probabilities: those of an adapter that did not see it, if known.
    """

    id: str
    task: str
    level: int
    second: int | None
    where: str
    text: str | None = None
    probabilities: Sequence[float] | None = None


@dataclass
class Calibrated:
    """tasks: the rows of each task; decisions: made of them; versions: digests that the rows were scored with.

    rows: how many there are of each task; unsure: tasks whose heads give no probabilities.
    out_of_fold: rows whose predictions came from training; scored: rows that the live versions scored.
    """

    tasks: dict[str, Labelled]
    decisions: dict[str, Decision]
    versions: dict[str, str]
    rows: Counter[str] = field(default_factory=Counter)
    unsure: tuple[str, ...] = ()
    out_of_fold: int = 0
    scored: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Decided:
    """A package with another decision: a `Source`. folder: its other files."""

    folder: Path
    decision: Decision

    @property
    def path(self) -> Path:
        return self.folder

    @contextmanager
    def spans(self) -> Iterator[Spans]:
        """Open all files."""
        own = span_of(self.folder / DECISION_JSON, self.decision.to_json())
        with Folder(self.folder).spans() as spans, own as opened:
            yield {**spans, DECISION_JSON: opened}


def calibrate(engine: Engine, store: Store, policy: Policy, rows: Sequence[LabelledRow]) -> Calibrated:
    """Fit the decisions of all tasks that have rows. Rows with a condition are left out: no machine keeps them.

    Args:
        engine: Scores the rows whose predictions are not known, and finds the vectors of those with a text.
        store: Where the live versions are.
        policy: What is wanted.
        rows: Labelled rows; none of those without a prediction was trained on.

    Raises:
        InputError: A row is of no live task, or has a level that its task does not have.
    """
    live = store.manifest().tasks
    described = {task: Task.read(store.package_folder(live[task])) for task in {r.task for r in rows} if task in live}
    rows_of: dict[str, list[LabelledRow]] = {}
    for row in rows:
        _check(row, described)
        rows_of.setdefault(row.task, []).append(row)
    made = Calibrated({}, {}, {task: live[task] for task in described})
    for task in sorted(described):
        finder = finder_of(conditions_of(policy, task), described[task])
        own = []
        for row in rows_of[task]:
            if found := finder.find(row.text) if row.text is not None else None:
                made.left_out[f"condition {found.code}"] += 1
            else:
                own.append(row)
        before = made.left_out[NO_PROBABILITIES]
        labelled = _labelled(engine, own, len(described[task].levels), policy.unusual is not None, made)
        if labelled is not None:
            made.tasks[task], made.rows[task] = labelled, len(labelled.rows)
        elif without := made.left_out[NO_PROBABILITIES] - before:
            made.unsure, made.rows[task] = (*made.unsure, task), without
    made.decisions = fit(policy, made.tasks) | {task: unsure(policy, task, made.rows[task]) for task in made.unsure}
    return made


def publish(engine: Engine, store: Store, made: Calibrated, *, dry_run: bool = False) -> list[Change]:
    """Publish all decisions in one change, or none.

    Raises:
        StoreError: A task has another live version by now, or the store cannot be changed.
    """
    before = {task: made.versions[task] for task in made.decisions}
    sources = [Decided(store.package_folder(before[task]), decision) for task, decision in made.decisions.items()]
    return store.publish(sources, engine.backbone, before=before, dry_run=dry_run)


def _check(row: LabelledRow, described: Mapping[str, Task]) -> None:
    if row.task not in described:
        raise InputError(f"{row.where}: {row.task[:80]!r} is no live task of this store")
    levels = len(described[row.task].levels)
    for value in (row.level, row.second):
        if value is not None and not 0 <= value < levels:
            raise InputError(f"{row.where}: level {value}, but {row.task} has levels 0 to {levels - 1}")
    given = row.probabilities
    if given is not None and len(given) != levels:
        raise InputError(f"{row.where}: {len(given)} probabilities, but {row.task} has {levels} levels")
    if given is not None and not (min(given) >= 0 and abs(sum(given) - 1) <= _SUM_WITHIN):
        raise InputError(f"{row.where}: the probabilities are not numbers from 0 to 1 that sum to 1")


def _labelled(
    engine: Engine, own: Sequence[LabelledRow], levels: int, vectors: bool, made: Calibrated
) -> Labelled | None:
    """Return the rows of one task that have probabilities, None if none has."""
    probabilities, kept, level, pooled = [], [], [], []
    for row, answer in zip(own, _answers(engine, own, vectors), strict=True):
        if row.probabilities is not None:
            made.out_of_fold += 1
            one, given = int(np.argmax(row.probabilities)), row.probabilities
        elif answer is not None:
            made.scored += 1
            one, given = answer.level, answer.probabilities
            if len(given) != levels:
                made.left_out[NO_PROBABILITIES if answer.ok else str(answer.status)] += 1
                continue
        kept.append(row)
        level.append(one)
        probabilities.append(given)
        pooled.append(None if answer is None else answer.embedding)
    if not kept:
        return None
    human = np.array([row.level for row in kept], dtype=np.int64)
    second = np.array([np.nan if row.second is None else row.second for row in kept], dtype=np.float64)
    rows = Rows(np.array(probabilities, dtype=np.float32).astype(np.float64), np.array(level, dtype=np.int64), human)
    return Labelled(rows, second, _stacked(engine, pooled) if vectors else None)


def _answers(engine: Engine, rows: Sequence[LabelledRow], vectors: bool) -> list[Scored | None]:
    """Return what the live version says of rows, in one pass; None of those about which all that is asked is known."""
    found: list[Scored | None] = [None] * len(rows)
    asked = [n for n, r in enumerate(rows) if r.probabilities is None or (vectors and r.text is not None)]
    for first in range(0, len(asked), _BATCH_ROWS):
        part = asked[first : first + _BATCH_ROWS]
        texts, tasks = [rows[place].text or "" for place in part], [rows[place].task for place in part]
        for place, answer in zip(part, engine.score_plainly(texts, tasks, embeddings=vectors), strict=True):
            found[place] = answer
    return found


def _stacked(engine: Engine, vectors: Sequence[npt.NDArray[np.float32] | None]) -> npt.NDArray[np.float32]:
    """Return float32 [B, H]; NaN for rows without a vector."""
    if all(vector is None for vector in vectors):
        raise EngineError("the policy's rule `unusual` needs the texts of labelled rows; name their files")
    none = np.full(engine.backbone.spec.pooled_size, np.nan, dtype=np.float32)
    return np.stack([none if vector is None else vector for vector in vectors])
