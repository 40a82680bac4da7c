"""Tables of TOML or JSON that people write: every key is asked for, and what nobody asked for is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client.errors import InputError

_LARGEST = 1e100


class Table:
    """One table. where: names it in messages, such as ``policy.toml, conditions.copied``."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self.where = where
        self._asked: set[str] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def table(self, key: str) -> Table | None:
        """Return a table within, None where there is none."""
        value = self._get(key)
        if value is None:
            return None
        self._require(isinstance(value, Mapping), key, "is a table")
        return Table(value, f"{self.where}, {key}")

    def tables(self) -> dict[str, Table]:
        """Return all keys, each of which is a table."""
        return {key: table for key in self._values if (table := self.table(key)) is not None}

    def share(self, key: str, default: float | None = None) -> float:
        """Return a number from 0 to 1."""
        return self.number(key, 0.0, 1.0, default)

    def number(self, key: str, least: float, most: float, default: float | None = None) -> float:
        """Return a number within limits."""
        value = self._get(key, default)
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)  # NaN is within no limits
        self._require(fits and least <= value <= most, key, f"is a number from {least:g} to {most:g}")
        return float(value)

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """Return a whole number within limits."""
        value = self._get(key, default)
        fits = isinstance(value, int) and not isinstance(value, bool)
        self._require(fits and least <= value <= most, key, f"is a whole number from {least} to {most}")
        return int(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        self._require(isinstance(value, bool), key, "is true or false")
        return bool(value)

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._get(key)
        self._require(isinstance(value, str), key, "is a text")
        return str(value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of some texts."""
        value = self._get(key)
        self._require(value in choices, key, f"is one of {', '.join(choices)}")
        return str(value)

    def texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self._get(key, default)
        fits = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        self._require(fits, key, "is a list of texts")
        return tuple(value)

    def lists(self, key: str) -> dict[str, tuple[str, ...]]:
        """Return a table of lists of texts."""
        table = self.table(key)
        if table is None:
            raise InputError(f"{self.where}: {key} is missing; it is a table of lists of texts")
        return {name: table.texts(name) for name in table._values}

    def matrix(self, key: str, most_rows: int, most_width: int) -> npt.NDArray[np.float64]:
        """Return finite numbers: a list of lists of one length, or one list where `most_rows` is 0."""
        value = self._get(key)
        lists = value if most_rows else [value]
        fits = isinstance(lists, list) and 0 < len(lists) <= max(1, most_rows)
        fits = fits and all(isinstance(row, list) and 0 < len(row) == len(lists[0]) <= most_width for row in lists)
        fits = fits and all(type(x) in (int, float) and abs(x) <= _LARGEST for row in lists for x in row)
        self._require(fits, key, "is lists of numbers, all of one length" if most_rows else "is a list of numbers")
        return np.array(lists if most_rows else value, dtype=np.float64)

    def optional_share(self, key: str) -> float | None:
        """Return a number from 0 to 1, None where there is none."""
        self._asked.add(key)
        return self.share(key) if key in self._values else None

    def refuse_others(self) -> None:
        """Raise InputError for a key that was not asked for."""
        if others := sorted(set(self._values) - self._asked):
            known = ", ".join(sorted(self._asked)) or "none"
            raise InputError(f"{self.where}: unknown key {_shown(others[0])}; the keys are {known}")

    def _get(self, key: str, default: Any = None) -> Any:
        self._asked.add(key)
        return self._values.get(key, default)

    def _require(self, fits: bool, key: str, what: str) -> None:
        if not fits:
            said = "is missing; it" if key not in self._values else "is wrong: it"
            raise InputError(f"{self.where}: {key} {said} {what}")


def _shown(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:80]}…"
