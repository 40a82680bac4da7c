"""Parts: the files that a slice is written to, of outcomes and of rejected rows."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoremux_batch.journal import tally_name
from scoremux_batch.people import ReadBehind
from scoremux_batch.slices import Slice
from scoremux_client.contract import MACHINE
from scoremux_client.frames import columns_of
from scoremux_client.rows import Scored
from scoremux_files.atomic import NEW, replace_file, replacing
from scoremux_files.errors import InputError, parsing, reading, writing
from scoremux_files.rows.row_layout import Json
from scoremux_files.rows.writers import SCHEMA, beside_parts

PLACED = SCHEMA.append(pa.field("source", "string")).append(pa.field("line", "int64"))
"""Columns of a part: those of an outcome, and the file and line (Parquet: row) that its row came from."""

REJECTED = "rejected"
NOWHERE = "nowhere: nobody can grade it"
WITHOUT_CONFIDENCE = "machine, without a confidence"
"""Where scores of tasks go that are not calibrated, if the server's profile leaves them to the machine."""


def write_part(folder: Path, part: Slice, scored: Sequence[Scored], read_behind: ReadBehind | None = None) -> Json:
    """Write a slice with its outcomes, a row for each trait of items; return its line for the journal.

    Raises InputError.
    """
    responses = len(part)
    part, scored, traits, totals = by_trait(part, scored)
    table = table_of(part, scored, read_behind, traits, totals)
    with writing(folder):
        if part.ids:
            with replacing(part_path(folder, part.number), mode=None) as aside:
                pq.write_table(table, aside, compression="zstd")
        if part.rejected:
            path = beside_parts(folder, REJECTED) / f"part-{part.number:06}.jsonl"
            path.parent.mkdir(exist_ok=True)
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part.rejected)
            replace_file(path, [lines.encode("utf-8", "replace")], mode=None)
    counts: dict[str, Counter[str]] = {}
    for (task, status), number in sorted(Counter((row.task, row.status.value) for row in scored).items()):
        counts.setdefault(tally_name(task), Counter())[status] += number
    routes = Counter(map(_destination, scored))
    conditions = Counter(row.condition for row in scored if row.condition)
    picked = len(table) - table["read_behind"].null_count
    cut = sum(row.truncated for row in scored)
    return {
        **part.resume(),
        "files": int(part.filled),
        "rows": responses,
        "rejected": len(part.rejected),
        "counts": counts,
        "arithmetic": sorted({row.arithmetic for row in scored} - {""}),
        "people": {
            "route": dict(sorted(routes.items())),
            "condition": dict(sorted(conditions.items())),
            "read behind": {"picked": picked} if read_behind else {},
            "text": {"cut at its end": cut} if cut else {},
        },
    }


def by_trait(
    part: Slice, scored: Sequence[Scored]
) -> tuple[Slice, Sequence[Scored], Sequence[str], Sequence[float | None]]:
    """Return a slice and its outcomes with a row for each trait in place of rows of items; and `trait` and `total`."""
    if not any(row.traits for row in scored):
        return part, scored, [""] * len(scored), [None] * len(scored)
    rows = [
        (place, one, name, row.total and row.total.score)
        for place, row in enumerate(scored)
        for name, one in (row.traits or {"": row}).items()
    ]
    places, outcomes, traits, totals = (list(column) for column in zip(*rows, strict=True))
    divided = part.take(places, part.rejected)
    tasks = zip(places, outcomes, traits, strict=True)
    divided.tasks = [outcome.task if trait else part.tasks[place] for place, outcome, trait in tasks]
    return divided, outcomes, traits, totals


def _destination(row: Scored) -> str:
    uncalibrated = row.ok and row.route == MACHINE and row.confidence is None
    return WITHOUT_CONFIDENCE if uncalibrated else row.route or NOWHERE


def part_path(folder: Path, number: int) -> Path:
    """Return where the outcomes of a part are."""
    return folder / f"part-{number:06}.parquet"


def remove_unfinished(folder: Path) -> None:
    """Remove files that a crash left half written, and the outcomes of a part that an earlier version left."""
    (folder / ".unfinished.json").unlink(missing_ok=True)
    for place in (folder, beside_parts(folder, REJECTED)):
        for aside in place.glob(f"{NEW}*"):
            aside.unlink(missing_ok=True)


def read_table(path: Path) -> Any:
    """Return a part's outcomes, columns as in `PLACED` and kept ones. Raises InputError for one that is broken."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read") from error
    for name, value in (("arithmetic", ""), ("student", None), ("feedback", ""), ("trait", ""), ("total", None)):
        if name not in table.column_names:  # a part of a job that an earlier version began
            table = table.append_column(name, pa.array([value] * len(table), PLACED.field(name).type))
    kept = [pa.field(name, "string") for name in table.column_names if name not in PLACED.names]
    schema = pa.schema([*PLACED, *kept])
    return table.select(schema.names).cast(schema)  # a program that removed rows may have changed what may be null


def read_rejected(folder: Path) -> Iterator[Json]:
    """Yield the rejected rows of a job: source, line, reason."""
    for path in sorted(beside_parts(folder, REJECTED).glob("part-*.jsonl")):
        with reading(path), parsing(f"{path} is damaged"), path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def table_of(
    part: Slice,
    scored: Sequence[Scored],
    read_behind: ReadBehind | None,
    traits: Sequence[str] = (),
    totals: Sequence[float | None] = (),
) -> Any:
    """Return a slice's rows with their outcomes, columns as in `PLACED`; read_behind: picks rows for people."""
    traits, totals = traits or [""] * len(scored), totals or [None] * len(scored)
    administrations = part.kept.get("administration", [None] * len(scored))
    rows = zip(part.tasks, part.ids, scored, administrations, traits, strict=True)
    shares = [
        read_behind.share_of(row[0], row[-1]) if read_behind and read_behind.picks(*row) else None for row in rows
    ]
    columns = {
        **outcome_columns(part.ids, part.tasks, scored),
        "read_behind": shares,
        "student": text_column(part.students),
        "trait": traits,
        "total": totals,
        "source": text_column([part.source.path] * len(scored)),
        "line": part.lines,
    }
    table = pa.table([columns[name] for name in PLACED.names], schema=PLACED)
    for name, cells in part.kept.items():
        table = table.append_column(name, text_column(cells))
    return table


def outcome_columns(ids: Sequence[str], tasks: Sequence[str], scored: Sequence[Scored]) -> dict[str, Any]:
    """Return rows with their outcomes: the columns of `SCHEMA` by name that an outcome has."""
    names = {"id": text_column(ids), "task": text_column(tasks), "arithmetic": [s.arithmetic for s in scored]}
    return {**names, **columns_of(scored)}


def text_column(values: Sequence[str | None]) -> Any:
    try:
        return pa.array(values, "string")
    except UnicodeEncodeError:  # JSON may bring half of a surrogate pair
        valid = [value if value is None else value.encode("utf-8", "replace").decode() for value in values]
        return pa.array(valid, "string")
