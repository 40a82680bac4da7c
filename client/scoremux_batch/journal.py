"""The journal of a job: its sources and layout, and which parts are done. A line of JSON each, put on disk at once."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scoremux_batch.people import ForPeople
from scoremux_batch.sources import SourceFile
from scoremux_client.contract import TASK_PATTERN
from scoremux_files.atomic import sync, write_blocks
from scoremux_files.errors import InputError, parsing, writing
from scoremux_files.locks import lock_handle
from scoremux_files.rows.row_layout import FILE_START, ReadPosition, RowLayout
from scoremux_files.rows.writers import JOURNAL, beside_parts

_REPLACES = "replaces"
"""Key of a line that takes the place of the line of a part, which it counts from 0."""

NO_TASK, OTHERS = "(no task id)", "(other tasks)"
_FORMAT = 1
_MOST_TASKS = 20_000


@dataclass(frozen=True)
class Job:
    """What must be the same for a job to resume.

    Attributes:
        mixed_arithmetic: Whether rows may be computed in different arithmetics; it may change when the job is resumed.
        root: Folder of the sources and the output, which may move: the journal names sources as seen from there.
    """

    sources: list[SourceFile]
    layout: RowLayout
    people: ForPeople = field(default_factory=ForPeople)
    mixed_arithmetic: bool = False
    root: Path | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the journal's first line."""
        sources = [asdict(source) for source in self.sources]
        if self.root:
            sources = [{**s, "path": os.path.relpath(s["path"], self.root), "mtime_ns": 0} for s in sources]
        return {"format": _FORMAT, "layout": asdict(self.layout), "people": self.people.as_json(), "sources": sources}

    def check_same(self, path: Path, other: dict[str, Any]) -> None:
        """Take the digests of the sources, and the plan of `--read-behind`, from the first line of a journal.

        Raises InputError for another job's.
        """
        if other.get("format") != _FORMAT:
            raise InputError(f"{path} was written by another version of scoremux; score into another --out")
        options = other["layout"] | other["people"]
        if self.people.read_behind:
            self.people.read_behind.keep_plan(options["read_behind"])
        job = self.as_json()
        for name, value in (job["layout"] | job["people"]).items():
            before = options.get(name)
            if before != value:
                raise InputError(f"{path} is of another job: {name} was {before!r}, now {value!r}; give another --out")
        named = [s if self.root is None else {**s, "path": str(self.root / s["path"])} for s in other["sources"]]
        sources = {source["path"]: SourceFile(**source) for source in named}
        for place, source in enumerate(self.sources):
            if source.path not in sources:
                raise InputError(f"{path} is of another job: {source.path} was not in it; give another --out")
            before = sources.pop(source.path)
            if not source.is_same(before):
                raise InputError(f"{path}: {source.path} has changed since; restore it or give another --out")
            self.sources[place] = replace(source, sha256=before.sha256)
        if sources:
            raise InputError(f"{path} is of another job: {next(iter(sources))} was in it; give another --out")
        if [source.path for source in self.sources] != [source["path"] for source in named]:
            raise InputError(f"{path}: the sources were in another order; give another --out")


@dataclass
class JobState:
    """What is done, and where the job resumes.

    Attributes:
        source: Index of the source in which the next part begins.
        position: Where in that source the next part begins.
        counts: Rows by task and status.
        people: Rows by route, condition and read-behind, such as `route` and `human:LOW_CONFIDENCE`.
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

    def add(self, line: dict[str, Any]) -> None:
        """Count a part, given its line."""
        self.parts += line["files"]
        self.source, self.position = line["source"], ReadPosition(**line["position"])
        self.rows += line["rows"]
        self.rejected += line["rejected"]
        self._count(line)

    def replace(self, before: dict[str, Any], line: dict[str, Any]) -> None:
        """Count the rows of a part by its new line in place of the one before."""
        self.rows += line["rows"] - before["rows"]
        for kind, rows in before["people"].items():
            self.people[kind].subtract(rows)
        for task, rows in before["counts"].items():
            self.counts[tally_name(task, self.counts)].subtract(rows)
        self._count(line)
        self.people = {kind: +rows for kind, rows in self.people.items()}
        self.counts = {task: +rows for task, rows in self.counts.items()}

    def _count(self, line: dict[str, Any]) -> None:
        self.arithmetic.update(line.get("arithmetic", ()))
        for kind, rows in line["people"].items():
            self.people.setdefault(kind, Counter()).update(rows)
        for task, rows in line["counts"].items():
            self.counts.setdefault(tally_name(task, self.counts), Counter()).update(rows)


class Journal:
    """The open journal of a folder, locked: a second process gets an InputError.

    Attributes:
        lines: The journal's line of each part.
        resumed: Whether an earlier run began this job.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.path = beside_parts(folder, JOURNAL)
        self.state = JobState()
        self.lines: list[dict[str, Any]] = []
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
                lines = self._read()
                with parsing(f"{self.path} is damaged; give another --out"):
                    self._resume(job, [json.loads(line) for line in lines])
            self.resumed = bool(lines)
            if not lines:
                job.sources[:] = [source.with_digest() for source in job.sources]
                self._append(job.as_json())
        except BaseException:
            os.close(self._file)
            raise

    def add(self, line: dict[str, Any]) -> None:
        """Add a part that is on disk. Raises InputError where it was computed in another arithmetic than the others."""
        self._check_arithmetic(line)
        self._append(line)
        self.lines.append(line)
        self.state.add(line)

    def replace(self, place: int, line: dict[str, Any]) -> None:
        """Let the line of a part that was written again take the place of its line. Raises InputError as `add`."""
        self._check_arithmetic(line)
        self._append({_REPLACES: place, **line})
        self.state.replace(self.lines[place], line)
        self.lines[place] = line

    def _check_arithmetic(self, line: dict[str, Any]) -> None:
        names = self.state.arithmetic.union(line["arithmetic"])
        if len(names) > 1 and not self._mixed_arithmetic:
            raise InputError(
                f"{self.path.parent}: rows of one job were computed in {' and '.join(sorted(names))}, so that equal "
                "responses may get different scores; serve in one arithmetic, or allow it with --mixed-arithmetic"
            )

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _resume(self, job: Job, lines: list[dict[str, Any]]) -> None:
        if lines:
            job.check_same(self.path, lines[0])
        for line in lines[1:]:
            place = line.pop(_REPLACES, None)
            if place is None:
                self.lines.append(line)
            else:
                self.lines[place] = line
        for line in self.lines:
            self.state.add(line)

    def _read(self) -> list[bytes]:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        # A line that a crash cut short is of a part that is written again.
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        return whole.splitlines()

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with writing(self.path):
            write_blocks(self._file, [data])


def tally_name(task: str, names: Collection[str] = ()) -> str:
    """Return the name that rows of a task are counted under: its id, if it is one and there are not too many `names`.

    If columns were mistaken for each other, it is a student's text, and there are as many as rows.
    """
    if not TASK_PATTERN.fullmatch(task):
        return NO_TASK
    return task if task in names or len(names) < _MOST_TASKS else OTHERS
