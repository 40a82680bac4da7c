"""Trials: settings of the engine measured in turn, each in a process of its own, with given or made-up texts."""

import multiprocessing
import random
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.runners.choose import RunnerChoice
from scoremux_engine.selftest import MADE_UP_WORDS
from scoremux_engine.store.reader import StoreReader
from scoremux_server.errors import SetupError

ROUNDS = 3
_FEWEST_ROWS = 96
_MOST_LINES = 100_000
_MOST_ROWS = 4096
# Made-up answers: a median of 17 words, one in twenty above 90, as in corpora of short answers.
_MEDIAN_WORDS, _SPREAD, _MOST_WORDS = 17, 1.0, 400


@dataclass(frozen=True)
class TrialRows:
    """The rows that every setting scores: texts and task ids."""

    texts: list[str]
    tasks: list[str]

    def __len__(self) -> int:
        return len(self.texts)


def read_sample(store: Path, file: Path | None) -> TrialRows:
    """Return rows in random order: a file's (.jsonl, .csv or .parquet, with `text` and maybe `task`), or made-up ones.

    Raises ScoremuxError where the store has no task, or the file cannot be read or has no text.
    """
    draw = random.Random(0)
    reader = StoreReader(store)
    tasks = reader.ids(reader.manifest())
    if not tasks:
        raise SetupError(f"{store} has no task to measure with; publish one with `scoremux tasks add`")
    rows = (
        list(islice(_read(file, set(tasks)), _MOST_LINES))
        if file
        else [(_made_up(draw), "") for _ in range(_MOST_ROWS)]
    )
    draw.shuffle(rows)
    rows = rows[:_MOST_ROWS]
    return TrialRows([text for text, _ in rows], [task or draw.choice(tasks) for _, task in rows])


def _read(file: Path, tasks: Container[str]) -> Iterator[tuple[str, str]]:
    from scoremux_files.rows.readers import read_rows, text_cell  # their memory is none of a measured setting's

    for number, row in enumerate(read_rows(file), start=1):
        task = str(row.get("task"))
        yield text_cell(file, number, row, "text"), task if task in tasks else ""


def _made_up(draw: random.Random) -> str:
    words = min(_MOST_WORDS, max(1, round(_MEDIAN_WORDS * draw.lognormvariate(0, _SPREAD))))
    return " ".join(draw.choices(MADE_UP_WORDS, k=words))


@dataclass
class Trial:
    """The measurements of one setting.

    rows_per_s: of each round; peak_bytes: most memory of the process; levels: of the rows that were checked.
    """

    choice: RunnerChoice
    rows_per_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    levels: list[int] = field(default_factory=list)

    @property
    def speed(self) -> float:
        """Median of the rounds, in rows per second."""
        return statistics.median(self.rows_per_s)

    def changed_from(self, reference: "Trial") -> int:
        """Return for how many of the checked rows the level differs from the reference's."""
        return sum(a != b for a, b in zip(self.levels, reference.levels, strict=True))

    def moved_tasks(self, reference: "Trial", tasks: Sequence[str], most_changed: float) -> dict[str, tuple[int, int]]:
        """Return the tasks of which too many levels differ from the reference's, with how many of how many do.

        `most_changed` is the largest share of a task's levels that may differ; one may in any case.
        """
        rows = list(zip(tasks, self.levels, reference.levels, strict=False))
        total, changed = Counter(task for task, _, _ in rows), Counter(task for task, a, b in rows if a != b)
        return {task: (n, total[task]) for task, n in changed.items() if n > max(1, most_changed * total[task])}


class Candidate:
    """A process with one engine. Raises RunnerError where this processor cannot run what `choice` says."""

    def __init__(self, repository: Path, store: Path | None, choice: RunnerChoice, sample: TrialRows) -> None:
        context = multiprocessing.get_context("spawn")
        self.choice = choice
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_measure, args=(theirs, repository, store, choice, sample), daemon=True)
        self._process.start()
        theirs.close()
        refused = self._receive()
        if refused:
            self.close()
            raise RunnerError(refused)

    def score(self, rows: int) -> tuple[float, int, list[int]]:
        """Score the first `rows` rows; return the seconds, the most memory so far in bytes, and the levels."""
        self._connection.send(rows)
        scored: tuple[float, int, list[int]] = self._receive()
        return scored

    def close(self) -> None:
        self._connection.close()
        self._process.terminate()
        self._process.join()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError as error:
            self._process.join()
            raise RunnerError(
                f"the process that measured {self.choice.name} {self.choice.precision} died "
                f"(exit status {self._process.exitcode})"
            ) from error


def run_trials(
    candidates: Sequence[Candidate], rows: int, checked: int, report: Callable[[str], None] = lambda _: None
) -> list[Trial]:
    """Measure every candidate in turn, round by round; the round before the first is not counted.

    The levels of the first `checked` rows are kept.
    """
    trials = [(candidate, Trial(candidate.choice)) for candidate in candidates]
    for number in range(ROUNDS + 1):
        for candidate, trial in trials:
            seconds, trial.peak_bytes, _ = candidate.score(rows)
            trial.rows_per_s += [rows / seconds] if number else []
        report(f"measured {len(trials)} settings with {rows} rows, round {number} of {ROUNDS}")
    for candidate, trial in trials:
        _, _, trial.levels = candidate.score(checked)
        report(f"levels of {checked} rows in {candidate.choice.name} {candidate.choice.precision}")
    return [trial for _, trial in trials]


def rows_for(candidate: Candidate, sample: TrialRows, seconds: float) -> int:
    """Return how many rows of the sample a candidate scores in about `seconds`."""
    few = min(_FEWEST_ROWS, len(sample))
    candidate.score(few)  # a shape's first run is slow
    taken_s, _, _ = candidate.score(few)
    return min(len(sample), max(_FEWEST_ROWS, round(few / taken_s * seconds)))


def _measure(
    connection: Connection, repository: Path, store: Path | None, choice: RunnerChoice, sample: TrialRows
) -> None:
    try:
        engine = Engine.open(repository, store=store, runner=choice)
    except RunnerError as error:
        connection.send(str(error))
        return
    connection.send("")
    while True:
        try:
            rows = connection.recv()
        except EOFError:
            return
        started = time.perf_counter()
        scored = engine.score(sample.texts[:rows], sample.tasks[:rows])
        seconds = time.perf_counter() - started
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        connection.send((seconds, peak_bytes, [s.level for s in scored]))
