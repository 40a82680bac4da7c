"""Settings from TOML files, checked by pydantic models that name whatever is unknown or wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scoremux_server.errors import SetupError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Return a file's values. Raises SetupError where it is not TOML, FileNotFoundError where there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise SetupError(f"{path} cannot be read: {error}") from error


def check(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Return a model of `values`. Raises SetupError naming an unknown key, or the first value that is wrong."""
    unknown = sorted(set(values) - set(model.model_fields))
    if unknown:
        raise SetupError(f"{where}: unknown key {', '.join(unknown)}; keys are {', '.join(model.model_fields)}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"{part}: " for part in first["loc"])
        raise SetupError(f"{where}: {key}{first['msg']}") from error
