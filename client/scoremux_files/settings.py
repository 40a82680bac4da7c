"""TOML and JSON that people write: read once, and checked by pydantic models that name whatever is unknown or wrong."""

import json
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scoremux_files.errors import InputError, first_of, reading

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_ERRORS_SHOWN = 5
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = 80
Values = dict[str, Any]
"""Values by key, as TOML and JSON have them."""

T = TypeVar("T")
Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path, raises: type[Exception] = InputError) -> Values:
    """Return the values of a TOML file. Raises `raises` where it cannot be read or is not TOML."""
    return read_toml_bytes(path, raises)[1]


def read_toml_bytes(path: Path, raises: type[Exception] = InputError) -> tuple[bytes, Values]:
    """Return a TOML file's bytes, for their digest, and its values. Raises as `read_toml`."""
    with reading(path, raises):
        data = path.read_bytes()
    try:
        return data, tomllib.loads(data.decode())
    except ValueError as error:
        raise raises(f"{path} is not TOML: {error}") from error


def parse_object(data: bytes) -> Values:
    """Return a JSON object. Raises ValueError that says what `data` is instead."""
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        # RecursionError: nested too deep. ValueError: also numbers of thousands of digits, and what is not UTF-8.
        raise ValueError("it is not JSON") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def parse_file(data: bytes, path: Path, raises: type[Exception] = InputError) -> Values:
    """Return the JSON object that a file holds. Raises `raises` naming the file."""
    try:
        return parse_object(data)
    except ValueError as error:
        raise raises(f"{path}: {error}") from error


def read_json(path: Path) -> Values:
    """Return the JSON object in a file. Raises InputError where it cannot be read, or is something else."""
    with reading(path):
        return parse_file(path.read_bytes(), path)


def check(model: type[Model], values: Mapping[str, Any], where: str, raises: type[Exception] = InputError) -> Model:
    """Return `values` as a model.

    Raises `raises` for a key that is unknown, missing or wrong; `where` names the file and the table within it.
    """
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        keys = ", ".join(model.model_fields)
        raise raises(f"{where}: unknown key {', '.join(map(quote_key, unknown[:_ERRORS_SHOWN]))}; the keys are {keys}")
    try:
        return validate(model.model_validate, dict(values))
    except ValueError as error:
        raise raises(f"{where}: {error}") from error


def read_table(path: Path, name: str, model: type[Model]) -> Model:
    """Return a table of a TOML file as a model, whose defaults count without it. Raises InputError as `check`."""
    table = read_toml(path).get(name, {})
    if not isinstance(table, dict):
        raise InputError(f"{path}: {name} is not a table; write [{name}]")
    return check(model, table, f"{path}, [{name}]")


def parse_model(model: type[Model], data: bytes) -> Model:
    """Return a JSON object as a model. Raises ValueError that names what is wrong, in one line."""
    return validate(model.model_validate, parse_object(data))


def validate(check: Callable[[Values], T], value: Values) -> T:
    """Return the result of a check by pydantic. Raises ValueError with its first errors: ``key: error; …``."""
    try:
        return check(value)
    except ValidationError as error:
        complaints = error.errors(include_url=False, include_input=False)
        said = ["unknown key" if c["type"] in _UNKNOWN_KEY else c["msg"] for c in complaints]
        keys = [quote_key(".".join(map(str, c["loc"]))) or "file" for c in complaints]
        lines = [f"{key}: {what.removeprefix('Value error, ')}" for key, what in zip(keys, said, strict=True)]
        raise ValueError(first_of(lines, _ERRORS_SHOWN, "; ")) from error


def quote(value: object) -> str:
    """Return a value as Python writes it, cut to a length that fits a message."""
    return _QUOTE.repr(value)


def quote_key(key: str) -> str:
    """Return a key as it is, cut to a length that fits a message."""
    return key if len(key) <= 80 else f"{key[:80]}…"
