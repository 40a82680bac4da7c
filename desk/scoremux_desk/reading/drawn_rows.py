"""Rows that `scoremux sample` drew, of responses that the desk has as rows of a job, too.

A response has one score of record and one line among the labelled rows, however often it came in.
"""

from sqlalchemy import Connection, and_, func, select

from scoremux_desk.database import responses
from scoremux_desk.database.schema import BEHIND, COUNTS, DECISION, DRAWN, ERASED, PAPERS, ROUTE, ROW, decisions, rows


def drawn_again(connection: Connection) -> dict[int, int]:
    """Return which drawn rows are of a response that the desk has as another row, too, and that row.

    It is the first one with the same task, id and text that a job scored, else the first one that was drawn.
    """
    drawn = rows.alias()
    same = and_(*(drawn.c[name] == ROW[name] for name in ("task", "name", "text")))
    is_drawn = (drawn.c.chosen_by == DRAWN) & (drawn.c.state != ERASED)
    query = select(ROW.id, ROW.task, ROW.name, ROW.text, ROW.chosen_by).distinct()
    query = query.join(drawn, same & is_drawn)
    query = query.where(ROW.chosen_by.not_in(PAPERS), ROW.state != ERASED)
    first: dict[tuple[str, ...], int] = {}
    again: dict[int, int] = {}
    for row in sorted(connection.execute(query), key=lambda row: (row.chosen_by == DRAWN, row.id)):
        number = first.setdefault((row.task, row.name, row.text), row.id)
        if number != row.id and row.chosen_by == DRAWN:
            again[row.id] = number
    return again


def repeated_names(connection: Connection) -> dict[int, str]:
    """Return ids of rows whose id an earlier row of the same task and administration has: `7 (2)`, `7 (3)`, …"""
    place = (ROW.task, ROW.name, ROW.administration)
    number = func.row_number().over(partition_by=place, order_by=ROW.id).label("number")
    numbered = select(ROW.id, ROW.name, number).where(ROW.state != ERASED).subquery()
    query = select(numbered).where(numbered.c.number > 1)
    return {row.id: f"{row.name} ({row.number})" for row in connection.execute(query)}


def chances(connection: Connection, again: dict[int, int]) -> dict[int, float]:
    """Return the probability of each response that is there more than once, as one line stands for all of its rows.

    Each way in which it was chosen is a sample of its own, and figures add them up: so do the weights of one row.
    """
    weight: dict[int, float] = {}
    read_behind = _read_behind(connection, again)
    for row in responses.rows_of(connection, again.keys() | again.values()):
        first = again.get(row.id, row.id)
        counts = row.chosen_by not in (ROUTE, BEHIND) or row.task in read_behind
        row_weight = 1 / (row.read_behind or 1.0) if row.chosen_by and counts else 0.0
        weight[first] = weight.get(first, 0.0) + row_weight
    return {first: 1 / total for first, total in weight.items()}


def _read_behind(connection: Connection, again: dict[int, int]) -> set[str]:
    """Return the tasks whose routed and read-behind rows stand for all responses (`weighing.routed_beside`)."""
    if not again:
        return set()
    first_level = (DECISION.kind == "first") & COUNTS & DECISION.level.is_not(None)
    query = select(ROW.id, ROW.task).join(decisions, (DECISION.row == ROW.id) & first_level)
    apart = {*again.values()}
    return {row.task for row in connection.execute(query.where(ROW.chosen_by == BEHIND)) if row.id not in apart}
