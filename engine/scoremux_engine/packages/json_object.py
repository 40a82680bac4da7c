"""JSON from files that anyone may have written."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

_ERRORS_SHOWN = 5
_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 80
T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


def parse_object(data: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises ValueError that says what `data` is instead."""
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # RecursionError: nested too deep. ValueError: also numbers of thousands of digits, and what is not UTF-8.
        raise ValueError("it is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def parse_model(model: type[Model], data: bytes) -> Model:
    """Return a JSON object as a model. Raises ValueError that names what is wrong, in one line."""
    return validate(model.model_validate, parse_object(data))


def validate(check: Callable[[dict[str, Any]], T], value: dict[str, Any]) -> T:
    """Return what pydantic makes of a value. Raises ValueError with its first errors: ``key: what is wrong; …``."""
    try:
        return check(value)
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_input=False)
        lines = [f"{quote_key('.'.join(map(str, e['loc']))) or 'file'}: {e['msg']}" for e in complaints[:_ERRORS_SHOWN]]
        more = len(complaints) - len(lines)
        raise ValueError("; ".join(lines) + (f"; and {more} more" if more else "")) from error


def quote(value: object) -> str:
    """Return a value as Python writes it, cut to a length that fits a message."""
    return _QUOTE.repr(value)


def quote_key(key: str) -> str:
    """Return a key as it is, cut to a length that fits a message."""
    return key if len(key) <= 80 else f"{key[:80]}…"
