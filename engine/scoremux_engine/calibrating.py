"""Labelled rows of live tasks → their new versions, each with a `decision.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_assess.calibration.fitting import Labelled, conditions_of, fit
from scoremux_assess.calibration.temperature import Rows
from scoremux_assess.decision import Decision
from scoremux_assess.policy import Policy
from scoremux_client.errors import InputError
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_engine.packages.decision import finder_of
from scoremux_engine.packages.source import DECISION_JSON, Folder, Spans
from scoremux_engine.packages.span import span_of
from scoremux_engine.packages.task import Task
from scoremux_engine.store.history import Change
from scoremux_engine.store.store import Store

_BATCH_ROWS = 256


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

    out_of_fold: rows whose predictions came from training; scored: rows that the live versions scored.
    """

    tasks: dict[str, Labelled]
    decisions: dict[str, Decision]
    versions: dict[str, str]
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
        labelled = _labelled(engine, own, len(described[task].levels), policy.unusual is not None, made)
        if labelled is not None:
            made.tasks[task] = labelled
    made.decisions = fit(policy, made.tasks)
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
    if row.probabilities is not None and len(row.probabilities) != levels:
        raise InputError(f"{row.where}: {len(row.probabilities)} probabilities, but {row.task} has {levels} levels")


def _labelled(
    engine: Engine, own: Sequence[LabelledRow], levels: int, vectors: bool, made: Calibrated
) -> Labelled | None:
    """Return the rows of one task with probabilities, None if its head has none to give."""
    probabilities, kept, level = [], [], []
    scored = iter(_scores(engine, [row for row in own if row.probabilities is None]))
    for row in own:
        if row.probabilities is not None:
            made.out_of_fold += 1
            one, given = int(np.argmax(row.probabilities)), row.probabilities
        else:
            answer = next(scored)
            made.scored += 1
            one, given = answer.level, answer.probabilities
            if len(given) != levels:
                made.left_out[str(answer.status)] += 1
                continue
        kept.append(row)
        level.append(one)
        probabilities.append(given)
    if not kept:
        return None
    human = np.array([row.level for row in kept], dtype=np.int64)
    second = np.array([np.nan if row.second is None else row.second for row in kept], dtype=np.float64)
    rows = Rows(np.array(probabilities, dtype=np.float32).astype(np.float64), np.array(level, dtype=np.int64), human)
    return Labelled(rows, second, _vectors(engine, kept) if vectors else None)


def _scores(engine: Engine, rows: Sequence[LabelledRow]) -> Iterator[Any]:
    for first in range(0, len(rows), _BATCH_ROWS):
        part = rows[first : first + _BATCH_ROWS]
        texts = [row.text or "" for row in part]
        yield from engine.score_plainly(texts, [row.task for row in part])


def _vectors(engine: Engine, rows: Sequence[LabelledRow]) -> npt.NDArray[np.float32]:
    """Return the vectors of rows that have a text, float32 [B, H]; NaN for the others."""
    out = np.full((len(rows), engine.backbone.spec.pooled_size), np.nan, dtype=np.float32)
    known = [place for place, row in enumerate(rows) if row.text is not None]
    for first in range(0, len(known), _BATCH_ROWS):
        part = known[first : first + _BATCH_ROWS]
        texts = [rows[place].text or "" for place in part]
        found = engine.embed(texts, [rows[place].task for place in part])
        out[part] = found
    if not known:
        raise EngineError("the policy's rule `unusual` needs the texts of labelled rows; name their files")
    return out
