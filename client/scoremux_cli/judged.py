"""Scored rows with the levels that humans gave them: subgroups, a second human, and the input of RSMTool."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scoremux_assess.formats.layout import Row
from scoremux_assess.formats.records import read_rows, whole_number
from scoremux_assess.formats.writers import formula_safe, without_apostrophe
from scoremux_cli.agreement import Agreement, agreement
from scoremux_client.errors import InputError


@dataclass(frozen=True)
class Judged:
    """A row that machine and human gave a level. expected: the mean level under the machine's probabilities.

    number: the truth's row, from 1; truth: its columns.
    """

    id: str
    human: int
    machine: int
    expected: float
    number: int
    truth: Row


def judged(scored: Path, truth: Path, columns: Sequence[str]) -> list[Judged]:
    """Return the rows that have a score; `pair` has checked both files. Raises InputError for a missing column."""
    known = {str(row["id"]): (number, row) for number, row in enumerate(read_rows(truth), start=1)}
    for name in columns:
        for number, row in known.values():
            if name not in row:
                raise InputError(f"{truth}, row {number}: no column {name}")
    rows = []
    for number, row in enumerate(read_rows(scored), start=1):
        if row["status"] == "OK":
            id_ = without_apostrophe(str(row["id"])) if scored.suffix.lower() == ".csv" else str(row["id"])
            place, found = known[id_]
            levels = whole_number(truth, place, found["level"]), whole_number(scored, number, row["level"])
            rows.append(Judged(id_, *levels, _expected(row, levels[1]), place, found))
    return rows


def subgroups(rows: Sequence[Judged], columns: Sequence[str]) -> Iterator[tuple[str, Agreement]]:
    """Yield the agreement of each value of each column."""
    for name in columns:
        for value in sorted({str(row.truth[name]) for row in rows}):
            own = [row for row in rows if str(row.truth[name]) == value]
            yield f"{name}: {value}", agreement([r.human for r in own], [r.machine for r in own])


def two_humans(rows: Sequence[Judged], truth: Path, column: str) -> Agreement | None:
    """Return the agreement of two humans on the rows that have both, None if there are no such rows."""
    both = [row for row in rows if row.truth[column] not in (None, "")]
    if not both:
        return None
    return agreement([r.human for r in both], [whole_number(truth, r.number, r.truth[column]) for r in both])


def write_rsm(path: Path, rows: Sequence[Judged], truth: Path, columns: Sequence[str], second: str | None) -> None:
    """Write spkitemid, sc1, raw, sc2 if there is a second human, and the subgroups. Raises InputError."""
    names = ["spkitemid", "sc1", *(["sc2"] if second else []), "raw", *columns]
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for row in rows:
                cells: dict[str, Any] = {"spkitemid": formula_safe(row.id), "sc1": row.human, "raw": row.expected}
                if second:
                    value = row.truth[second]
                    cells["sc2"] = "" if value in (None, "") else whole_number(truth, row.number, value)
                writer.writerow({**cells, **{name: formula_safe(str(row.truth[name])) for name in columns}})
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _expected(row: Row, level: int) -> float:
    given = row.get("probabilities") or []
    values = given.split() if isinstance(given, str) else given
    return sum(place * float(p) for place, p in enumerate(values)) if values else float(level)
