"""The programme's rules of reading: the table ``[review]`` of its policy file.

    [review]
    order = "uncertainty"        # or "time": which routed response comes first
    second_reads = 0.1           # share of responses that a second rater reads, blind
    adjudicate = "non-exact"     # or "non-adjacent", "never": when two ratings differ, a leader decides
    validity = 0.05              # share of papers with a known score among what a rater reads
    machine = "after"            # or "before", "never": when a rater may see the machine's score
    groups = true                # decide duplicates together
    lease_s = 900                # a response goes to someone else after this many seconds
    undo_s = 600                 # how long a decision can be undone

Every key may be left out; the values above are the defaults, except `second_reads` and `validity`, which are 0.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from scoremux_client.errors import InputError
from scoremux_files.settings import read_toml
from scoremux_review.database.schema import settings

_KEY = "policy"
_CHOICES = {
    "order": ("uncertainty", "time"),
    "adjudicate": ("non-exact", "non-adjacent", "never"),
    "machine": ("after", "before", "never"),
}
_SHARES = ("second_reads", "validity")

CODES = {
    "B": "Blank",
    "I": "Insufficient",
    "C": "Copied",
    "L": "Other language",
    "U": "Uninterpretable",
    "R": "Refusal",
}
"""Condition codes a rater can give instead of a level."""


@dataclass(frozen=True)
class Policy:
    """See the module's docstring for the keys."""

    order: str = "uncertainty"
    second_reads: float = 0.0
    adjudicate: str = "non-exact"
    validity: float = 0.0
    machine: str = "after"
    groups: bool = True
    lease_s: float = 900.0
    undo_s: float = 600.0

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"review.{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        for name in _SHARES:
            if not _number(getattr(self, name)) or not 0 <= getattr(self, name) <= 1:
                raise InputError(f"review.{name} is {getattr(self, name)!r}; it is a share from 0 to 1")
        for name in ("lease_s", "undo_s"):
            if not _number(getattr(self, name)) or getattr(self, name) <= 0:
                raise InputError(f"review.{name} is {getattr(self, name)!r}; it is a number of seconds above 0")
        if not isinstance(self.groups, bool):
            raise InputError(f"review.groups is {self.groups!r}; it is true or false")

    @classmethod
    def read(cls, path: Path) -> Policy:
        """Read a policy file. Raises InputError naming the key that is wrong."""
        table = read_toml(path).get("review", {})
        unknown = sorted(set(table) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"{path}: review.{unknown[0]} is no key of a policy")
        try:
            return cls(**table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def load(cls, connection: Connection) -> Policy:
        """Return the policy that the database keeps, or the defaults."""
        kept = connection.execute(select(settings.c.value).where(settings.c.key == _KEY)).scalar_one_or_none()
        return cls(**json.loads(kept)) if kept else cls()

    def save(self, connection: Connection) -> dict[str, Any]:
        """Keep it in the database; return it as a dict."""
        connection.execute(settings.delete().where(settings.c.key == _KEY))
        connection.execute(settings.insert().values(key=_KEY, value=json.dumps(asdict(self))))
        return asdict(self)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
