"""Lines of audit logs → the rows to judge, with their texts from the programme's own file."""

import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scoremux_client.audit_lines import text_digest
from scoremux_client.contract import DIGEST_PATTERN
from scoremux_engine.errors import AuditError
from scoremux_files.errors import InputError, reading
from scoremux_files.rows.readers import read_rows
from scoremux_files.settings import parse_object, quote_key

_OK = "OK"
_ROUNDING = 1e-3
"""What probabilities in float32 may add up to besides 1."""


@dataclass(frozen=True)
class LoggedRow:
    """A row that a server scored.

    Attributes:
        level: The place of the level among the task's levels.
        probabilities: One for each level; empty where the head gives one value.
        arithmetic: The name of the row's arithmetic; the precision where the log has no such name.
        margin: Distance to another level, from the probabilities or else as logged; NaN without either.
    """

    digest: str
    task: str
    version: str
    backbone: str
    level: int
    probabilities: tuple[float, ...]
    arithmetic: str
    margin: float


class IdentifiedText(NamedTuple):
    """A response in the programme's file."""

    id: str
    text: str


def read_log(paths: Iterable[Path]) -> Iterator[LoggedRow | None]:
    """Yield the rows of audit logs, in order; None for those without a score. Raises AuditError naming file or line."""
    for path in paths:
        with reading(path, AuditError), path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                yield _row(line, f"{path}, line {number}")


def _row(line: bytes, where: str) -> LoggedRow | None:
    try:
        values = parse_object(line)
        if type(values.get("format")) is not int or values["format"] != 1:  # true is equal to 1
            raise ValueError("it is of another format than 1")
        if values["status"] != _OK:
            return None
        level = values["level"]
        if type(level) is not int or level < 0:
            raise ValueError("its level is not a whole number from 0")
        probabilities = _distribution(values["probabilities"])
        return LoggedRow(
            digest=str(values["digest"]),
            task=str(values["task"]),
            version=_digest(values, "version"),
            backbone=_digest(values, "backbone"),
            level=level,
            probabilities=probabilities,
            arithmetic=str(values.get("arithmetic") or values["precision"]),
            margin=_margin(probabilities, values.get("margin")),
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise AuditError(f"{where} is not a line of an audit log: {error!r:.200}") from error


def _digest(values: Mapping[str, object], key: str) -> str:
    if not re.fullmatch(DIGEST_PATTERN, value := str(values[key])):
        raise ValueError(f"its {key} is not a digest of 64 hexadecimal digits")
    return value


def _distribution(values: list[float]) -> tuple[float, ...]:
    probabilities = tuple(map(float, values))
    # `not` and `all`, since NaN is neither more nor less than anything.
    if probabilities and not (abs(sum(probabilities) - 1) < _ROUNDING and all(p >= 0 for p in probabilities)):
        raise ValueError("its probabilities are not a distribution")
    return probabilities


def _margin(probabilities: tuple[float, ...], logged: object) -> float:
    """Return ln p₁ − ln p₂ of the two largest; without probabilities, the margin in the line; NaN where it has none."""
    if len(probabilities) > 1:
        second, first = sorted(probabilities)[-2:]
        return math.log(first / second) if second > 0 else math.inf
    if logged is None:
        return math.nan
    if not isinstance(logged, (int, float)) or not logged >= 0:
        raise ValueError("its margin is not a number from 0")
    return float(logged)


def draw(
    rows: Iterable[LoggedRow],
    count: int,
    seed: int,
) -> list[LoggedRow]:
    """Return `count` of the rows, each set of that size as likely as another; all if there are fewer."""
    generator = random.Random(seed)
    drawn = list[LoggedRow]()
    for place, row in enumerate(rows):
        if place < count:
            drawn.append(row)
        elif (at := generator.randint(0, place)) < count:
            drawn[at] = row
    return drawn


def find_texts(
    paths: Iterable[Path], digests: set[str], key: bytes | None, id_column: str, text_column: str
) -> Mapping[str, IdentifiedText]:
    """Return the responses that have these digests, by digest. Raises InputError as `read_texts`."""
    texts: dict[str, IdentifiedText] = {}
    for digest, text in read_texts(paths, key, id_column, text_column):
        if digest in digests:
            texts.setdefault(digest, text)
    return texts


def read_texts(
    paths: Iterable[Path], key: bytes | None, id_column: str, text_column: str
) -> Iterator[tuple[str, IdentifiedText]]:
    """Yield responses with the digests of their texts, under a key if they have one. Raises InputError."""
    for path in paths:
        for row in read_rows(path, id_column, text_column):
            text = row.get(text_column)
            if not isinstance(text, str):
                raise InputError(
                    f"{path}: a row without a text in column {quote_key(text_column)}; --column text=NAME names it"
                )
            yield text_digest(text.encode(), key), IdentifiedText(str(row.get(id_column, "")), text)
