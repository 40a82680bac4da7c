"""Dataclasses whose values are checked when they are read from JSON or TOML; a key that is unknown is refused."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter

from scoremux_files.settings import validate

Kind = TypeVar("Kind")
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)


class CheckedRecord:
    """Base of these dataclasses. Only `parse_record` checks values: a constructor takes what it is given."""

    __pydantic_config__ = ConfigDict(extra="forbid")


def parse_record(kind: type[Kind], values: dict[str, Any]) -> Kind:
    """Return a table as a record. Raises ValueError that names each key that is unknown, missing or wrong."""
    record: Kind = validate(_adapter(kind).validate_python, values)
    return record


def one_of(*choices: str) -> Any:
    """Return the limits of a text that is one of a few."""
    return Field(pattern=f"^({'|'.join(choices)})$")


def number(least: float, most: float) -> Any:
    """Return the limits of a number."""
    return Field(strict=True, ge=least, le=most, allow_inf_nan=False)


def whole(least: int, most: int) -> Any:
    """Return the limits of a whole number."""
    return Field(strict=True, ge=least, le=most)
