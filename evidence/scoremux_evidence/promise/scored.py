"""Rows that calibrations rest on → their probabilities: those of training, else those of the live versions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scoremux_client.rows import Scored
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_evidence.promise.eligible import Eligible
from scoremux_evidence.promise.labelled_scores import LabelledScores
from scoremux_evidence.rows.labelled_row import LabelledRow, Rows
from scoremux_evidence.rows.similar_texts import fold
from scoremux_files.digests import digest_of
from scoremux_files.rows.readers import same_text

_BATCH_ROWS = 256
_ScoredRow = tuple[LabelledRow, int, Sequence[float], npt.NDArray[np.float32] | None]
"""A row with the machine's level, its probabilities, and the vector that the head read."""


def score_rows(engine: Engine, eligible: Eligible) -> Eligible:
    """Return tasks with the probabilities of their rows; the engine scores those without a prediction.

    Raises:
        EngineError: The policy needs vectors, and no row of a task has a text.
    """
    width = None if eligible.policy.unusual is None else engine.backbone.spec.pooled_size
    every_row = [row for task_rows in eligible.tasks.values() for row in task_rows.rows]
    students = {student: number for number, student in enumerate(dict.fromkeys(row.student for row in every_row))}
    students[None] = -1
    tasks = {}
    left_out = eligible.left_out.copy()
    for name, task_rows in eligible.tasks.items():
        answers = _answers(engine, task_rows.rows, width is not None)
        rows = _with_probabilities(task_rows.rows, answers, left_out)
        scores = _as_columns(rows, students, width) if rows else None
        count = len(rows) or sum(answer is not None and answer.ok for answer in answers)
        tasks[name] = replace(
            task_rows,
            scores=scores,
            count=count,
            origins=Counter(_origin_of(row) for row, *_ in rows),
            digest=_digest_of([row for row, *_ in rows]),
        )
    # Predictions of training have no arithmetic; vectors are the engine's in any case.
    computed = width is not None or any(row.probabilities is None for row in every_row)
    arithmetic = engine.arithmetic if computed else None
    return replace(eligible, tasks=tasks, left_out=left_out, arithmetic=arithmetic)


def _answers(
    engine: Engine,
    rows: Rows,
    vectors: bool,
) -> list[Scored | None]:
    """Return the live version's answer for each row, None where it is not needed; each row is computed once at most."""
    answers: list[Scored | None] = [None] * len(rows)
    places = [n for n, row in enumerate(rows) if row.probabilities is None or (vectors and row.text is not None)]
    for first in range(0, len(places), _BATCH_ROWS):
        part = places[first : first + _BATCH_ROWS]
        texts = [rows[place].text or "" for place in part]
        tasks = [rows[place].task for place in part]
        for place, answer in zip(part, engine.score_plainly(texts, tasks, embeddings=vectors), strict=True):
            answers[place] = answer
    return answers


def _with_probabilities(
    rows: Rows,
    answers: Sequence[Scored | None],
    left_out: Counter[str],
) -> list[_ScoredRow]:
    """Return the rows of one task that have probabilities; count the others."""
    kept = []
    for row, answer in zip(rows, answers, strict=True):
        vector = None if answer is None else answer.embedding
        if row.probabilities is not None:
            kept.append(
                (
                    row,
                    int(np.argmax(row.probabilities)),
                    row.probabilities,
                    vector,
                )
            )
        elif answer is not None and answer.probabilities:
            kept.append((row, answer.level, answer.probabilities, vector))
        elif answer is not None:
            regression = "the task's head gives one value and no probabilities"
            left_out[regression if answer.ok else str(answer.status)] += 1
    return kept


def _as_columns(
    rows: Sequence[_ScoredRow],
    students: Mapping[str | None, int],
    width: int | None,
) -> LabelledScores:
    """Return rows of one task as columns. width: of the vectors that the head read; None leaves them out.

    Raises EngineError where vectors are needed and no row has one.
    """
    labelled, level, probabilities, vectors = zip(*rows, strict=True)
    texts = [repr(row.key) if row.text is None else f"{fold(row.text)}\0" for row in labelled]
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    pooled = None
    if width is not None:
        if all(vector is None for vector in vectors):
            raise EngineError("the policy's rule `unusual` needs the texts of labelled rows; name their files")
        none = np.full(width, np.nan, dtype=np.float32)
        pooled = np.stack([none if vector is None else vector for vector in vectors])
    return LabelledScores(
        probabilities=np.array(probabilities, dtype=np.float32).astype(np.float64),
        level=np.array(level, dtype=np.int64),
        human=np.array([row.level for row in labelled], dtype=np.int64),
        second=np.array(
            [row.second for row in labelled],
            dtype=np.float64,
        ),
        pooled=pooled,
        weight=np.array([row.weight for row in labelled], dtype=np.float64),
        student=np.array(
            [students[row.student] for row in labelled],
            dtype=np.int64,
        ),
        text=np.array([numbers[text] for text in texts], dtype=np.int64),
    )


def _digest_of(rows: Rows) -> str:
    """Return the digest of a set of rows: their names, texts and levels."""
    lines = sorted(
        repr(
            (
                row.key,
                same_text(row.response),
                row.level,
                row.second,
            )
        )
        for row in rows
    )
    return digest_of(line.encode("utf-8", "replace") for line in lines)


def _origin_of(row: LabelledRow) -> str:
    """Return the name of a row's file, after how the row was chosen where that is known."""
    file = Path(row.where.rpartition(", line ")[0]).name
    return f"{row.chosen_by} of {file}" if row.chosen_by else file
