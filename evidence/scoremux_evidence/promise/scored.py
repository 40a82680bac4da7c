"""Rows that calibrations rest on → their probabilities: those of training, else those of the live versions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np

from scoremux_client.rows import Scored
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError
from scoremux_evidence.promise.eligible import Eligible
from scoremux_evidence.rows.similar_texts import fold
from scoremux_evidence.rows.table import Rows, by_reason
from scoremux_files.digests import digest_of
from scoremux_files.rows.readers import same_text

_BATCH_ROWS = 256


def score_rows(engine: Engine, eligible: Eligible) -> Eligible:
    """Return tasks with the probabilities of their rows; the engine scores those without a prediction.

    Raises:
        EngineError: The policy needs vectors, and no row of a task has a text.
    """
    width = None if eligible.policy.unusual is None else engine.backbone.spec.pooled_size
    # Predictions of training have no arithmetic; vectors are the engine's in any case.
    computes = width is not None
    target = eligible.policy.target
    seconds = target is not None and target.within_of_humans is not None
    tasks = {}
    reasons = []
    numbers = dict[str, int]()
    for name, task_rows in eligible.tasks.items():
        rows = task_rows.rows
        computes = computes or bool((rows.probabilities == np.array(None)).any())
        answers = _answers(engine, rows, width is not None)
        scored = _with_probabilities(replace(rows, left_out={}), answers)
        reasons.append(scored.left_out)
        tasks[name] = replace(
            task_rows,
            scores=as_columns(scored, width, numbers) if len(scored) else None,
            count=len(scored) or sum(answer is not None and answer.ok for answer in answers),
            origins=_origins(scored),
            digest=_digest_of(scored, seconds),
        )
    noted = Rows({}, eligible.left_out).noting(*reasons)
    return replace(eligible, tasks=tasks, left_out=noted.left_out, arithmetic=engine.arithmetic if computes else None)


def _answers(engine: Engine, rows: Rows, vectors: bool) -> list[Scored | None]:
    """Return the live version's answer for each row, None where it is not needed; each row is computed once at most."""
    answers: list[Scored | None] = [None] * len(rows)
    none = np.array(None)
    places = np.flatnonzero((rows.probabilities == none) | (vectors & (rows.text != none))).tolist()
    tasks = rows.task.texts()
    for first in range(0, len(places), _BATCH_ROWS):
        part = places[first : first + _BATCH_ROWS]
        texts = [rows.text[place] or "" for place in part]
        scored = engine.score_plainly(texts, [tasks[place] or "" for place in part], embeddings=vectors)
        for place, answer in zip(part, scored, strict=True):
            answers[place] = answer
    return answers


def _with_probabilities(rows: Rows, answers: Sequence[Scored | None]) -> Rows:
    """Return the rows of one task that have probabilities, with the machine's level and vector; count the others."""
    machine = np.zeros(len(rows), np.int64)
    probabilities = rows.probabilities.copy()
    vectors = np.full(len(rows), None, object)
    reasons = [""] * len(rows)
    for place, answer in enumerate(answers):
        if probabilities[place] is not None:
            machine[place] = int(np.argmax(probabilities[place]))
        elif answer is not None and answer.probabilities:
            probabilities[place] = answer.probabilities
            machine[place] = answer.level
        elif answer is not None:
            status = "are of a task whose head gives one value and no probabilities"
            reasons[place] = status if answer.ok else f"have no score: {answer.status}"
        vectors[place] = None if answer is None else answer.embedding
    return rows.plus(machine=machine, probabilities=probabilities, vector=vectors).without(by_reason(reasons))


def as_columns(rows: Rows, width: int | None, numbers: dict[str, int]) -> Rows:
    """Return the columns of one task's rows that a fit needs.

    Columns: probabilities (those of the machine before a temperature, float64 [B, L]), machine and human (their levels,
    int64), second (that of a second human, NaN without one), weight, student (a number for its cluster, or for who
    wrote it if no row names a cluster; −1: not known), text (a number for each distinct text), and, if width is given,
    pooled (the vectors that the head read, float32 [B, H], NaN where unknown).

    Args:
        width: Of the vectors; None leaves them out.
        numbers: Of texts, to which new texts are added, so that traits have the same for the same response.

    Raises:
        EngineError: Vectors are needed and no row has one.
    """
    keys = zip(rows.text, rows.response_keys(), strict=True)
    texts = [repr(key[1:]) if text is None else f"{fold(text)}\0" for text, key in keys]
    for text in texts:
        numbers.setdefault(text, len(numbers))
    scores = Rows.of(
        probabilities=np.array([*rows.probabilities], np.float32).astype(np.float64),
        machine=rows.machine,
        human=rows.level.astype(np.int64),
        second=rows.second,
        weight=rows.weight,
        student=(rows.cluster if (rows.cluster.code >= 0).any() else rows.student).code.astype(np.int64),
        text=np.array([numbers[text] for text in texts], np.int64),
    )
    if width is None:
        return scores
    if all(vector is None for vector in rows.vector):
        raise EngineError("the policy's rule `unusual` needs the texts of labelled rows; name their files")
    none = np.full(width, np.nan, dtype=np.float32)
    return scores.plus(pooled=np.stack([none if vector is None else vector for vector in rows.vector]))


def _digest_of(rows: Rows, seconds: bool) -> str:
    """Return the digest of a set of rows: their names, texts and levels. seconds: whether the promise is about two."""
    second_levels = [second if seconds and not isnan(second) else None for second in rows.second.tolist()]
    columns = zip(rows.response_keys(), rows.text, rows.level.tolist(), second_levels, strict=True)
    lines = sorted(repr((key, same_text(text or ""), level, second)) for key, text, level, second in columns)
    return digest_of(line.encode("utf-8", "replace") for line in lines)


def _origins(rows: Rows) -> Counter[str]:
    """Return how many rows come from which file, after how they were chosen where that is known."""
    names = [Path(file or "").name for file in rows.file.texts()]
    reasons = rows.chosen_by.texts()
    return Counter(f"{why} of {name}" if why else name for why, name in zip(reasons, names, strict=True))
