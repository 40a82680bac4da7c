"""The tables. `record` only grows: triggers (`guards`) refuse any change to it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Text, UniqueConstraint

Columns = dict[str, Any]
"""Values of a row, by the names of their columns."""

metadata = sa.MetaData()


_KEY = BigInteger().with_variant(Integer, "sqlite")
_Filled = partial(Column, nullable=False)
_NUMBER = partial(Column, _KEY, primary_key=True)
"""A column of the numbers that the database gives to the rows of a table."""
_WORDS = partial(_Filled, Text, default="")
_Condition = sa.ColumnElement[bool]


def _table(name: str, /, *rules: Any, **columns: Any) -> sa.Table:
    """Make a table of columns by name; one that is a type alone has no nulls."""
    made = []
    for key, column in columns.items():
        if isinstance(column, partial):
            column = column()
        elif not isinstance(column, Column):
            column = _Filled(column)
        column.name = column.key = key
        made.append(column)
    return sa.Table(name, metadata, *made, *rules)


def time_of(connection: sa.Connection) -> float:
    """Return when a connection's transaction began, in seconds since the epoch by the database's clock."""
    began_at: float = connection.get_execution_options()["began_at"]
    return began_at


def inserted(connection: sa.Connection, table: sa.Table, **values: Any) -> Any:
    """Insert a row; return its key, the first column of it."""
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # an INSERT of one row has a key
    return key[0]


def changed(connection: sa.Connection, table: sa.Table, *conditions: _Condition, **values: Any) -> int:
    """Change columns of the rows that meet conditions; return how many there are."""
    return connection.execute(sa.update(table).where(*conditions).values(**values)).rowcount


def deleted(connection: sa.Connection, table: sa.Table, *conditions: _Condition) -> int:
    """Delete the rows that meet conditions; return how many there were."""
    return connection.execute(sa.delete(table).where(*conditions)).rowcount


def found(connection: sa.Connection, table: sa.Table, *conditions: _Condition) -> Any | None:
    """Return the only row of a table that meets conditions, None if none does."""
    return connection.execute(sa.select(table).where(*conditions)).one_or_none()


def all_where(connection: sa.Connection, table: sa.Table, *conditions: _Condition) -> Sequence[Any]:
    """Return the rows of a table that meet conditions, in the order of their keys."""
    return connection.execute(sa.select(table).where(*conditions).order_by(*table.primary_key)).all()


def as_dict(connection: sa.Connection, query: sa.Select[Any]) -> dict[Any, Any]:
    """Return the second column of a query by the first one."""
    return {row[0]: row[1] for row in connection.execute(query)}


def number_of(connection: sa.Connection, *conditions: _Condition) -> int:
    """Return how many rows meet conditions, which name their table."""
    return connection.execute(sa.select(sa.func.count()).where(*conditions)).scalar_one()


def unindexed(column: Column[str]) -> sa.ColumnElement[str]:
    """Return a column as the database will not look it up by an index.

    Without statistics SQLite takes `state = 'open'`, true for a million rows, to be as selective as a key.
    """
    return column.op("||")("")


ROUTE, BEHIND, ALL, DRAWN, VALIDITY = "route", "read_behind", "all", "sample", "validity"
"""How rows were chosen to be read: by their route, behind the machine, as all of a new task are, or drawn."""

PAPERS = (VALIDITY, "qualification")
"""Papers with a known level: kinds of their reads and decisions, and states of their rows."""

FORMAT = 11
"""Of the tables. `migrations` brings an older one up to it."""

IDENTITY = "identity"
"""Key of what tells a database from others, in `settings`; backups have it, too."""

ERASED = "erased"
"""State of a row without text, id and salt."""

settings = _table("settings", key=Column(Text, primary_key=True), value=Text)

people = _table(
    "people",
    id=_NUMBER,
    name=_Filled(Text, unique=True),
    password=Column(Text),  # an argon2 hash; empty for people who sign in elsewhere
    role=Text,
    active=_Filled(Boolean, default=True),
)

sessions = _table(
    "sessions",
    digest=Column(Text, primary_key=True),  # sha256 of the cookie
    person=_Filled(ForeignKey("people.id"), index=True),
    form_key=Text,
    expires_at=Float,
    task=_WORDS,
    reason=_WORDS,
)

attempts = _table("attempts", Index("attempts_by_subject", "subject", "at"), id=_NUMBER, subject=Text, at=Float)

tasks = _table(
    "tasks",
    id=Column(Text, primary_key=True),
    levels=Text,  # JSON, the points of each level
    texts=Text,  # JSON, those of `programme.TEXTS`
    paused=_Filled(Boolean, default=False),
)

rows = _table(
    "rows",
    UniqueConstraint("source", "line", "name"),
    Index("rows_by_name", "name"),
    Index("rows_by_folded_key", "folded_key"),
    Index("rows_by_state", "state", "task"),
    id=_NUMBER,
    source=Text,
    line=BigInteger,
    name=Text,  # the row's id in its file
    task=Text,
    text=Text,
    status=Text,
    level=Integer,  # the machine's, −1 without one
    probabilities=Text,  # JSON
    confidence=Column(Float),
    level_low=Column(Integer),  # the range of levels that holds a human's
    level_high=Column(Integer),
    condition=_WORDS,
    route=_WORDS,
    read_behind=Column(Float),  # the probability of being picked, where it was picked
    version=_WORDS,
    chosen_by=Text,  # route, read_behind, all, sample, one of PAPERS, or empty
    reason=Text,  # its queue, empty where no human reads it
    priority=Float,
    known_level=Column(Integer),  # of a validity paper
    folded_key=BigInteger,  # of the task and the folded text: duplicates share it
    administration=Text,  # the scored file or folder that brought the row
    student=_WORDS,  # who wrote it, as the file says; empty where it does not
    kept=_WORDS,  # JSON: columns that the job kept; for exports, never for pages
    salt=Text,
    digest=Text,  # of the salt and all columns above but the id
    state=Text,  # machine, waiting, second, adjudication, done, erased, or of PAPERS
    round=_Filled(Integer, default=1),
    final_level=Column(Integer),
    final_code=_WORDS,
    final_decision=Column(BigInteger),
)

anchors = _table(
    "anchors", Index("anchors_by_task", "task", "level"), id=_NUMBER, task=Text, level=Integer, text=Text, note=_WORDS
)

reads = _table(
    "reads",
    Index("reads_in_order", "task", "reason", "state", "priority", "id", "not_for", "only_for"),
    Index("reads_by_lease", "state", "lease_until"),
    Index("reads_by_person", "person", "state", "kind"),
    id=_NUMBER,
    row=_Filled(ForeignKey("rows.id"), index=True),
    kind=Text,  # first, second, adjudication, validity, qualification
    round=_Filled(Integer, default=1),
    task=Text,
    reason=Text,
    priority=Float,
    state=Text,  # open, leased, aside, done, withdrawn
    not_for=Column(BigInteger),
    only_for=Column(BigInteger),  # no longer used
    person=Column(BigInteger),
    token=Column(Text, unique=True),  # of the lease; a new one each time
    lead=Column(BigInteger),  # the read that this one is a group member of, while it is leased
    leased_at=Column(Float),
    shown_at=Column(Float),  # when its page was sent last
    lease_until=Column(Float),
)

queues = _table(
    "queues",
    task=Column(Text, primary_key=True),
    reason=Column(Text, primary_key=True),
    waiting=_Filled(Integer, default=0),
    done=_Filled(Integer, default=0),
    spent_s=_Filled(Float, default=0),
)

decisions = _table(
    "decisions",
    Index("decisions_by_person", "person", "id"),
    Index("decisions_by_task", "task", "kind", "undone"),
    id=_NUMBER,
    read=_Filled(ForeignKey("reads.id")),
    row=_Filled(ForeignKey("rows.id"), index=True),
    person=_Filled(ForeignKey("people.id")),
    task=Text,
    kind=Text,
    round=Integer,
    level=Column(Integer),
    code=_WORDS,
    saw=Text,  # blind, machine, scores (of both raters)
    at=Float,
    spent_s=Float,
    lead=Column(BigInteger, index=True),  # the decision that this one was made with
    size=_Filled(Integer, default=1),  # responses decided as one
    fast=_Filled(Boolean, default=False),  # sooner than the policy's fast_s
    compared=_Filled(Boolean, default=False),
    undone=_Filled(Boolean, default=False),
)
# No read has two decisions that count, whatever else goes wrong.
Index(
    "one_decision_a_read",
    decisions.c.read,
    unique=True,
    sqlite_where=decisions.c.undone == sa.false(),
    postgresql_where=decisions.c.undone == sa.false(),
)

alerts = _table(
    "alerts",
    id=_NUMBER,
    row=_Filled(ForeignKey("rows.id"), index=True),
    person=Column(ForeignKey("people.id")),  # who raised it; empty where a task did
    task=_WORDS,  # the alert task
    probability=Column(Float),  # of danger, by the alert task; empty where it could not score the response
    at=Float,
    handled_by=Column(BigInteger),
    handled_at=Column(Float, index=True),
)

alert_views = _table(
    "alert_views",
    alert=Column(ForeignKey("alerts.id"), primary_key=True),
    person=Column(ForeignKey("people.id"), primary_key=True),
    at=Float,
)

record = _table(
    "record",
    number=Column(_KEY, primary_key=True, autoincrement=False),
    entry=Text,  # canonical JSON, the digest of the entry before included
    digest=_Filled(Text, unique=True),
    row=Column(BigInteger, index=True),
)

# What people write about a response is not in the record, which cannot forget: an entry holds its digest.
remarks = _table(
    "remarks",
    entry=Column(_KEY, primary_key=True, autoincrement=False),
    row=_Filled(ForeignKey("rows.id"), index=True),
    text=Text,
)

# Conversations of a rater with the leaders about one reading; the text is the entry's remark.
messages = _table(
    "messages",
    entry=Column(_KEY, primary_key=True, autoincrement=False),
    read=_Filled(ForeignKey("reads.id"), index=True),
    rater=_Filled(ForeignKey("people.id"), index=True),
    person=_Filled(ForeignKey("people.id")),  # who wrote it
    at=Float,
)

# Whose responses a person reads; without a row, those of all tasks.
assignments = _table(
    "assignments",
    id=_NUMBER,
    person=_Filled(ForeignKey("people.id"), index=True),
    tasks=Text,  # a pattern, such as bio-*
    quota=Column(Integer),  # most decisions; empty for no limit
)

# Raters who share assignments: each member's are those of the pool and their own.
pools = _table(
    "pools",
    id=_NUMBER,
    name=_Filled(Text, unique=True),
    assignments=Text,  # JSON: tasks and quota of each
)

pool_members = _table(
    "pool_members",
    pool=Column(ForeignKey("pools.id"), primary_key=True),
    person=Column(ForeignKey("people.id"), primary_key=True, index=True),
)

# What was decided about a person and a task: by a qualification set, by control limits, by a leader.
standings = _table(
    "standings",
    person=Column(ForeignKey("people.id"), primary_key=True),
    task=Column(Text, primary_key=True),
    state=Text,  # qualified, failed, paused, again
    since=BigInteger,  # decisions after this one count for what comes next
    exact=Column(Integer),  # of the papers that it rests on
    papers=Column(Integer),
)

# Rows that came by `scoremux api`; a row's owner is token, task and id.
api_rows = _table(
    "api_rows",
    UniqueConstraint("token", "name", "task"),
    row=Column(ForeignKey("rows.id"), primary_key=True),
    token=Text,  # name of the token that the row came with
    task=Text,
    name=Text,  # the row's id; of an erased row a name that no row can have
    at=Float,  # when it came
)

# Columns by name: `ROW.task` is the column `task` of the table `rows`.
ROW = rows.c
READ = reads.c
DECISION = decisions.c
PERSON = people.c
ALERT = alerts.c
VIEW = alert_views.c
MESSAGE = messages.c
REMARK = remarks.c
QUEUE = queues.c
TASK = tasks.c
SETTING = settings.c
API_ROW = api_rows.c
ASSIGNMENT = assignments.c
POOL = pools.c
MEMBER = pool_members.c
STANDING = standings.c
ANCHOR = anchors.c
ATTEMPT = attempts.c
SESSION = sessions.c
ENTRY = record.c

# Conditions that several queries have.
COUNTS = DECISION.undone.is_(False)
IS_ACTIVE = PERSON.active.is_(True)
IS_OPEN = ALERT.handled_at.is_(None)
