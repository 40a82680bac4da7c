"""Responses with their scores: one row for each, from intake to export."""

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Text, case, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite

from scoremux_desk.database import api_rows, log
from scoremux_desk.database.schema import (
    ALERT,
    COUNTS,
    DECISION,
    ERASED,
    IS_OPEN,
    PAPERS,
    PERSON,
    REMARK,
    ROW,
    Columns,
    as_dict,
    changed,
    decisions,
    deleted,
    found,
    people,
    remarks,
    rows,
)
from scoremux_files.row_files import chunks

BLOCK_ROWS = 5_000
NOBODY = "nobody"
"""Who decided a row to which the machine gave neither a level nor a code, and that no human can grade."""

_MOST_NAMES = 500

SEALED = (
    "source",
    "line",
    "name",
    "task",
    "text",
    "status",
    "level",
    "probabilities",
    "confidence",
    "level_low",
    "level_high",
    "condition",
    "route",
    "read_behind",
    "version",
    "chosen_by",
    "reason",
    "priority",
    "known_level",
    "folded_key",
    "administration",
)
"""Columns that never change. A row's digest is of these, its student, its kept columns and its salt, without which
short answers could be guessed."""


def row_digest(row: Mapping[str, Any]) -> str:
    """Return the sha256 of a row's salt and sealed columns."""
    sealed = [row["salt"], *(row[name] for name in SEALED)]
    if (row["student"], row["kept"]) != ("", ""):  # columns since formats 6 and 8
        sealed += [row["student"], row["kept"]] if row["kept"] != "" else [row["student"]]
    # By `repr`: SQLite gives bytes where they were stored.
    values = json.dumps(sealed, ensure_ascii=False, separators=(",", ":"), default=repr)
    return log.sha256_of(values)


def chunk_digest(digests: Iterable[tuple[int, str]]) -> str:
    """Return the sha256 of the lines ``<id> <digest>`` of some rows, in the order of their ids."""
    return log.sha256_of("".join(f"{row} {digest}\n" for row, digest in digests))


def insert_new_rows(connection: Connection, chunk: Sequence[Columns]) -> list[tuple[int, str]]:
    """Insert rows but those that are known by source, line and name; return ids and digests of the new ones."""
    first = next_id(connection)
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    sealed = []
    for number, row in enumerate(chunk, start=first):
        salted = {**row, "id": number, "salt": secrets.token_hex(16)}
        sealed.append({**salted, "digest": row_digest(salted)})
    connection.execute(dialect.insert(rows).on_conflict_do_nothing(), sealed)
    new = select(ROW.id, ROW.digest).where(ROW.id >= first).order_by(ROW.id)
    return [(row.id, row.digest) for row in connection.execute(new)]


def next_id(connection: Connection) -> int:
    """Return the id that the next row gets. The connection must be the only writer."""
    return int(connection.scalar(select(func.max(ROW.id))) or 0) + 1


def rows_at(connection: Connection, chunk: Sequence[Columns]) -> dict[tuple[str, int, str], Any]:
    """Return the known rows at the sources and lines of other rows, by source, line and name."""
    sources, lines = ({row[name] for row in chunk} for name in ("source", "line"))
    query = select(rows).where(ROW.source.in_(sources), ROW.line.in_(lines))
    return {(row.source, row.line, row.name): row for row in connection.execute(query)}


def row_of(connection: Connection, row: int) -> Any:
    """Return a row by its id, None if there is none."""
    return found(connection, rows, ROW.id == row)


def machine_score(row: Any) -> Columns | None:
    """Return the machine's score of a row as pages show it, None if it gave none."""
    if row.level < 0:
        return None
    probabilities = json.loads(row.probabilities)
    confidence = max(probabilities, default=None) if row.confidence is None else row.confidence
    shown = {"confidence": confidence, "calibrated": row.confidence is not None, "probabilities": probabilities}
    return shown | {name: getattr(row, name) for name in ("level", "level_low", "level_high")}


def place_of(trait: str, source: str) -> str:
    """Return the source of a row of a trait: rows of one response are told apart by their traits."""
    return f"{trait} of {source}" if trait else source


def item_of_trait(row: Any) -> str:
    """Return the item that a row's task is a trait of; empty where it is a task of its own."""
    item, _, trait = row.task.rpartition(".")
    return item if row.source.startswith(place_of(trait, "")) else ""


def response_of(row: Any) -> tuple[str, ...]:
    """Return what the rows of all traits of a response share: item, id, line and source. The item is empty if none."""
    return item_of_trait(row), row.name, row.line, row.source.partition(" of ")[2]


def rows_of_traits(connection: Connection, row: Any) -> Sequence[Any]:
    """Return the rows of all traits of the response that a row is of; the row alone where its task has none."""
    if not item_of_trait(row):
        return [row]
    same = connection.execute(select(rows).where(ROW.name == row.name, ROW.line == row.line).order_by(ROW.id))
    return [other for other in same if response_of(other) == response_of(row)]


def final_level(row: Any) -> int | None:
    """Return the level that counts, of people or the machine; None while people have not decided."""
    return row.final_level if row.state == "done" else row.level if row.state == "machine" else None


def rows_named(connection: Connection, name: str, most: int) -> Sequence[Any]:
    """Return the rows whose id in their file is `name`."""
    return connection.execute(select(rows).where(ROW.name == name).limit(most)).all()


def rows_beyond(connection: Connection, task: str, levels: int, most: int) -> Sequence[Any]:
    """Return name and level of a task's settled rows whose level it does not have."""
    final = case((ROW.state == "done", ROW.final_level), else_=ROW.level)
    query = select(ROW.name, final.label("level")).where(ROW.task == task, final >= levels)
    return connection.execute(query.where(ROW.state.in_(("done", "machine"))).order_by(ROW.id).limit(most)).all()


def settled_by(connection: Connection, person: int, task: str, since: float) -> Sequence[int]:
    """Return the rows whose final score is a decision of this person's since then; `task`: of all if it is empty."""
    query = (
        select(ROW.id)
        .join(decisions, DECISION.id == ROW.final_decision)
        .where(ROW.state == "done", DECISION.person == person, DECISION.at >= since)
    )
    return connection.scalars(query.where(ROW.task == task) if task else query).all()


def count_states(connection: Connection) -> dict[str, int]:
    """Return how many rows are in each state: machine, waiting, second, adjudication, done, erased; or `NOBODY`."""
    undecided = (ROW.state == "machine") & (ROW.level < 0) & (ROW.condition == "")
    state = case((undecided, NOBODY), else_=ROW.state).label("state")
    query = select(state, func.count())
    query = query.where(ROW.state.not_in(PAPERS)).group_by(state)
    return as_dict(connection, query)


def rows_of(connection: Connection, chosen: Collection[int]) -> Iterator[Any]:
    """Yield some rows, in the order of their ids."""
    return _streamed(connection, select(rows).order_by(ROW.id), chosen)


def rows_where(connection: Connection, *conditions: ColumnElement[bool]) -> Iterator[Any]:
    """Yield the rows that meet conditions, in the order of their ids."""
    return _streamed(connection, select(rows).where(*conditions).order_by(ROW.id), None)


def final_rows(
    connection: Connection, chosen: Collection[Any] | None = None, by: ColumnElement[Any] = ROW.id
) -> Iterator[Any]:
    """Yield rows with the decision that counts (saw, at, kind, rater), first_level, and second (a rating's id).

    chosen, by: Yield those alone whose column `by` has one of these values.
    """
    query = select(
        rows,
        DECISION.saw,
        DECISION.at,
        DECISION.kind,
        PERSON.name.label("rater"),
        _FIRST.level.label("first_level"),
        _SECOND.id.label("second"),
    )
    query = query.select_from(_RATED).where(ROW.state.not_in((*PAPERS, ERASED)))
    return _streamed(connection, query.order_by(ROW.id), chosen, by)


def labelled_rows(connection: Connection, chosen: Collection[int] | None = None) -> Iterator[Any]:
    """Yield the rows that a human gave a level, or those of them that are chosen.

    Beside the row's columns: first_level, saw, size, decision and at of the first rating, second_level, and last_kind
    (of the decision that counts).
    """
    query = select(
        rows,
        _FIRST.level.label("first_level"),
        _FIRST.saw,
        _FIRST.size,
        _FIRST.id.label("decision"),
        _FIRST.at,
        _SECOND.level.label("second_level"),
        DECISION.kind.label("last_kind"),
    )
    query = query.select_from(_RATED).where(_FIRST.level.is_not(None), ROW.state != ERASED)
    return _streamed(connection, query.order_by(ROW.id), chosen)


def kept_names(connection: Connection, administration: str = "") -> set[str]:
    """Return the names of the columns that jobs and platforms kept, or one job did."""
    query = select(ROW.kept).where(ROW.kept != "").distinct()
    query = query.where(ROW.administration == administration) if administration else query
    return {name for kept in connection.scalars(query) for name in json.loads(kept)}


def count_open_alerts(connection: Connection, chosen: Collection[int]) -> int:
    """Return how many of some rows have an open alert."""
    waiting = connection.scalars(select(ALERT.row).where(IS_OPEN))
    return len(set(chosen).intersection(waiting))


def erase_rows(connection: Connection, chosen: Sequence[int]) -> str:
    """Take id, text, student, kept columns, salt, place and remarks out of some rows, and what the API has of them.

    Returns:
        A digest over what is left of them, in the order of their ids, for the record: their own digests stay, and can
        no longer be computed.
    """
    these = ROW.id.in_(chosen)
    empty = dict.fromkeys(("text", "salt", "source", "administration", "student", "kept"), "")
    changed(
        connection,
        rows,
        these,
        **empty,
        priority=0.0,
        state=ERASED,
        line=ROW.id,
        folded_key=ROW.id,
        name="erased " + cast(ROW.id, Text),
    )
    deleted(connection, remarks, REMARK.row.in_(chosen))
    api_rows.erase(connection, chosen)
    return chunk_digest((row.id, row_digest(row._mapping)) for row in rows_where(connection, these))


def _streamed(
    connection: Connection, query: Any, chosen: Collection[Any] | None, by: ColumnElement[Any] = ROW.id
) -> Iterator[Any]:
    if chosen is None:
        yield from connection.execute(query.execution_options(yield_per=BLOCK_ROWS))
        return
    for some in chunks(sorted(chosen), _MOST_NAMES):
        yield from connection.execute(query.where(by.in_(some))).all()


def _of_kind(kind: str) -> Any:
    return select(decisions).where(DECISION.kind == kind, COUNTS).subquery(kind).c


def _of_round(rating: Any) -> Any:
    """Return the condition that a rating is of a row's present round."""
    return (rating.row == ROW.id) & (rating.round == ROW.round)


_FIRST, _SECOND = _of_kind("first"), _of_kind("second")
"""Columns of the ratings that count."""

_RATED = (
    rows.outerjoin(decisions, DECISION.id == ROW.final_decision)
    .outerjoin(people, PERSON.id == DECISION.person)
    .outerjoin(_FIRST.id.table, _of_round(_FIRST))
    .outerjoin(_SECOND.id.table, _of_round(_SECOND))
)
"""Rows with the decision that counts, who made it, and the ratings of their present round."""
