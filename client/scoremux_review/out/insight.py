"""Why the machine gave a level: labelled responses nearest to a text, and what its parts contribute."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from scoremux_client import Response, ScoringClient
from scoremux_client.errors import ScoremuxError
from scoremux_review.data.schema import papers
from scoremux_review.work.similar import alike_to

_NEAREST, _MOST_LABELLED = 3, 2_000
_DEADLINE_S = 5.0
_MOST_PARTS = 24
_PART = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Near:
    """A labelled response. likeness: 0 to 1."""

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


def nearest(connection: Connection, task: str, text: str) -> list[Near]:
    """Return the three labelled responses of a task that share most with a text, the nearest first."""
    query = select(papers.c.level, papers.c.text).where(papers.c.task == task, papers.c.kind == "labelled")
    alike = alike_to(text)
    found = [Near(p.level, p.text, alike(p.text)) for p in connection.execute(query.limit(_MOST_LABELLED))]
    return sorted(found, key=lambda near: -near.likeness)[:_NEAREST]


def contributions(scorer: Any, task: str, text: str, level: int) -> list[Part]:
    """Return the parts of a text with what each contributes to the machine's level.

    One group of words is left out at a time, and all these texts are scored as one batch.

    Args:
        scorer: HOST:PORT of a scorer, or a transport; None for no answer.
        task: The task's id.
        text: The response.
        level: The machine's level.

    Returns:
        The parts in order; empty if there is no scorer, no level, or no answer in time.
    """
    parts = _parts(text)
    if scorer is None or level < 0 or len(parts) < 2:
        return []
    texts = [text, *("".join(parts[:n] + parts[n + 1 :]) for n in range(len(parts)))]
    try:
        with ScoringClient(scorer) as client:
            scored = client.score([Response(task, one) for one in texts], deadline_s=_DEADLINE_S)
    except ScoremuxError:
        return []
    if not all(one.ok and level < len(one.probabilities) for one in scored):
        return []
    whole = scored[0].probabilities[level]
    return [Part(part, whole - one.probabilities[level]) for part, one in zip(parts, scored[1:], strict=True)]


def _parts(text: str) -> list[str]:
    words = _PART.findall(text)
    size = max(1, -(-len(words) // _MOST_PARTS))
    parts = ["".join(words[n : n + size]) for n in range(0, len(words), size)]
    if parts:
        parts[-1] += text[sum(map(len, parts)) :]
    return parts
