"""Dataclasses that check what a JSON object gives them, in plain code: the scorer reads them without pydantic."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

Record = TypeVar("Record")
Check = Callable[[Any], Any]
"""Returns a value as its field keeps it. Raises ValueError that says what the value must be."""

_LARGEST = 1e100


def parse_record(kind: type[Record], values: Any) -> Record:
    """Return a JSON object as `kind`, a dataclass whose fields have types or annotations that are checks.

    Keys in `removed_keys` of `kind` are ignored. Raises ValueError that names a key that is unknown, missing or wrong
    and what is allowed, such as ``threshold: least: must be a number from 0 to 1``.
    """
    if not isinstance(values, Mapping):
        raise ValueError("must be a table")
    parts, checks = {part.name: part for part in fields(kind)}, _checks(kind)  # type: ignore[arg-type]
    ignored = set(values) & {*getattr(kind, "removed_keys", ())}
    for key in sorted(ignored):
        _name_ignored(key)
    if unknown := sorted(set(values) - set(parts) - ignored):
        raise ValueError(f"unknown key {unknown[0][:80]}; the keys are {', '.join(parts)}")
    parsed = {}
    for name, part in parts.items():
        missing = name not in values
        if missing and not (part.default is MISSING and part.default_factory is MISSING):
            continue
        try:
            parsed[name] = checks[name](values.get(name))
        except ValueError as error:
            raise ValueError(f"{name}{' is missing' if missing else ''}: {error}") from error
    return kind(**parsed)


@lru_cache
def _name_ignored(key: str) -> None:
    """Say once in a process that a key is ignored."""
    logging.getLogger(__name__).warning(
        "the key %s of conditions is ignored: CHANGELOG.md says what to use instead", key
    )


@lru_cache
def _checks(kind: type[Any]) -> dict[str, Check]:
    hints = get_type_hints(kind, include_extras=True)
    return {part.name: _check_of(hints[part.name]) for part in fields(kind)}


def _check_of(hint: Any) -> Check:
    """Return the check of an annotation, or else of its type: a text, a truth value, texts, or a record."""
    if metadata := getattr(hint, "__metadata__", ()):
        check: Check = metadata[0]
        return check
    if isinstance(hint, UnionType):  # a type or None, which is the default
        hint, _ = get_args(hint)
    return _OF_TYPES.get(hint) or table_of(hint)


def table_of(kind: type[Any]) -> Check:
    """Return the check of a table that is a record itself."""
    return lambda value: parse_record(kind, value)


def list_of(check: Check, items: str) -> Check:
    """Return the check of a list, given that of its items and what they are."""

    def check_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"must be a list of {items}")
        return tuple(map(check, value))

    return check_list


def number(least: float, most: float) -> Check:
    """Return the check of a number within limits."""

    def check(value: Any) -> float:
        # NaN is within no limits.
        if type(value) not in (int, float) or not least <= value <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(value)

    return check


def whole(least: int, most: int) -> Check:
    """Return the check of a whole number within limits."""

    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return value

    return check


def one_of(*choices: Any) -> Check:
    """Return the check of a value that is one of a few."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise ValueError(f"must be one of {', '.join(map(str, choices))}")
        return value

    return check


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def flag(value: Any) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


texts = list_of(text, "texts")
"""Checks a list of texts."""


def lists_of_texts(value: Any) -> dict[str, tuple[str, ...]]:
    """Check a table of lists of texts."""
    if not isinstance(value, Mapping):
        raise ValueError("must be a table of lists of texts")
    return {name: texts(items) for name, items in value.items()}


_OF_TYPES: dict[Any, Check] = {str: text, bool: flag, tuple[str, ...]: texts}


def vector(most: int) -> Check:
    """Return the check of a list of at most `most` finite numbers: float64 [N]."""

    def check(value: Any) -> npt.NDArray[np.float64]:
        fits = isinstance(value, list) and 0 < len(value) <= most
        if not fits or not all(type(x) in (int, float) and abs(x) <= _LARGEST for x in value):
            raise ValueError("must be a list of numbers")
        return np.array(value, dtype=np.float64)

    return check


def matrix(most_rows: int, most_width: int) -> Check:
    """Return the check of a list of vectors of one length: float64 [K, N]."""
    check_row = vector(most_width)

    def check(value: Any) -> npt.NDArray[np.float64]:
        rows = [check_row(row) for row in value] if isinstance(value, list) else []
        if not 0 < len(rows) <= most_rows or len({len(row) for row in rows}) > 1:
            raise ValueError("must be lists of numbers, all of one length")
        return np.stack(rows)

    return check
