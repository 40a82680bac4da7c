"""How well confidences are calibrated, whether promises are kept, and how many rows go to people.

    python -m benchmarks calibration --predictions PREDICTIONS.parquet… [--resamples 200] [--note NAME]

Predictions are out of fold: what `scoremux train` writes. Without any, corpora of known truth are made up: independent
rows, repeated texts, students who answer 1 to 20 tasks, a desk's weighted rows. Each resample draws so many labelled
rows a task, fits the policy on them, and counts on the task's other rows, or on new ones of a made-up corpus.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.case import case
from benchmarks.rows import Row
from scoremux_decide.decision import Decision, LevelRange
from scoremux_decide.policy import ScoringPolicy
from scoremux_evidence.figures.reliability import measure_confidence
from scoremux_evidence.promise.fit import fit
from scoremux_evidence.promise.ranges import Growth
from scoremux_evidence.promise.temperature import at_temperature, fit_temperatures
from scoremux_evidence.rows.table import Floats, Ints, Mask, Rows
from scoremux_files.rows.readers import read_rows

SIZES = (50, 100, 500)
EXACT, CONFIDENCE = 0.85, 0.9
_LEAST_REST = 20
_LATER = 40_000
"""Made-up rows that promises are counted on: with 4,000, the truth is off by 0.6 % itself."""
_AT_A_DESK = 4
"""Rows that a desk is shown, for each labelled row of the size."""
Tasks = Mapping[str, Rows]


def read(path: Path) -> dict[str, Rows]:
    """Return out-of-fold rows by task."""
    columns: dict[str, list[tuple[list[float], int]]] = {}
    for row in read_rows(path):
        columns.setdefault(str(row["task"]), []).append((list(row["probabilities"]), int(row["level"])))
    return {
        task: _rows(np.array([p for p, _ in rows]), np.array([human for _, human in rows]))
        for task, rows in columns.items()
    }


@dataclass(frozen=True)
class MadeUpTask:
    """A task whose machine is bolder or more timid than it should be.

    Attributes:
        levels: How many it has.
        spread: Of the Dirichlet distribution of true probabilities; the greater, the harder the task.
        boldness: The machine states p ** boldness, normalised.
        habit: How far a student's rows are wrong or right together, 0 to 1.
    """

    levels: int
    spread: float
    boldness: float
    habit: float = 0.0

    def draw(self, random: np.random.Generator, luck: Floats) -> Rows:
        """Return a row for each entry of `luck`: numbers from 0 to 1, the same for all rows of a student."""
        rows = len(luck)
        true = random.dirichlet(np.full(self.levels, self.spread), rows)
        stated = np.maximum(true, 1e-6) ** self.boldness
        level = stated.argmax(axis=1)
        chance = np.where(random.random(rows) < self.habit, luck, random.random(rows))
        # The likeliest level comes first, so that an unlucky student's levels are wrong together.
        ranked = np.argsort(-true, axis=1, kind="stable")
        place = (np.take_along_axis(true, ranked, axis=1).cumsum(axis=1) < chance[:, None]).sum(axis=1)
        human = ranked[np.arange(rows), place.clip(max=self.levels - 1)]
        made = _rows(stated / stated.sum(axis=1, keepdims=True), human)
        return made.plus(machine=level)


def make_up(seed: int = 5, tasks: int = 27, habit: float = 0.0) -> dict[str, MadeUpTask]:
    """Return tasks of different difficulty."""
    random = np.random.default_rng(seed)
    return {
        f"t-{n}": MadeUpTask(int(random.integers(2, 6)), random.uniform(0.08, 0.8), random.uniform(0.6, 2.5), habit)
        for n in range(tasks)
    }


@dataclass(frozen=True)
class Corpus:
    """What resamples are drawn from: rows, or made-up tasks with the same question of truth.

    Attributes:
        tasks: Rows by task; empty for made-up ones.
        made_up: Made-up tasks; empty for rows.
        copies: Share of the rows of made-up tasks that repeat another's text.
        answers: How many tasks a made-up student answers at most.
        behind: The share of confident rows of made-up tasks that a desk reads, and all others; 0: rows are a sample.
    """

    tasks: Tasks = field(default_factory=dict)
    made_up: Mapping[str, MadeUpTask] = field(default_factory=dict)
    copies: float = 0.0
    answers: int = 1
    behind: float = 0.0

    @cached_property
    def later(self) -> dict[str, Rows]:
        """Rows of made-up tasks that nobody labels."""
        random = np.random.default_rng(77)
        return {name: task.draw(random, random.random(_LATER)) for name, task in self.made_up.items()}

    def draw(self, random: np.random.Generator, size: int) -> tuple[dict[str, Rows], dict[str, Rows]]:
        """Return labelled rows of each task, and the rows that promises are counted on."""
        if not self.made_up:
            return _draw(random, self.tasks, size)
        students = _students(random, list(self.made_up), size, self.answers)
        luck = random.random(1 + max(int(student.max()) for student in students.values()))
        drawn = {}
        for name, task in self.made_up.items():
            who = students[name] if self.answers > 1 else np.full(size, -1)
            rows = task.draw(random, luck[students[name]]).plus(student=who)
            if self.copies:
                text = np.where(random.random(size) < self.copies, random.integers(0, max(1, size // 10), size), 0)
                text = np.where(text > 0, text, np.arange(size))
                rows = rows.where(text).plus(text=text)
            if self.behind:
                rows = _read_at_a_desk(random, task.draw(random, random.random(_AT_A_DESK * size)), self.behind)
            drawn[name] = rows
        return drawn, self.later


def expected_error(tasks: Tasks, folds: int = 5, seed: int = 0) -> tuple[float, float, int]:
    """Return the calibration error of all rows before and after, and for how many tasks it fell; ten bins.

    The rows of each fold get the temperatures that the other folds' rows have.
    """
    random = np.random.default_rng(seed)
    fold = {task: random.permutation(len(rows)) % folds for task, rows in tasks.items()}
    before = {task: _confidence(rows, 1.0) for task, rows in tasks.items()}
    after = {task: np.zeros(len(rows)) for task, rows in tasks.items()}
    for number in range(folds):
        kept = [rows.where(fold[task] != number) for task, rows in tasks.items()]
        for (task, rows), value in zip(tasks.items(), fit_temperatures(kept)[1], strict=True):
            out = fold[task] == number
            after[task][out] = _confidence(rows.where(out), value)
    right = {task: (rows.machine == rows.human) for task, rows in tasks.items()}
    fell = sum(
        calibration_error(after[task], right[task]) < calibration_error(before[task], right[task]) for task in tasks
    )
    whole = [np.concatenate([values[task] for task in tasks]) for values in (before, after, right)]
    return calibration_error(whole[0], whole[2]), calibration_error(whole[1], whole[2]), fell


def keep_promises(corpus: Corpus, size: int, resamples: int, seed: int = 1) -> dict[str, float]:
    """Return how often promises and ranges held on the rows that were not drawn, and the share sent to people.

    Of thresholds of tasks' own (`own`) and of one that they share (`pooled`):

    kept: the share of cases in which the rows left to the machine met the target, which they do where it is left none;
    worst_task: the same of one task; chosen: the share of cases in which it was left some; broken_where_chosen: of
    those, the share that missed the target; people: the share of rows sent to people; together: the share of resamples
    in which the rows of all tasks together met the target. ranges_held: the share of rows whose range of levels holds
    the human's; ranges_held_worst_task: of one task; ranges_held_worst_level: of those of one task to which the machine
    gave one level, if they are at least one in fifty of the task's; pooled_ranges_held…: of tasks that share rows.
    """
    random = np.random.default_rng(seed)
    target = {"target": {"exact": EXACT, "confidence": CONFIDENCE}}
    policies = {"own": {"own": 1, "new": 0}, "pooled": {"own": 1 << 30, "new": 0}}
    outcomes = {name: _Outcomes() for name in policies}
    held: dict[str, dict[tuple[str, int], Floats]] = {name: defaultdict(lambda: np.zeros(2)) for name in policies}
    for _ in range(resamples):
        drawn, later = corpus.draw(random, size)
        for name, rows in policies.items():
            decisions = fit(ScoringPolicy.model_validate({**target, "rows": rows}), drawn).decisions
            outcomes[name].add(decisions, later)
            for task, of_task in later.items():
                _count_held(held[name], task, decisions[task], of_task)
    figures = _ranges_held(held["own"]) | {
        f"pooled_{name}": value for name, value in _ranges_held(held["pooled"]).items()
    }
    for name, outcome in outcomes.items():
        figures |= outcome.figures(name)
    return figures


@dataclass
class _Outcomes:
    """What became of thresholds, a row a resample, a column a task.

    Attributes:
        wrong: The share of errors in what the machine kept, NaN where it kept nothing.
        people: The share of rows sent to people.
        together: The share of errors in what the machine kept of all tasks.
    """

    wrong: list[list[float]] = field(default_factory=list)
    people: list[list[float]] = field(default_factory=list)
    together: list[float] = field(default_factory=list)

    def add(self, decisions: Mapping[str, Decision], later: Tasks) -> None:
        """Count decisions on rows to come."""
        wrong, people, errors = [], [], []
        for task, rows in later.items():
            decision = decisions[task]
            assert decision.temperature is not None and decision.threshold is not None
            least = decision.threshold.least
            machine = _confidence(rows, decision.temperature.value) >= (np.inf if least is None else least)
            kept = (rows.machine != rows.human)[machine]
            wrong.append(float(kept.mean()) if len(kept) else np.nan)
            people.append(1 - float(machine.mean()))
            errors.append(kept)
        together = np.concatenate(errors)
        self.wrong.append(wrong)
        self.people.append(people)
        self.together.append(float(together.mean()) if len(together) else 0.0)

    def figures(self, name: str) -> dict[str, float]:
        """Return the figures of a result row."""
        wrong, most = np.array(self.wrong), 1 - EXACT
        chosen, broken = ~np.isnan(wrong), np.nan_to_num(wrong, nan=0.0) > most
        return {
            f"{name}_kept": float(1 - broken.mean()),
            f"{name}_worst_task": float(1 - broken.mean(axis=0).max()),
            f"{name}_chosen": float(chosen.mean()),
            f"{name}_broken_where_chosen": float(broken.sum() / max(1, chosen.sum())),
            f"{name}_people": float(np.mean(self.people)),
            f"{name}_together": float((np.array(self.together) <= most).mean()),
        }


def covers(growth: Growth, level_range: LevelRange) -> Mask:
    """Return whether each row's range holds the human's level."""
    reach = np.array([level_range.reach_of(level) for level in growth.level])
    return np.asarray((growth.needed <= reach) | (reach >= 1))


def _draw(random: np.random.Generator, tasks: Tasks, size: int) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Draw from rows; a task with too few for the size is drawn from with replacement, and counted on all its rows."""
    drawn, rest = {}, {}
    for name, rows in tasks.items():
        small = len(rows) <= size + _LEAST_REST
        picked = random.choice(len(rows), size, replace=small)
        drawn[name] = rows.where(picked)
        rest[name] = rows if small else rows.where(np.setdiff1d(np.arange(len(rows)), picked))
    return drawn, rest


def _read_at_a_desk(random: np.random.Generator, rows: Rows, behind: float) -> Rows:
    """Return all rows below the median confidence and a share of those above, weighted."""
    confidence = _confidence(rows, 1.0)
    chance = np.where(confidence < np.median(confidence), 1.0, behind)
    picked = random.random(len(rows)) < chance
    return rows.where(picked).plus(weight=1 / chance[picked])


def _students(random: np.random.Generator, tasks: Sequence[str], size: int, answers: int) -> dict[str, Ints]:
    """Return who answered each task's rows: each student answers 1 to `answers` tasks."""
    waiting = dict.fromkeys(tasks, size)
    students: dict[str, list[int]] = {name: [] for name in tasks}
    student = 0
    while any(waiting.values()):
        left = [name for name in tasks if waiting[name]]
        for name in random.permutation(left)[: random.integers(1, answers + 1)]:
            students[name].append(student)
            waiting[name] -= 1
        student += 1
    return {name: np.array(numbers, dtype=np.int64) for name, numbers in students.items()}


def _count_held(held: dict[tuple[str, int], Floats], task: str, decision: Decision, rows: Rows) -> None:
    """Add to each level of the machine how many rows' ranges hold the human's level, and how many rows there are."""
    assert decision.temperature is not None and decision.level_range is not None
    growth = Growth.of(rows, at_temperature(rows, decision.temperature.value))
    inside = covers(growth, decision.level_range)
    for level in np.unique(rows.machine):
        held[task, int(level)] += inside[rows.machine == level].sum(), (rows.machine == level).sum()


def _ranges_held(held: Mapping[tuple[str, int], Floats]) -> dict[str, float]:
    of_task: dict[str, Floats] = defaultdict(lambda: np.zeros(2))
    for (task, _), counts in held.items():
        of_task[task] += counts
    shares = [inside / rows for inside, rows in of_task.values()]
    levels = [inside / rows for (task, _), (inside, rows) in held.items() if rows >= of_task[task][1] / 50]
    return {
        "ranges_held": float(np.mean(shares)),
        "ranges_held_worst_task": min(shares),
        "ranges_held_worst_level": min(levels),
    }


def _confidence(rows: Rows, temperature: float) -> Floats:
    """Return confidences as the scorer computes them, but for last bits."""
    shares = at_temperature(rows, temperature)
    return np.asarray(shares[np.arange(len(rows)), rows.machine].astype(np.float32).astype(np.float64))


def _rows(probabilities: Floats, human: Ints) -> Rows:
    stated = probabilities.astype(np.float32).astype(np.float64)
    unknown = np.full(len(human), -1)
    return Rows.of(
        probabilities=stated,
        machine=stated.argmax(axis=1),
        human=human.astype(np.int64),
        second=np.full(len(human), np.nan),
        weight=np.ones(len(human)),
        student=unknown,
        text=unknown,
    )


def calibration_error(confidence: Floats, right: Mask) -> float:
    """Return the expected calibration error, in tenths of confidence."""
    one = np.zeros(len(confidence), np.int64)
    return float(measure_confidence(confidence, right, np.ones(len(confidence)), one, 1).error[-1])


KEPT = "; ".join(f"{of}: promise kept = {of}_kept:.2f; to people = {of}_people:.2f" for of in ("own", "pooled"))


@case(
    columns=(
        "corpus; note; labelled rows a task = labelled; exact agreement = exact:.3f; "
        f"calibration error = ece_before:.3f; after = ece_after:.3f; {KEPT}; "
        "ranges that hold the human's level = ranges_held:.3f"
    ),
    keys="corpus note what labelled",
    options={
        "--predictions": {"nargs": "*", "type": Path, "default": [], "help": "out of fold; default: made-up corpora"},
        "--resamples": {"type": int, "default": 200},
        "--sizes": {"type": int, "nargs": "*", "default": SIZES, "help": "labelled rows a task"},
        "--note": {"default": "", "help": "what the predictions come from"},
    },
)
def calibration(arguments: argparse.Namespace, _work: Path) -> Iterator[Row]:
    """How well confidences are calibrated, whether promises are kept, and how many rows go to people."""
    corpora = {path.stem: Corpus(read(path)) for path in arguments.predictions} or {
        "made up": Corpus(made_up=make_up()),
        "made up, repeated texts": Corpus(made_up=make_up(), copies=0.3),
        "made up, students": Corpus(made_up=make_up(habit=0.3), answers=20),
        "made up, a desk's rows": Corpus(made_up=make_up(), behind=0.1),
    }
    for name, corpus in corpora.items():
        base = {"corpus": name, "note": arguments.note, "tasks": len(corpus.tasks) or len(corpus.made_up)}
        if corpus.tasks:
            before, after, fell = expected_error(corpus.tasks)
            agreement = float(np.mean(np.concatenate([(rows.machine == rows.human) for rows in corpus.tasks.values()])))
            figures = {"exact": agreement, "ece_before": before, "ece_after": after, "ece_fell_for": fell}
            rows = sum(map(len, corpus.tasks.values()))
            yield {**base, "rows": rows, "what": "calibration", **figures}
        for size in arguments.sizes:
            kept = keep_promises(corpus, size, arguments.resamples)
            yield {**base, "what": "promises", "labelled": size, "resamples": arguments.resamples, **kept}
