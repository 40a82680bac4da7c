"""The work of a job for people: it picks rows that they score too, writes alerts and adds condition codes.

An alert is a row for which a task of the programme's own, the alert task, gives any level but its lowest with at least
a threshold's probability. It is on disk before the job continues. A condition task gives codes in the same way.
"""

import hmac
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from scoremux_client.contract import CONDITION_CODES, HUMAN, MACHINE, TASK_PATTERN, Reason, Status
from scoremux_client.rows import Scored
from scoremux_files.atomic import append, sync, whole_lines
from scoremux_files.digests import digest_of, read_key
from scoremux_files.errors import InputError, parsing, reading, writing
from scoremux_files.rows.row_layout import Json

ALERTS = "alerts"

_TASK_AT_FAULT = (Status.UNKNOWN_TASK, Status.INVALID_TASK, Status.FORBIDDEN_TASK, Status.TASK_UNAVAILABLE)


@dataclass(frozen=True)
class ReadBehind:
    """A share of the rows that the machine decides, picked by a keyed hash of task, id and administration.

    All traits of a response are picked together: the hash is of the item then.

    Attributes:
        share: Of all tasks, or by task; one that is not named gets the greatest.
    """

    share: float | dict[str, float]
    key: bytes = field(repr=False)

    @classmethod
    def read(cls, option: str, key_file: Path | None) -> "ReadBehind":
        """Read a share, or the JSON file of `scoremux watch` with those of tasks; and the key. Raises InputError."""
        if key_file is None:
            raise InputError("--read-behind needs --key-file: a file with a secret of 16 bytes or more")
        wrong = InputError(
            f"--read-behind {option}: give a share from 0 to 1, or the .json file of `scoremux watch --out`"
        )
        try:
            values: Json = {"": option}
            if option.endswith(".json"):
                with reading(Path(option)):
                    values = json.loads(Path(option).read_text(encoding="utf-8"))["read_behind"]
            shares = {task: float(share) for task, share in values.items()}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise wrong from error
        if not shares:
            raise InputError(f"--read-behind {option} plans no reads, as it has no task with a promise; give a share")
        if not all(0 <= share <= 1 for share in shares.values()):
            raise wrong
        return cls(shares.get("", shares), read_key(key_file))

    def keep_plan(self, before: Any) -> None:
        """Replace the shares of a plan by those in the journal: `scoremux watch` replaces its file each morning."""
        if isinstance(self.share, dict) and isinstance((before or {}).get("share"), dict):
            self.share.clear()
            self.share.update(before["share"])

    def share_of(self, task: str, trait: str = "") -> float:
        """Return the share of a task's rows that is picked; for the trait of an item, the greatest of its traits."""
        if isinstance(self.share, float):
            return self.share
        drawn = _drawn(task, trait)
        own = [share for name, share in self.share.items() if name == drawn or (trait and name.startswith(f"{drawn}."))]
        return max(own or self.share.values())

    def picks(self, task: str, row_id: str, scored: Scored, administration: str | None = None, trait: str = "") -> bool:
        """Return whether people score this row too; equal ids of several administrations are picked apart."""
        if scored.route != MACHINE:
            return False
        of = f"\0{administration}" if administration else ""
        name = f"{_drawn(task, trait)}\0{row_id}{of}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(self.key, name, "sha256")[:8], "big") < self.share_of(task, trait) * 2**64


def _drawn(task: str, trait: str) -> str:
    """Return the id that a row is drawn by: that of its task, or of the item that it is a trait of."""
    name = task.partition("@")[0]
    return name.removesuffix(f".{trait}") if trait else name


@dataclass(frozen=True)
class Alert:
    """The alert task, and the probability from which a row is an alert."""

    task: str
    threshold: float

    @classmethod
    def parse(cls, option: str) -> "Alert":
        """Read ``TASK:THRESHOLD``. Raises InputError."""
        task, _, number = option.rpartition(":")
        if (threshold := _threshold(task, number)) is None:
            raise InputError("--alert is TASK:THRESHOLD, such as danger:0.3, with a threshold above 0 and at most 1")
        return cls(task, threshold)

    def describe(self, outcome: Scored) -> Json | None:
        """Return the alert for an outcome of the alert task, None if the row is not an alert.

        A row that the alert task cannot score is an alert too, because it may say anything. Raises InputError where the
        task is at fault, not the row.
        """
        _refuse_faulty(self.task, outcome)
        probability = sum(outcome.probabilities[1:]) if outcome.ok else None
        if outcome.status is Status.CONDITION or (probability is not None and probability < self.threshold):
            return None
        return {
            "alert_task": self.task,
            "status": outcome.status.value,
            "probability": probability,
            "version": outcome.version,
        }


@dataclass(frozen=True)
class ConditionTask:
    """A task that gives condition codes.

    Attributes:
        codes: A condition code for each level above 0, in order.
        threshold: The probability of levels above 0 from which a row gets the likeliest one's code.
    """

    task: str
    codes: str
    threshold: float

    @classmethod
    def parse(cls, option: str) -> "ConditionTask":
        """Read ``TASK:CODES:THRESHOLD``. Raises InputError."""
        task, codes, number = [*option.rsplit(":", 2), "", ""][:3]
        if (threshold := _threshold(task, number)) is None or not codes or set(codes) - CONDITION_CODES.keys():
            raise InputError(
                "--condition is TASK:CODES:THRESHOLD, such as au:AU:0.9, with a condition code for each level above 0 "
                "and a threshold above 0 and at most 1"
            )
        return cls(task, codes, threshold)

    def add(self, scored: Scored, outcome: Scored) -> Scored:
        """Return a row with the code that the condition task's outcome gives it, for people to look at.

        A row without a score, or with a code of its own task's rules, stays as it is. A row that the condition task
        cannot score goes to people without a code. Raises InputError where the task is at fault, not the row.
        """
        _refuse_faulty(self.task, outcome)
        if scored.traits:
            return scored.with_parts([self.add(part, outcome) for part in scored.parts])
        if outcome.ok and len(outcome.probabilities) != len(self.codes) + 1:
            raise InputError(
                f"--condition names {len(self.codes)} codes; {self.task} has another number of levels above 0"
            )
        above, unknown = outcome.probabilities[1:], not outcome.ok and outcome.status is not Status.CONDITION
        if not scored.ok or scored.condition or not (unknown or sum(above) >= self.threshold):
            return scored
        code = "" if unknown else self.codes[above.index(max(above))]
        return replace(scored, condition=code, route=f"{HUMAN}{Reason.CONDITION.value}")


def _threshold(task: str, number: str) -> float | None:
    """Return a threshold; None unless it is a probability above 0, and `task` the id of a task."""
    try:
        threshold = float(number)
    except ValueError:
        return None
    return threshold if TASK_PATTERN.fullmatch(task) and 0 < threshold <= 1 else None


def _refuse_faulty(task: str, outcome: Scored) -> None:
    if outcome.status in _TASK_AT_FAULT:
        raise InputError(f"the task {task} of --alert or --condition cannot be scored: {outcome.status}")
    if outcome.ok and not outcome.probabilities:
        raise InputError(f"the task {task} of --alert or --condition has a head of one value, without probabilities")


@dataclass(frozen=True)
class ForPeople:
    """The options of a job for people: rows to read behind, alerts and condition codes."""

    read_behind: ReadBehind | None = None
    alert: Alert | None = None
    alerts: Path = Path(ALERTS)
    condition: ConditionTask | None = None

    @classmethod
    def read(
        cls,
        read_behind: str,
        key_file: Path | None,
        alert: str | None,
        condition: str | None = None,
        alerts: Path = Path(ALERTS),
    ) -> "ForPeople":
        """Read the options of `scoremux score`; empty ones are not given. Raises InputError."""
        return cls(
            read_behind=ReadBehind.read(read_behind, key_file) if read_behind else None,
            alert=Alert.parse(alert) if alert else None,
            alerts=alerts,
            condition=ConditionTask.parse(condition) if condition else None,
        )

    @property
    def tasks(self) -> list[str]:
        """The tasks that each row is scored for beside its own, in order."""
        return [part.task for part in (self.alert, self.condition) if part]

    def as_json(self) -> Json:
        """Return the options that must be the same for a job to resume; of the key, only a digest."""
        behind = self.read_behind
        return {
            "read_behind": behind and {"share": behind.share, "key": digest_of([b"key", behind.key])},
            "alert": self.alert and asdict(self.alert),
            "condition": self.condition and asdict(self.condition),
        }


class AlertFiles:
    """The alerts of one part after the other, each part in a file of its own. No row is written twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._part = -1
        self._rows: set[tuple[str, int]] = set()

    def add(self, part: int, alert: Json) -> None:
        """Append one alert durably, unless its source and line are in the part's file already. Raises InputError."""
        path = self._folder / f"part-{part:06}.jsonl"
        row = (alert["source"], alert["line"])
        with writing(path):
            if part != self._part:
                self._part, self._rows = part, self._open(path)
            if row not in self._rows:
                append(path, json.dumps(alert, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                self._rows.add(row)

    def _open(self, path: Path) -> set[tuple[str, int]]:
        """Create the file; return the rows that are in it already. A line that a crash cut short is removed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        append(path, b"")
        lines = whole_lines(path)
        if new:
            sync(self._folder)
            sync(self._folder.parent)
        with parsing(f"{path} is damaged; give another --out"):
            return {(alert["source"], alert["line"]) for alert in map(json.loads, lines)}


def count_alerts(folder: Path) -> int:
    """Return how many alerts there are."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("part-*.jsonl"))
