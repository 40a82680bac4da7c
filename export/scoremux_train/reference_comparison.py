"""How answers compare with the reference of their task: levels for tasks with few labels or none.

Numbers that compare an answer with the reference go into one head for all tasks, a multinomial logistic regression
over a basis of the scale that is learned on the labels of *other* tasks. Kernel ridge regression over similar answers
corrects its probabilities by the labels that the task has.
"""

import math
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from annotated_types import Len
from pydantic import BaseModel

from scoremux_engine.packages.task import Task
from scoremux_evidence.rows.table import Floats, Ints, Rows
from scoremux_evidence.rows.trained_rows import short_digest
from scoremux_files.errors import first_of
from scoremux_files.settings import check, read_json
from scoremux_train.data import Data
from scoremux_train.errors import DataError

START_JSON = "start.json"
LEAST_TASKS = 3
"""Fewest tasks that a head is learned on."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_NEGATION = re.compile(
    "not?|never|none|nothing|neither|nor|cannot|without|(ca|do|does|did|is|was|wo)nt|.*n't|"
    "nichts?|kein(e[nrm]?)?|nie(mals)?|ohne|weder"
)
_LEAST_ANSWERS = 3
"""A word that fewer answers have is not counted in the file: it may name a person."""

_RIDGE, _STEPS, _WITHIN = 10.0, 40, 1e-6
_PENALTIES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_BUCKETS, _PARTS = 1 << 12, 5
_LEAST_SHARE, _DIGITS = 0.01, 4
_MADE_UP, _LOST = 48, 0.3
"""How many answers are made up, and the share of words that an answer loses."""

_COUNT = 12
"""How many numbers compare an answer with the texts of its task."""

_Numbers = Annotated[tuple[float, ...], Len(_COUNT, _COUNT)]
_ALIKE, _OF_NUMBERS = 0.1, 0.3
"""Parts of the kernel: of any two answers, and of the cosine of their numbers."""


class _Words(NamedTuple):
    """A text: its words, how often four characters in a row occur, and whether it has a word that negates."""

    words: frozenset[str]
    grams: Counter[str]
    negates: bool


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def _read(text: str) -> _Words:
    words = _words(text)
    negates = any(map(_NEGATION.fullmatch, words))
    return _Words(frozenset(words), _grams(words, 4), negates)


def _grams(words: Sequence[str], size: int) -> Counter[str]:
    line = f" {' '.join(words)} "
    return Counter(line[n : n + size] for n in range(max(1, len(line) - size + 1)))


class ReferenceComparison(BaseModel, extra="forbid", frozen=True):
    """A head over numbers that compare an answer with its task's reference, learned on the labels of some tasks.

    Attributes:
        tasks: The ids of these tasks.
        answers: How many answers they have.
        frequencies: How many answers have a word, by the word's digest; rare words are left out.
        mean, spread: Of each number over the answers, [F].
        weights: Of each number and 1, for the two parts of the scale's basis, [F + 1][2].
    """

    format: Literal[1] = 1
    tasks: tuple[str, ...]
    answers: int
    frequencies: dict[str, int]
    mean: _Numbers = (0.0,) * _COUNT
    spread: _Numbers = (1.0,) * _COUNT
    weights: Annotated[tuple[tuple[float, float], ...], Len(_COUNT + 1, _COUNT + 1)] = ((0.0, 0.0),) * (_COUNT + 1)

    @classmethod
    def learn(cls, tasks: Sequence[tuple[Task, Rows]]) -> "ReferenceComparison":
        """Learn the head from tasks with a reference and their labelled rows."""
        counts = Counter(word for _, rows in tasks for text in rows.text for word in _read(text).words)
        kept = {short_digest(word): count for word, count in counts.items() if count >= _LEAST_ANSWERS}
        untrained = cls(
            tasks=tuple(sorted(task.id for task, _ in tasks)),
            answers=sum(len(rows) for _, rows in tasks),
            frequencies=dict(sorted(kept.items())),
        )
        numbers = [untrained.numbers(task, rows.text) for task, rows in tasks]
        mean, spread = np.concatenate(numbers).mean(0), np.concatenate(numbers).std(0) + 1e-3
        parts = [
            (_standard(own, mean, spread), _basis(task), rows.level.astype(np.int64))
            for own, (task, rows) in zip(numbers, tasks, strict=True)
        ]
        learned = {"mean": mean.tolist(), "spread": spread.tolist(), "weights": _fit(parts).round(9).tolist()}
        return cls(**{**untrained.model_dump(), **learned})

    @classmethod
    def read(cls, path: Path) -> "ReferenceComparison":
        """Read a `start.json`. Raises InputError."""
        return check(cls, read_json(path), str(path))

    def numbers(self, task: Task, texts: Iterable[str]) -> Floats:
        """Return what compares each answer with the task's reference and question, [N, F]; no number is a length."""
        reference, question = _read(task.reference), _read(task.question)
        return np.array([self._compare(_read(text), reference, question) for text in texts], np.float64)

    def _compare(self, answer: _Words, reference: _Words, question: _Words) -> list[float]:
        return [
            *self._compare_two(answer, reference),
            float(answer.negates and not reference.negates),
            float(reference.negates and not answer.negates),
            *self._compare_two(answer, question)[1:],
            self._share(reference.words - question.words, answer.words),
        ]

    def _compare_two(self, answer: _Words, other: _Words) -> list[float]:
        both = (answer.grams & other.grams).total()
        product = sum(count * other.grams[gram] for gram, count in answer.grams.items())
        squares = math.prod(sum(count**2 for count in of.grams.values()) for of in (answer, other))
        return [
            both / other.grams.total(),
            both / answer.grams.total(),
            product / math.sqrt(squares),
            self._share(other.words, answer.words),
            self._share(answer.words, other.words),
        ]

    def _share(self, part: frozenset[str], other: frozenset[str]) -> float:
        """Return the share of words that are in the other text, too; rare words count more."""
        return self._rarity(part & other) / whole if (whole := self._rarity(part)) else 0.0

    def _rarity(self, words: Iterable[str]) -> float:
        return math.fsum(
            math.log((self.answers + 1) / (self.frequencies.get(short_digest(word), 0) + 1)) for word in words
        )

    def compare(self, task: Task, texts: Sequence[str]) -> "Compared":
        """Compare the answers of a task, labelled or not."""
        numbers = _standard(self.numbers(task, texts), np.array(self.mean), np.array(self.spread))
        prior = _softmax(np.einsum("nf,fk,kl->nl", numbers, np.array(self.weights), _basis(task)))
        return Compared(prior, [_tfidf(texts, 1), _tfidf(texts, 3, 4), _unit(numbers[:, :-1])])


@cache
def shipped_start() -> ReferenceComparison:
    """Return the head that comes with scoremux: of the 27 tasks of SAF (MIT licence)."""
    return ReferenceComparison.read(Path(__file__).with_name(START_JSON))


def comparisons(
    data: Data, start: ReferenceComparison | None
) -> tuple[ReferenceComparison | None, dict[str, ReferenceComparison]]:
    """Return what is learned on the labels of all tasks with a reference, and for each taught task a comparison.

    A task's own labels have no part in its comparison: it is learned on four fifths of the tasks. Where these are too
    few, it is the one that comes with scoremux.

    Args:
        start: Of an earlier run; it is taken in place of what this run could learn.

    Raises:
        DataError: A taught task's own labels are in the start.
    """
    able = {
        name: (task, data.training[name].rows)
        for name, task in sorted(data.tasks.items())
        if task.reference and len(np.unique(data.training[name].rows.level)) > 1
    }
    part_of = {name: place % _PARTS for place, name in enumerate(sorted({*able, *data.unlabelled}))}
    of_part = {}
    for part in sorted({part_of[name] for name in data.unlabelled}):
        others = [of_task for name, of_task in able.items() if part_of[name] != part]
        learned = ReferenceComparison.learn(others) if start is None and len(others) >= LEAST_TASKS else None
        of_part[part] = start or learned or shipped_start()
    of_task = {name: of_part[part_of[name]] for name in data.unlabelled}
    if own := sorted(name for name, comparison in of_task.items() if name in comparison.tasks):
        raise DataError(
            f"the start was learned on labels of {first_of(own)}; give labels of {LEAST_TASKS} other tasks with a "
            "reference, without --start"
        )
    learns = start is None and len(able) >= LEAST_TASKS
    return ReferenceComparison.learn([*able.values()]) if learns else None, of_task


@dataclass(frozen=True)
class Compared:
    """Answers of one task.

    Attributes:
        prior: The probabilities of levels that no label of the task corrects, [N, L].
        vectors: Of words, of characters, and of the numbers of `ReferenceComparison`: three of length 1 for each
            answer, [N, D].
    """

    prior: Floats
    vectors: Sequence[Floats]

    def kernel(self, places: Sequence[int]) -> Floats:
        """Return how similar each answer is to those at some places, [N, n]."""
        words, characters, numbers = (np.einsum("nd,md->nm", vectors, vectors[places]) for vectors in self.vectors)
        return np.asarray((words + characters) / 2 + _OF_NUMBERS * numbers + _ALIKE)

    def corrected(self, labelled: Sequence[int], levels: Sequence[int]) -> Floats:
        """Return the probabilities of levels, corrected by the labels of some answers, float64 [N, L].

        Kernel ridge regression on what the prior lacks of the labels; its penalty has the least log loss where each
        label is left out in turn, in closed form.
        """
        count = len(labelled)
        kernel = self.kernel(labelled)
        own, prior = kernel[labelled], self.prior[labelled]
        target = np.eye(self.prior.shape[1])[levels]
        best, kept = math.inf, self.prior
        for penalty in _PENALTIES if count > 1 else ():
            inverse = np.linalg.inv(own + penalty * np.eye(count))
            hat = own @ inverse
            itself = np.diag(hat)[:, None]
            left_out = _likely(prior + (hat @ (target - prior) - itself * (target - prior)) / (1 - itself))
            loss = -float(np.log((left_out * target).sum(1)).mean())
            if loss < best - _WITHIN:
                best, kept = loss, _likely(self.prior + kernel @ (inverse @ (target - prior)))
        return kept.round(_DIGITS)


def made_up(reference: str, answers: Sequence[str], draw: np.random.Generator) -> list[str]:
    """Return answers that nobody gave: the reference, parts of it, answers that lack words, halves of two answers."""
    model, texts = reference.split(), [reference]
    words = [text.split() for text in answers]
    for _ in range(_MADE_UP // 3):
        size = max(2, round(len(model) * draw.uniform(0.3, 1)))
        first = draw.integers(max(1, len(model) - size + 1))
        whole, one, other = (words[place] for place in draw.integers(len(words), size=3))
        parts = (
            model[first : first + size],
            [word for word in whole if draw.random() > _LOST],
            one[: len(one) // 2 + 1] + other[len(other) // 2 :],
        )
        texts += map(" ".join, parts)
    return [text for text in texts if text]


def _tfidf(texts: Sequence[str], *sizes: int) -> Floats:
    """Return vectors of hashed words, or of so many characters in a row, [N, D]. sizes: 1 stands for words."""
    counts = np.zeros((len(texts), _BUCKETS))
    for row, text in enumerate(texts):
        words = _words(text)
        parts = words if sizes == (1,) else [gram for size in sizes for gram in _grams(words, size).elements()]
        for part in parts:
            counts[row, zlib.crc32(part.encode()) % _BUCKETS] += 1
    rarity = np.log((1 + len(texts)) / (1 + (counts > 0).sum(0))) + 1
    return _unit(np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0.0) * rarity)


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))


def _basis(task: Task) -> Floats:
    """Return t and t² of each level's points, t from −1 to 1, [2, L]: tasks of other scales share the head."""
    points = np.array(task.levels)
    t = 2 * (points - points[0]) / (points[-1] - points[0]) - 1
    return np.stack([t, t**2])


def _standard(numbers: Floats, mean: Floats, spread: Floats) -> Floats:
    """Return standardised numbers and a 1, [N, F + 1]."""
    return np.pad(np.clip((numbers - mean) / spread, -4, 4), ((0, 0), (0, 1)), constant_values=1.0)


def _fit(tasks: Sequence[tuple[Floats, Floats, Ints]]) -> Floats:
    """Return the weights [F + 1, 2] of the logits Σ numbers · weights · basis, by Newton's method.

    Sums are einsum's, which no number of threads changes. tasks: Numbers [N, F + 1] of answers, the basis of the scale
    [2, L], and levels [N].
    """
    weights = np.zeros((_COUNT + 1, 2))
    penalty = np.full(weights.shape, _RIDGE)
    penalty[-1] = 1e-3
    for _ in range(_STEPS):
        gradient, hessian = -penalty * weights, np.diag(penalty.ravel())
        for numbers, basis, levels in tasks:
            shares = _softmax(np.einsum("nf,fk,kl->nl", numbers, weights, basis))
            mean = np.einsum("nl,kl->nk", shares, basis)
            gradient += np.einsum("nf,nk->fk", numbers, basis.T[levels] - mean)
            spread = np.einsum("nl,kl,jl->nkj", shares, basis, basis) - mean[:, :, None] * mean[:, None]
            hessian += np.einsum("nf,ng,nkj->fkgj", numbers, numbers, spread).reshape(hessian.shape)
        step = np.linalg.solve(hessian, gradient.ravel()).reshape(weights.shape)
        weights += step
        if np.abs(step).max() < _WITHIN:
            break
    return weights


def _softmax(logits: Floats) -> Floats:
    return normalised(np.exp(logits - logits.max(1, keepdims=True)))


def _likely(values: Floats) -> Floats:
    return normalised(np.maximum(values, _LEAST_SHARE))


def normalised(values: Floats) -> Floats:
    """Return positive numbers as probabilities. values: [N, L]."""
    return np.asarray(values / values.sum(1, keepdims=True))
