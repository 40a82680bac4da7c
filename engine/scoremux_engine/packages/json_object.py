"""JSON from files that nobody vouches for."""

from __future__ import annotations

import json
import reprlib
from typing import Any

from pydantic import ValidationError

_ERRORS_SHOWN = 5
_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 80


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError saying what is wrong, as the end of a sentence that names the file."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_refuse_twins)
    except _TwinError:
        raise
    except (ValueError, RecursionError) as error:
        # RecursionError: nested too deep. ValueError: also numbers of thousands of digits, and what is not UTF-8.
        raise ValueError("is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value


def explain(error: ValidationError) -> str:
    """Return pydantic's first complaints as one line: ``key: what is wrong; …``."""
    complaints = error.errors(include_url=False, include_input=False)
    lines = [f"{quote_key('.'.join(map(str, e['loc']))) or 'file'}: {e['msg']}" for e in complaints[:_ERRORS_SHOWN]]
    more = len(complaints) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def quote(value: object) -> str:
    """Return a value as Python writes it, cut to a length that fits a message."""
    return _QUOTE.repr(value)


def quote_key(key: str) -> str:
    """Return a key as it is, cut to a length that fits a message."""
    return key if len(key) <= 80 else f"{key[:80]}…"


class _TwinError(ValueError):
    """One object names a key twice: readers differ in which of the two they believe."""


def _refuse_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twin = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _TwinError(f"names the key {quote(twin)} twice")
    return made
