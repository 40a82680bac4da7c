"""The journal of a job: its sources and layout, and which parts are done. A line of JSON each, put on disk at once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scoremux_cli.batch.people import ForPeople
from scoremux_cli.batch.sources import Source
from scoremux_client.contract import TASK_PATTERN
from scoremux_client.errors import InputError
from scoremux_files.atomic import sync, write_blocks
from scoremux_files.locks import lock_handle
from scoremux_files.rows.records import ReadPosition, RowLayout

NAME = "journal.jsonl"
NO_TASK, OTHERS = "(no task id)", "(other tasks)"
_FORMAT = 4
_MOST_TASKS = 20_000


@dataclass(frozen=True)
class Job:
    """What must be the same for a job to resume: its sources, how they are read and divided, what people get."""

    sources: list[Source]
    layout: RowLayout
    people: ForPeople = field(default_factory=ForPeople)

    def as_json(self) -> dict[str, Any]:
        """Return the journal's first line."""
        sources = [asdict(source) for source in self.sources]
        return {"format": _FORMAT, "layout": asdict(self.layout), "people": self.people.as_json(), "sources": sources}

    def refuse_other(self, path: Path, other: dict[str, Any]) -> None:
        """Raise InputError naming the difference if `other`, the first line of a journal, is of another job."""
        own = self.as_json()
        if other.get("format") != _FORMAT:
            raise InputError(f"{path} was written by another version of scoremux; give another --out")
        for name, value in own["layout"].items():
            if other["layout"].get(name) != value:
                was = other["layout"].get(name)
                raise InputError(f"{path} is of another job: {name} was {was!r}, now {value!r}; give another --out")
        for name, value in own["people"].items():
            if other["people"].get(name) != value:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{path} is of another job: {option} or its key was another; give another --out")
        before = {source["path"]: source for source in other["sources"]}
        for source in own["sources"]:
            if source["path"] not in before:
                raise InputError(f"{path} is of another job: {source['path']} was not in it; give another --out")
            if before.pop(source["path"]) != source:
                raise InputError(f"{path}: {source['path']} has changed since; restore it or give another --out")
        if before:
            raise InputError(f"{path} is of another job: {next(iter(before))} was in it; give another --out")
        if own["sources"] != other["sources"]:
            raise InputError(f"{path}: the sources were in another order; give another --out")


@dataclass
class Done:
    """What is done: parts in order, where to resume, and counts.

    counts: task → status → rows. people: what became of rows, such as `human:LOW_CONFIDENCE` → rows.
    """

    parts: int = 0
    source: int = 0
    place: ReadPosition = field(default_factory=ReadPosition)
    rows: int = 0
    rejected: int = 0
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    people: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Count a part, given its line."""
        self.parts += line["files"]
        self.source, self.place = line["source"], ReadPosition(**line["place"])
        self.rows += line["rows"]
        self.rejected += line["rejected"]
        for kind, rows_of in line["people"].items():
            have = self.people.setdefault(kind, {})
            for name, rows in rows_of.items():
                have[name] = have.get(name, 0) + rows
        for task, statuses in line["counts"].items():
            known = self.counts.setdefault(tally_name(task, self.counts), {})
            for status, rows in statuses.items():
                known[status] = known.get(status, 0) + rows


class Journal:
    """The open journal of a folder, locked: a second process gets an InputError.

    resumed: whether the job had begun before.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        self.path = folder / NAME
        self.done = Done()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock()
            lines = self._read()
            self.resumed = bool(lines)
            if lines:
                job.refuse_other(self.path, lines[0])
            else:
                self._append(job.as_json())
                sync(folder)
            for line in lines[1:]:
                self.done.add(line)
        except BaseException:
            os.close(self._file)
            raise

    def add(self, line: dict[str, Any]) -> None:
        """Add a part that is on disk."""
        self._append(line)
        self.done.add(line)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def _lock(self) -> None:
        try:
            lock_handle(self._file, self.path, timeout_s=0)
        except BlockingIOError:
            raise InputError(f"{self.path.parent}: another process is at work on this job") from None

    def _read(self) -> list[dict[str, Any]]:
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        # A line that a crash cut short is of a part that is written again.
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise InputError(f"{self.path} is damaged; give another --out") from error

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        write_blocks(self._file, [data])


def tally_name(task: str, known: Collection[str] = ()) -> str:
    """Return the name that rows of a task are counted under: its id, if it is one and not too many are `known`.

    If columns were mistaken for each other, it is a student's text, and there are as many as rows.
    """
    if not TASK_PATTERN.fullmatch(task):
        return NO_TASK
    return task if task in known or len(known) < _MOST_TASKS else OTHERS
