"""What a job does for people beside scoring: it picks rows that they score too, and writes alerts.

An alert is a row for which a task of the programme's own, the alert task, gives any level but its lowest with at least
a threshold's probability. It is on disk before the job goes on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from scoremux_client.contract import MACHINE, TASK_PATTERN, Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Response, Scored
from scoremux_files.atomic import append, sync

ALERTS = "alerts"
KEY_BYTES = 16
"""Shortest key that is taken: a shorter one can be guessed."""

_TASK_AT_FAULT = (Status.UNKNOWN_TASK, Status.INVALID_TASK, Status.FORBIDDEN_TASK, Status.TASK_UNAVAILABLE)


class Client(Protocol):
    """What a job needs of a `ScoringClient`."""

    def score_iter(self, responses: Iterable[Response]) -> Iterator[Scored]: ...


@dataclass(frozen=True)
class ReadBehind:
    """A share of the rows that the machine decides, picked by a keyed hash of task and id: the same ones each time."""

    share: float
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, share: float, key_file: Path) -> ReadBehind:
        """Read the key; white space around it does not count. Raises InputError."""
        try:
            key = key_file.read_bytes().strip()
        except OSError as error:
            raise InputError(f"{key_file} cannot be read: {error.strerror or error}") from error
        if len(key) < KEY_BYTES:
            raise InputError(f"the key in {key_file} has {len(key)} bytes; it takes {KEY_BYTES} at least")
        return cls(share, key)

    def picks(self, task: str, id_: str, scored: Scored) -> bool:
        """Return whether people score this row too."""
        if scored.route != MACHINE:
            return False
        said = f"{task.partition('@')[0]}\0{id_}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(self.key, said, "sha256")[:8], "big") < self.share * 2**64


@dataclass(frozen=True)
class Alert:
    """The alert task, and the probability from which a row is one."""

    task: str
    threshold: float

    @classmethod
    def of(cls, said: str) -> Alert:
        """Read ``TASK:THRESHOLD``. Raises InputError."""
        task, _, number = said.rpartition(":")
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if not TASK_PATTERN.fullmatch(task) or not 0 < threshold <= 1:
            raise InputError("--alert is TASK:THRESHOLD, such as danger:0.3, with a threshold above 0 and at most 1")
        return cls(task, threshold)

    def line(self, checked: Scored) -> dict[str, Any] | None:
        """Return what an alert's line says of the alert task; None for a row that is none.

        A row that the alert task cannot score is an alert too: nobody knows what it says. Raises InputError if it is
        not the row that is at fault.
        """
        if checked.status in _TASK_AT_FAULT:
            raise InputError(f"the alert task {self.task} cannot be scored: {checked.status}")
        if checked.status is Status.CONDITION:
            return None
        probability = sum(checked.probabilities[1:]) if checked.ok else None
        if probability is not None and probability < self.threshold:
            return None
        found = {"alert_task": self.task, "status": checked.status.value, "probability": probability}
        return {**found, "version": checked.version}


@dataclass(frozen=True)
class ForPeople:
    """read_behind, alert: None for neither. alerts: the folder of alerts."""

    read_behind: ReadBehind | None = None
    alert: Alert | None = None
    alerts: Path = Path(ALERTS)

    def as_json(self) -> dict[str, Any]:
        """Return what must be the same for a job to resume; of the key, no more than tells it from others."""
        behind, alert = self.read_behind, self.alert
        return {
            "read_behind": behind and {"share": behind.share, "key": hashlib.sha256(b"key" + behind.key).hexdigest()},
            "alert": alert and {"task": alert.task, "threshold": alert.threshold},
        }

    def outcomes(
        self, client: Client, responses: Iterator[Response], place: Callable[[], tuple[int, str]]
    ) -> Iterator[Scored]:
        """Yield the outcome of each response; each alert is on disk before the outcome after it is asked for.

        Args:
            client: What scores.
            responses: The rows, their ids as `row_name` makes them.
            place: Tells the part and the source of the row that is next.
        """
        if self.alert is None:
            yield from client.score_iter(responses)
            return
        sent: deque[Response] = deque()
        outcomes = client.score_iter(_doubled(responses, self.alert.task, sent))
        file = _AlertFile(self.alerts)
        try:
            for own in outcomes:
                line = self.alert.line(next(outcomes))
                row = sent.popleft()
                if line is not None:
                    file.write(*place(), row, line)
                yield own
        finally:
            outcomes.close()  # type: ignore[attr-defined]


def row_name(line: int, id_: str) -> str:
    """Return the name of a row within its source."""
    return f"{line}:{id_}"


def count_alerts(folder: Path) -> int:
    """Return how many alerts there are."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("part-*.jsonl"))


def _doubled(responses: Iterator[Response], task: str, sent: deque[Response]) -> Iterator[Response]:
    for response in responses:
        sent.append(Response(response.task, "", response.id))
        yield response
        yield Response(task, response.text)


class _AlertFile:
    """The alerts of one part after the other, each in a file of its own. Lines that are there are not repeated."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = -1
        self._there: set[tuple[str, int]] = set()

    def write(self, part: int, source: str, row: Response, line: dict[str, Any]) -> None:
        """Append one alert, durably."""
        path = self._folder / f"part-{part:06}.jsonl"
        number, _, id_ = (row.id or "0:").partition(":")
        try:
            if part != self._part:
                self._part, self._there = part, self._open(path)
            if (source, int(number)) not in self._there:
                whole = {"source": source, "line": int(number), "id": id_, "task": row.task, **line}
                append(path, json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                self._there.add((source, int(number)))
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from error

    def _open(self, path: Path) -> set[tuple[str, int]]:
        """Make the file; return the rows that are in it already. A line that a crash cut short is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        append(path, b"")
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        os.truncate(path, len(whole))
        if new:
            sync(self._folder)
            sync(self._folder.parent)
        return {(found["source"], found["line"]) for found in map(json.loads, whole.splitlines())}
