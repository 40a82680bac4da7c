"""The tables. `record` only grows: triggers (`guards`) refuse any change to it."""

from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Text, UniqueConstraint

Columns = dict[str, Any]
"""Values of a row, by the names of their columns."""

metadata = sa.MetaData()


_Filled = partial(Column, nullable=False)
_Words = partial(_Filled, type_=Text, default="")
_Condition = sa.ColumnElement[bool]


def _table(name: str, *parts: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts)


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


_KEY = BigInteger().with_variant(Integer, "sqlite")


def _number() -> Column[int]:
    """Return the column of the numbers that the database gives to the rows of a table."""
    return Column("id", _KEY, primary_key=True)


ROUTE, BEHIND, ALL, DRAWN, VALIDITY = "route", "read_behind", "all", "sample", "validity"
"""How rows were chosen to be read: by their route, behind the machine, as all of a new task are, or drawn."""

PAPERS = (VALIDITY, "qualification")
"""Papers with a known level: kinds of their reads and decisions, and states of their rows."""

FORMAT = 10
"""Of the tables. `migrations` brings an older one up to it."""

IDENTITY = "identity"
"""Key of what tells a database from others, in `settings`; backups have it, too."""

WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
"""States of deliveries."""

ERASED = "erased"
"""State of a row without text, id and salt."""

settings = _table("settings", Column("key", Text, primary_key=True), _Filled("value", Text))

people = _table(
    "people",
    _number(),
    _Filled("name", Text, unique=True),
    Column("password", Text),  # an argon2 hash; empty for people who sign in elsewhere
    _Filled("role", Text),
    _Filled("active", Boolean, default=True),
)

sessions = _table(
    "sessions",
    Column("digest", Text, primary_key=True),  # sha256 of the cookie
    _Filled("person", ForeignKey("people.id"), index=True),
    _Filled("form_key", Text),
    _Filled("expires_at", Float),
    _Words("task"),
    _Words("reason"),
)

attempts = _table(
    "attempts",
    _number(),
    _Filled("subject", Text),
    _Filled("at", Float),
    Index("attempts_by_subject", "subject", "at"),
)

tasks = _table(
    "tasks",
    Column("id", Text, primary_key=True),
    _Filled("levels", Text),  # JSON, the points of each level
    _Filled("texts", Text),  # JSON: question, reference, rubric, language
    _Filled("paused", Boolean, default=False),
)

rows = _table(
    "rows",
    _number(),
    _Filled("source", Text),
    _Filled("line", BigInteger),
    _Filled("name", Text),  # the row's id in its file
    _Filled("task", Text),
    _Filled("text", Text),
    _Filled("status", Text),
    _Filled("level", Integer),  # the machine's, −1 without one
    _Filled("probabilities", Text),  # JSON
    Column("confidence", Float),
    Column("level_low", Integer),  # the range of levels that holds a human's
    Column("level_high", Integer),
    _Words("condition"),
    _Words("route"),
    Column("read_behind", Float),  # the probability of being picked, where it was picked
    _Words("version"),
    _Filled("chosen_by", Text),  # route, read_behind, all, sample, one of PAPERS, or empty
    _Filled("reason", Text),  # its queue, empty where no human reads it
    _Filled("priority", Float),
    Column("known_level", Integer),  # of a validity paper
    _Filled("folded_key", BigInteger),  # of the task and the folded text: duplicates share it
    _Filled("administration", Text),  # the scored file or folder that brought the row
    _Words("student"),  # who wrote it, as the file says; empty where it does not
    _Words("kept"),  # JSON: columns that the job kept; for exports, never for pages
    _Filled("salt", Text),
    _Filled("digest", Text),  # of the salt and all columns above but the id
    _Filled("state", Text),  # machine, waiting, second, adjudication, done, erased, or of PAPERS
    _Filled("round", Integer, default=1),
    Column("final_level", Integer),
    _Words("final_code"),
    Column("final_decision", BigInteger),
    UniqueConstraint("source", "line", "name"),
    Index("rows_by_name", "name"),
    Index("rows_by_folded_key", "folded_key"),
    Index("rows_by_state", "state", "task"),
)

anchors = _table(
    "anchors",
    _number(),
    _Filled("task", Text),
    _Filled("level", Integer),
    _Filled("text", Text),
    _Words("note"),
    Index("anchors_by_task", "task", "level"),
)

reads = _table(
    "reads",
    _number(),
    _Filled("row", ForeignKey("rows.id"), index=True),
    _Filled("kind", Text),  # first, second, adjudication, validity, qualification
    _Filled("round", Integer, default=1),
    _Filled("task", Text),
    _Filled("reason", Text),
    _Filled("priority", Float),
    _Filled("state", Text),  # open, leased, aside, done, withdrawn
    Column("not_for", BigInteger),
    Column("only_for", BigInteger),
    Column("person", BigInteger),
    Column("token", Text, unique=True),  # of the lease; a new one each time
    Column("lead", BigInteger),  # the read that this one is a group member of, while it is leased
    Column("leased_at", Float),
    Column("shown_at", Float),  # when its page was sent last
    Column("lease_until", Float),
    Index("reads_in_order", "task", "reason", "state", "priority", "id", "not_for", "only_for"),
    Index("reads_by_lease", "state", "lease_until"),
    Index("reads_by_person", "person", "state", "kind"),
)

queues = _table(
    "queues",
    Column("task", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    _Filled("waiting", Integer, default=0),
    _Filled("done", Integer, default=0),
    _Filled("spent_s", Float, default=0),
)

decisions = _table(
    "decisions",
    _number(),
    _Filled("read", ForeignKey("reads.id")),
    _Filled("row", ForeignKey("rows.id"), index=True),
    _Filled("person", ForeignKey("people.id")),
    _Filled("task", Text),
    _Filled("kind", Text),
    _Filled("round", Integer),
    Column("level", Integer),
    _Words("code"),
    _Filled("saw", Text),  # blind, machine, scores (of both raters)
    _Filled("at", Float),
    _Filled("spent_s", Float),
    Column("lead", BigInteger, index=True),  # the decision that this one was made with
    _Filled("size", Integer, default=1),  # responses decided as one
    _Filled("fast", Boolean, default=False),  # sooner than the policy's fast_s
    _Filled("compared", Boolean, default=False),
    _Filled("undone", Boolean, default=False),
    Index("decisions_by_person", "person", "id"),
    Index("decisions_by_task", "task", "kind", "undone"),
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
    _number(),
    _Filled("row", ForeignKey("rows.id"), index=True),
    Column("person", ForeignKey("people.id")),  # who raised it; empty where a task did
    _Words("task"),  # the alert task
    Column("probability", Float),  # of danger, by the alert task; empty where it could not score the response
    _Filled("at", Float),
    Column("handled_by", BigInteger),
    Column("handled_at", Float, index=True),
)

alert_views = _table(
    "alert_views",
    Column("alert", ForeignKey("alerts.id"), primary_key=True),
    Column("person", ForeignKey("people.id"), primary_key=True),
    _Filled("at", Float),
)

record = _table(
    "record",
    Column("number", _KEY, primary_key=True, autoincrement=False),
    _Filled("entry", Text),  # canonical JSON, the digest of the entry before included
    _Filled("digest", Text, unique=True),
    Column("row", BigInteger, index=True),
)

# What people write about a response is not in the record, which cannot forget: an entry holds its digest.
remarks = _table(
    "remarks",
    Column("entry", _KEY, primary_key=True, autoincrement=False),
    _Filled("row", ForeignKey("rows.id"), index=True),
    _Filled("text", Text),
)

# Conversations of a rater with the leaders about one reading; the text is the entry's remark.
messages = _table(
    "messages",
    Column("entry", _KEY, primary_key=True, autoincrement=False),
    _Filled("read", ForeignKey("reads.id"), index=True),
    _Filled("rater", ForeignKey("people.id"), index=True),
    _Filled("person", ForeignKey("people.id")),  # who wrote it
    _Filled("at", Float),
)

# Whose responses a person reads; without a row, those of all tasks.
assignments = _table(
    "assignments",
    _number(),
    _Filled("person", ForeignKey("people.id"), index=True),
    _Filled("tasks", Text),  # a pattern, such as bio-*
    Column("quota", Integer),  # most decisions; empty for no limit
)

# Raters who share assignments: each member's are those of the pool and their own.
pools = _table(
    "pools",
    _number(),
    _Filled("name", Text, unique=True),
    _Filled("assignments", Text),  # JSON: tasks and quota of each
)

pool_members = _table(
    "pool_members",
    Column("pool", ForeignKey("pools.id"), primary_key=True),
    Column("person", ForeignKey("people.id"), primary_key=True, index=True),
)

# What was decided about a person and a task: by a qualification set, by control limits, by a leader.
standings = _table(
    "standings",
    Column("person", ForeignKey("people.id"), primary_key=True),
    Column("task", Text, primary_key=True),
    _Filled("state", Text),  # qualified, failed, paused, again
    _Filled("since", BigInteger),  # decisions after this one count for what comes next
    Column("exact", Integer),  # of the papers that it rests on
    Column("papers", Integer),
)

# What follows is of `scoremux api`: `token` is the name of the token that a request came with.

# Rows that came by the API; a row's owner is token, task and id.
api_rows = _table(
    "api_rows",
    Column("row", ForeignKey("rows.id"), primary_key=True),
    _Filled("token", Text),
    _Filled("task", Text),
    _Filled("name", Text),  # the row's id
    _Filled("at", Float),  # when it came
    UniqueConstraint("token", "name", "task"),
)

webhooks = _table(
    "webhooks",
    Column("id", Text, primary_key=True),  # wh_…
    _Filled("token", Text, index=True),
    _Words("issued"),  # `AccessToken.key` of the token; another one may get its name
    _Filled("url", Text),
    _Filled("events", Text),  # JSON: the types that it asks for
    _Filled("secrets", Text),  # JSON: the newest first, two while they change
    _Filled("created_at", Float),
    _Filled("failures", Integer, default=0),  # since a delivery was taken
    _Filled("due_at", Float, default=0.0),  # nothing is sent before
)

# The outbox: written in the transaction that makes the event, sent by the API.
deliveries = _table(
    "deliveries",
    Column("number", _KEY, primary_key=True),
    _Filled("id", Text, unique=True),  # msg_…
    _Filled("webhook", ForeignKey("webhooks.id")),
    _Filled("subject", Text),  # `row_subject` or a batch; those of one subject are sent in order
    _Filled("type", Text),
    _Filled("body", Text),
    _Filled("created_at", Float),
    _Filled("due_at", Float),
    _Filled("attempts", Integer, default=0),
    _Filled("state", Text, default=WAITING),
    _Words("answer"),  # to the last attempt
    Index("deliveries_by_subject", "subject", "webhook", "number"),
    Index("deliveries_by_webhook", "webhook", "number"),
    Index("deliveries_due", "state", "due_at"),
)

idempotency = _table(
    "idempotency",
    Column("token", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _Filled("digest", Text),  # of the request
    Column("status", Integer),  # empty while the request runs
    Column("answer", sa.LargeBinary),
    _Filled("at", Float, index=True),
    _Words("holder"),  # the request that runs; it renews `at`
)

batches = _table(
    "batches",
    Column("id", Text, primary_key=True),  # batch_…
    _Filled("token", Text, index=True),
    _Filled("patterns", Text),  # JSON: of the tasks that the token may use
    _Filled("state", Text),
    _Filled("counts", Text),  # JSON
    _Filled("errors", Text, default="[]"),  # JSON
    _Filled("times", Text, default="{}"),  # JSON: when it came into each state
    _Filled("size", BigInteger, default=0),  # bytes on disk
    _Filled("created_at", Float),
    _Filled("changed_at", Float),
)

# Columns by name: `ROW.task` is the column `task` of the table `rows`.
ROW = rows.c
READ = reads.c
DECISION = decisions.c
PERSON = people.c
WEBHOOK = webhooks.c
DELIVERY = deliveries.c
ALERT = alerts.c
VIEW = alert_views.c
MESSAGE = messages.c
REMARK = remarks.c
QUEUE = queues.c
TASK = tasks.c
SETTING = settings.c
API_ROW = api_rows.c
REQUEST = idempotency.c
BATCH = batches.c
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


def row_subject(task: str, name: str) -> str:
    """Return the subject of deliveries about a row; a task's id has no space."""
    return f"{task} {name}"
