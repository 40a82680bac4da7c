"""Why the machine gave a level: labelled responses nearest to a text, and what its parts contribute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select, update

from scoremux_client import Response, Scored, ScoringClient
from scoremux_client.errors import ScoremuxError
from scoremux_review.database.connection import Database
from scoremux_review.database.schema import papers
from scoremux_review.reading.similar import alike_to

_NEAREST, _MOST_LABELLED = 3, 2_000
_DEADLINE_S = 5.0
_MOST_PARTS = 24
_PART = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Near:
    """A labelled response. likeness: 1 for the same."""

    level: int
    text: str
    likeness: float


@dataclass(frozen=True)
class Part:
    """A group of words. gain: how much the probability of the machine's level falls without it."""

    text: str
    gain: float

    @property
    def shade(self) -> int:
        """How strongly it is marked, −3 to 3."""
        return max(-3, min(3, round(self.gain * 10)))


@dataclass(frozen=True)
class Insight:
    """nearest: the nearest first. by_model: whether in the model's eyes, or by their letters. parts: in order."""

    nearest: list[Near]
    by_model: bool = False
    parts: Sequence[Part] = ()


def explain(database: Database, scorer: Any, task: str, text: str, level: int) -> Insight:
    """Say what is known of a response without having trained on it.

    One group of words is left out at a time, and all these texts are scored as one batch, with their embeddings. Those
    of labelled responses are kept in the database, by the version of the task.

    Args:
        database: Has the labelled responses.
        scorer: HOST:PORT of a scorer, or a transport; None if there is none.
        task: The task's id.
        text: The response.
        level: The machine's level, −1 without one.

    Returns:
        Without a scorer, or without an answer in time: the nearest responses by their letters alone.
    """
    query = select(papers).where(papers.c.task == task, papers.c.kind == "labelled").limit(_MOST_LABELLED)
    with database.read() as connection:
        labelled = list(connection.execute(query))
    parts = _parts(text) if level >= 0 else []
    left_out = ["".join(parts[:n] + parts[n + 1 :]) for n in range(len(parts))] if len(parts) > 1 else []
    if scorer is not None:
        try:
            with ScoringClient(scorer, embeddings=True) as client:
                scored = client.score([Response(task, one) for one in (text, *left_out)], deadline_s=_DEADLINE_S)
                vectors = _vectors(database, client, task, labelled, scored[0])
        except ScoremuxError:
            pass
        else:
            gains = _gains(parts, scored, level) if left_out else ()
            if vectors is not None:
                return Insight(_by_model(labelled, vectors, scored[0]), True, gains)
            return Insight(_by_letters(labelled, text), False, gains)
    return Insight(_by_letters(labelled, text))


def _gains(parts: Sequence[str], scored: Sequence[Scored], level: int) -> Sequence[Part]:
    if not all(one.ok and level < len(one.probabilities) for one in scored):
        return ()
    whole = scored[0].probabilities[level]
    return [Part(part, whole - one.probabilities[level]) for part, one in zip(parts, scored[1:], strict=True)]


def _vectors(database: Database, client: ScoringClient, task: str, labelled: Sequence[Any], own: Scored) -> Any:
    """Return the embeddings of the labelled responses, float32 [N, H]; None if the scorer gives none."""
    if own.embedding is None or not labelled:
        return None
    kept = {p.id: np.frombuffer(p.embedding, np.float32) for p in labelled if p.version == own.version}
    new = [p for p in labelled if p.id not in kept]
    if new:
        scored = client.score([Response(task, p.text) for p in new], deadline_s=_DEADLINE_S)
        if any(one.embedding is None or one.version != own.version for one in scored):
            return None
        found = [(p.id, np.asarray(one.embedding, np.float32)) for p, one in zip(new, scored, strict=True)]
        change = update(papers).where(papers.c.id == bindparam("paper"))
        values = {"embedding": bindparam("vector"), "version": own.version}
        with database.write() as connection:
            connection.execute(change.values(**values), [{"paper": n, "vector": v.tobytes()} for n, v in found])
        kept |= dict(found)
    return np.stack([kept[p.id] for p in labelled])


def _by_model(labelled: Sequence[Any], vectors: Any, own: Scored) -> list[Near]:
    """cosine(v[i], own), the largest first."""
    one = np.asarray(own.embedding, np.float32)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(one)
    likeness = vectors @ one / np.maximum(norms, 1e-12)
    return [
        Near(labelled[n].level, labelled[n].text, float(likeness[n]))
        for n in np.argsort(-likeness, kind="stable")[:_NEAREST]
    ]


def _by_letters(labelled: Sequence[Any], text: str) -> list[Near]:
    alike = alike_to(text)
    found = [Near(p.level, p.text, alike(p.text)) for p in labelled]
    return sorted(found, key=lambda near: -near.likeness)[:_NEAREST]


def _parts(text: str) -> list[str]:
    words = _PART.findall(text)
    size = max(1, -(-len(words) // _MOST_PARTS))
    parts = ["".join(words[n : n + size]) for n in range(0, len(words), size)]
    if parts:
        parts[-1] += text[sum(map(len, parts)) :]
    return parts
