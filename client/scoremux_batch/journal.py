"""The journal of a job: the job itself, and which parts are done. A line of JSON each, put on disk at once."""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_batch.job import Job
from scoremux_client.contract import TASK_PATTERN
from scoremux_files.atomic import append, sync, whole_lines
from scoremux_files.errors import InputError, parsing, writing
from scoremux_files.locks import lock_handle
from scoremux_files.rows.row_layout import FILE_START, Json, ReadPosition
from scoremux_files.rows.writers import JOURNAL, beside_parts

NO_TASK, OTHERS = "(no task id)", "(other tasks)"
_MOST_TASKS = 20_000


@dataclass
class JobState:
    """The progress of a job, and where it resumes.

    Attributes:
        source: Index of the source in which the next part begins.
        position: Where in that source the next part begins.
        counts: Rows by task and status.
        people: Rows by route, condition and read-behind, such as `route` and `human:LOW_CONFIDENCE`, and rows whose
            text was cut.
        arithmetic: Names of the arithmetics that the rows were computed in.
    """

    parts: int = 0
    source: int = 0
    position: ReadPosition = FILE_START
    rows: int = 0
    rejected: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    people: dict[str, Counter[str]] = field(default_factory=dict)
    arithmetic: set[str] = field(default_factory=set)

    @property
    def statuses(self) -> Counter[str]:
        return sum(self.counts.values(), Counter())

    def add(self, line: Json) -> None:
        """Count a part, given its line."""
        self.parts += line["files"]
        self.source, self.position = line["source"], ReadPosition(**line["position"])
        self.rows += line["rows"]
        self.rejected += line["rejected"]
        self.arithmetic.update(line.get("arithmetic", ()))
        for kind, rows in line["people"].items():
            self.people.setdefault(kind, Counter()).update(rows)
        for task, rows in line["counts"].items():
            self.counts.setdefault(tally_name(task, self.counts), Counter()).update(rows)


class Journal:
    """The open journal of a folder, locked: a second process gets an InputError.

    Attributes:
        resumed: Whether an earlier run began this job.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.path = beside_parts(folder, JOURNAL)
        self.state = JobState()
        self._arithmetic = set[str]()
        self._mixed_arithmetic = job.mixed_arithmetic
        with writing(self.path):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            sync(folder)
        try:
            with writing(self.path):
                try:
                    lock_handle(self._file, self.path, timeout_s=0)
                except BlockingIOError:
                    raise InputError(f"{folder}: another process is at work on this job") from None
                lines = whole_lines(self.path)
                with parsing(f"{self.path} is damaged; give another --out"):
                    self._resume(job, [json.loads(line) for line in lines])
            self.resumed = bool(lines)
            if not lines:
                job.sources[:] = [source.with_digest() for source in job.sources]
                self._append(job.as_json())
        except BaseException:
            os.close(self._file)
            raise

    def add(self, line: Json) -> None:
        """Add a part that is on disk. Raises InputError where it was computed in another arithmetic than the others."""
        self.check_arithmetic(line["arithmetic"])
        self._append(line)
        self.state.add(line)

    def check_arithmetic(self, names: Iterable[str]) -> None:
        """Note arithmetics of rows. Raises InputError where there are several, unless the job takes mixed ones."""
        self._arithmetic.update(names)
        self._arithmetic.discard("")
        names = self._arithmetic | self.state.arithmetic
        if len(names) > 1 and not self._mixed_arithmetic:
            raise InputError(
                f"{self.path.parent}: rows of one job were computed in {' and '.join(sorted(names))}, so that equal "
                "responses may get different scores; serve in one arithmetic, or allow it with --mixed-arithmetic"
            )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _resume(self, job: Job, lines: list[Json]) -> None:
        if lines:
            job.check_same(self.path, lines[0])
        parts: list[Json] = []
        for line in lines[1:]:
            # `--retry` of earlier versions appended lines that take the place of those of parts.
            place = line.get("replaces", len(parts))
            parts[place : place + 1] = [line]
        for line in parts:
            self.state.add(line)

    def _append(self, line: Json) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with writing(self.path):
            append(self.path, data)


def tally_name(task: str, names: Collection[str] = ()) -> str:
    """Return the name that rows of a task are counted under: its id, if it is one and there are not too many `names`.

    If columns were mistaken for each other, it is a student's text, and there are as many as rows.
    """
    if not TASK_PATTERN.fullmatch(task):
        return NO_TASK
    return task if task in names or len(names) < _MOST_TASKS else OTHERS
