"""Traffic made from a description: which tasks are popular, how long responses are, how many rows come again."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

POPULARITIES = ("distinct", "uniform", "zipf", "identical", "skewed")
OWN = "own"

TaskText = tuple[str, str]
Words = Callable[[random.Random], int]


@dataclass(frozen=True)
class Traffic:
    """rows: how many; popularity: one of POPULARITIES; duplicates: share of rows that repeat an earlier one.

    words: words a response has: `own` (as it is), `N`, `N-M` (evenly), or `lognormal:MEDIAN:SIGMA`.
    """

    rows: int = 1024
    popularity: str = "zipf"
    words: str = OWN
    duplicates: float = 0.0
    seed: int = 6

    def __post_init__(self) -> None:
        """Raises ValueError, naming what makes no sense."""
        if self.rows < 1:
            raise ValueError(f"rows is {self.rows}; there must be at least one")
        if self.popularity not in POPULARITIES:
            raise ValueError(f"popularity is {self.popularity!r}; there are {', '.join(POPULARITIES)}")
        if not 0 <= self.duplicates < 1:
            raise ValueError(f"duplicates is {self.duplicates}; a share lies from 0 to less than 1")
        if self.words != OWN:
            word_counts(self.words)

    def draw(self, pool: Sequence[TaskText]) -> list[TaskText]:
        """Return the rows, (task, text), of texts from `pool`; a task gets texts of its own."""
        draw = random.Random(self.seed)
        texts: dict[str, list[str]] = {}
        for task, text in pool:
            texts.setdefault(task, []).append(text)
        fresh = max(1, self.rows - round(self.duplicates * self.rows))
        tasks = popular(self.popularity, sorted(texts), fresh, draw)
        sources = {task: self._texts(own, draw) for task, own in texts.items()}
        rows = [(task, next(sources[task])) for task in tasks]
        rows += draw.choices(rows, k=self.rows - fresh)
        draw.shuffle(rows)
        return rows

    def _texts(self, own: Sequence[str], draw: random.Random) -> Iterator[str]:
        """Yield responses without end: those of a task in turn, or as many of their words as wanted."""
        if self.words == OWN:
            yield from _over_and_over(own, draw)
        count = word_counts(self.words)
        words = _over_and_over([word for text in own for word in text.split()] or ["-"], draw)
        while True:
            yield " ".join(next(words) for _ in range(count(draw)))


def popular(kind: str, tasks: Sequence[str], size: int, draw: random.Random, *, shuffle: bool = True) -> list[str]:
    """Return `size` tasks: in turn, evenly, by Zipf's law, all the same, or one as often as all others together.

    shuffle: whether it is drawn anew which tasks are popular; else the first are.
    """
    shuffled = draw.sample(tasks, len(tasks)) if shuffle else tasks
    if kind == "distinct":
        return [shuffled[i % len(shuffled)] for i in range(size)]
    weights = {
        "uniform": [1.0] * len(shuffled),
        "zipf": [1 / (i + 1) for i in range(len(shuffled))],
        "identical": [1.0] + [0.0] * (len(shuffled) - 1),
        "skewed": [float(len(shuffled))] + [1.0] * (len(shuffled) - 1),
    }
    return draw.choices(shuffled, weights[kind], k=size)


def word_counts(spec: str) -> Words:
    """Return what draws the number of words of a response. Raises ValueError for a description that makes no sense."""
    if even := re.fullmatch(r"(\d+)(?:-(\d+))?", spec):
        least, most = int(even[1]), int(even[2] or even[1])
        if 0 < least <= most:
            return lambda draw: draw.randint(least, most)
    if log := re.fullmatch(r"lognormal:(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)", spec):
        median, sigma = float(log[1]), float(log[2])
        return lambda draw: max(1, round(median * draw.lognormvariate(0, sigma)))
    raise ValueError(f"words is {spec!r}; say {OWN}, N, N-M or lognormal:MEDIAN:SIGMA")


def repeated(rows: Sequence[TaskText]) -> float:
    """Return the share of rows that are the same as an earlier one."""
    return 1 - len(set(rows)) / len(rows)


def _over_and_over(values: Sequence[str], draw: random.Random) -> Iterator[str]:
    while True:
        yield from draw.sample(values, len(values))
