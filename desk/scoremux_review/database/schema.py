"""The tables. `record` only grows: triggers (`guards`) refuse any change to it."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Text, UniqueConstraint

from scoremux_assess.labels import CHOSEN_BY

metadata = sa.MetaData()


def _table(name: str, *parts: Any) -> sa.Table:
    return sa.Table(name, metadata, *parts)


def inserted(connection: sa.Connection, table: sa.Table, **values: Any) -> int:
    """Insert a row; return its number."""
    key = connection.execute(sa.insert(table).values(**values)).inserted_primary_key
    assert key is not None  # an INSERT of one row has a key
    return int(key[0])


def unindexed(column: Column[str]) -> sa.ColumnElement[str]:
    """Return a column as the database will not look it up by an index.

    Without statistics SQLite takes `state = 'open'`, true for a million rows, to be as selective as a key.
    """
    return column.op("||")("")


_KEY = BigInteger().with_variant(Integer, "sqlite")

ROUTE, BEHIND, ALL, DRAWN, VALIDITY = CHOSEN_BY
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

settings = _table("settings", Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

people = _table(
    "people",
    Column("id", _KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("password", Text),  # an argon2 hash; empty for people who sign in elsewhere
    Column("role", Text, nullable=False),
    Column("active", Boolean, nullable=False, default=True),
)

sessions = _table(
    "sessions",
    Column("digest", Text, primary_key=True),  # sha256 of the cookie
    Column("person", ForeignKey("people.id"), nullable=False, index=True),
    Column("form_key", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("task", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
)

attempts = _table(
    "attempts",
    Column("id", _KEY, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("attempts_by_subject", "subject", "at"),
)

tasks = _table(
    "tasks",
    Column("id", Text, primary_key=True),
    Column("levels", Text, nullable=False),  # JSON, the points of each level
    Column("texts", Text, nullable=False),  # JSON: question, reference, rubric, language
    Column("paused", Boolean, nullable=False, default=False),
)

rows = _table(
    "rows",
    Column("id", _KEY, primary_key=True),
    Column("source", Text, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("name", Text, nullable=False),  # the row's id in its file
    Column("task", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("level", Integer, nullable=False),  # the machine's, −1 without one
    Column("probabilities", Text, nullable=False),  # JSON
    Column("confidence", Float),
    Column("level_low", Integer),  # the range of levels that holds a human's
    Column("level_high", Integer),
    Column("condition", Text, nullable=False, default=""),
    Column("route", Text, nullable=False, default=""),
    Column("read_behind", Float),  # the probability of being picked, where it was picked
    Column("version", Text, nullable=False, default=""),
    Column("chosen_by", Text, nullable=False),  # route, read_behind, all, sample, one of PAPERS, or empty
    Column("reason", Text, nullable=False),  # its queue, empty where no human reads it
    Column("priority", Float, nullable=False),
    Column("known_level", Integer),  # of a validity paper
    Column("folded_key", BigInteger, nullable=False),  # of the task and the folded text: duplicates share it
    Column("administration", Text, nullable=False),  # the scored file or folder that brought the row
    Column("student", Text, nullable=False, default=""),  # who wrote it, as the file says; empty where it does not
    Column("kept", Text, nullable=False, default=""),  # JSON: columns that the job kept; for exports, never for pages
    Column("salt", Text, nullable=False),
    Column("digest", Text, nullable=False),  # of the salt and all columns above but the id
    Column("state", Text, nullable=False),  # machine, waiting, second, adjudication, done, erased, or of PAPERS
    Column("round", Integer, nullable=False, default=1),
    Column("final_level", Integer),
    Column("final_code", Text, nullable=False, default=""),
    Column("final_decision", BigInteger),
    UniqueConstraint("source", "line", "name"),
    Index("rows_by_name", "name"),
    Index("rows_by_folded_key", "folded_key"),
    Index("rows_by_state", "state", "task"),
)

anchors = _table(
    "anchors",
    Column("id", _KEY, primary_key=True),
    Column("task", Text, nullable=False),
    Column("level", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("note", Text, nullable=False, default=""),
    Index("anchors_by_task", "task", "level"),
)

reads = _table(
    "reads",
    Column("id", _KEY, primary_key=True),
    Column("row", ForeignKey("rows.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),  # first, second, adjudication, validity, qualification
    Column("round", Integer, nullable=False, default=1),
    Column("task", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("priority", Float, nullable=False),
    Column("state", Text, nullable=False),  # open, leased, aside, done, withdrawn
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
    Column("waiting", Integer, nullable=False, default=0),
    Column("done", Integer, nullable=False, default=0),
    Column("spent_s", Float, nullable=False, default=0),
)

decisions = _table(
    "decisions",
    Column("id", _KEY, primary_key=True),
    Column("read", ForeignKey("reads.id"), nullable=False),
    Column("row", ForeignKey("rows.id"), nullable=False, index=True),
    Column("person", ForeignKey("people.id"), nullable=False),
    Column("task", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("level", Integer),
    Column("code", Text, nullable=False, default=""),
    Column("saw", Text, nullable=False),  # blind, machine, scores (of both raters)
    Column("at", Float, nullable=False),
    Column("spent_s", Float, nullable=False),
    Column("lead", BigInteger, index=True),  # the decision that this one was made with
    Column("size", Integer, nullable=False, default=1),  # responses decided as one
    Column("fast", Boolean, nullable=False, default=False),  # sooner than the policy's fast_s
    Column("compared", Boolean, nullable=False, default=False),
    Column("undone", Boolean, nullable=False, default=False),
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
    Column("id", _KEY, primary_key=True),
    Column("row", ForeignKey("rows.id"), nullable=False, index=True),
    Column("person", ForeignKey("people.id")),  # who raised it; empty where a task did
    Column("task", Text, nullable=False, default=""),  # the alert task
    Column("probability", Float),  # of danger, by the alert task; empty where it could not score the response
    Column("at", Float, nullable=False),
    Column("handled_by", BigInteger),
    Column("handled_at", Float, index=True),
)

alert_views = _table(
    "alert_views",
    Column("alert", ForeignKey("alerts.id"), primary_key=True),
    Column("person", ForeignKey("people.id"), primary_key=True),
    Column("at", Float, nullable=False),
)

record = _table(
    "record",
    Column("number", _KEY, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False),  # canonical JSON, the digest of the entry before included
    Column("digest", Text, nullable=False, unique=True),
    Column("row", BigInteger, index=True),
)

# What people write about a response is not in the record, which cannot forget: an entry holds its digest.
remarks = _table(
    "remarks",
    Column("entry", _KEY, primary_key=True, autoincrement=False),
    Column("row", ForeignKey("rows.id"), nullable=False, index=True),
    Column("text", Text, nullable=False),
)

# Conversations of a rater with the leaders about one reading; the text is the entry's remark.
messages = _table(
    "messages",
    Column("entry", _KEY, primary_key=True, autoincrement=False),
    Column("read", ForeignKey("reads.id"), nullable=False, index=True),
    Column("rater", ForeignKey("people.id"), nullable=False, index=True),
    Column("person", ForeignKey("people.id"), nullable=False),  # who wrote it
    Column("at", Float, nullable=False),
)

# Whose responses a person reads; without a row, those of all tasks.
assignments = _table(
    "assignments",
    Column("id", _KEY, primary_key=True),
    Column("person", ForeignKey("people.id"), nullable=False, index=True),
    Column("tasks", Text, nullable=False),  # a pattern, such as bio-*
    Column("quota", Integer),  # most decisions; empty for no limit
)

# Raters who share assignments: each member's are those of the pool and their own.
pools = _table(
    "pools",
    Column("id", _KEY, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("assignments", Text, nullable=False),  # JSON: tasks and quota of each
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
    Column("state", Text, nullable=False),  # qualified, failed, paused, again
    Column("since", BigInteger, nullable=False),  # decisions after this one count for what comes next
    Column("exact", Integer),  # of the papers that it rests on
    Column("papers", Integer),
)

# What follows is of `scoremux api`: `token` is the name of the token that a request came with.

# Rows that came by the API; a row's owner is token, task and id.
api_rows = _table(
    "api_rows",
    Column("row", ForeignKey("rows.id"), primary_key=True),
    Column("token", Text, nullable=False),
    Column("task", Text, nullable=False),
    Column("name", Text, nullable=False),  # the row's id
    Column("at", Float, nullable=False),  # when it came
    UniqueConstraint("token", "name", "task"),
)

webhooks = _table(
    "webhooks",
    Column("id", Text, primary_key=True),  # wh_…
    Column("token", Text, nullable=False, index=True),
    Column("issued", Text, nullable=False, default=""),  # `AccessToken.key` of the token; another one may get its name
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),  # JSON: the types that it asks for
    Column("secrets", Text, nullable=False),  # JSON: the newest first, two while they change
    Column("created_at", Float, nullable=False),
    Column("failures", Integer, nullable=False, default=0),  # since a delivery was taken
    Column("due_at", Float, nullable=False, default=0.0),  # nothing is sent before
)

# The outbox: written in the transaction that makes the event, sent by the API.
deliveries = _table(
    "deliveries",
    Column("number", _KEY, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # msg_…
    Column("webhook", ForeignKey("webhooks.id"), nullable=False),
    Column("subject", Text, nullable=False),  # `row_subject` or a batch; those of one subject are sent in order
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("state", Text, nullable=False, default=WAITING),
    Column("answer", Text, nullable=False, default=""),  # to the last attempt
    Index("deliveries_by_subject", "subject", "webhook", "number"),
    Index("deliveries_by_webhook", "webhook", "number"),
    Index("deliveries_due", "state", "due_at"),
)

idempotency = _table(
    "idempotency",
    Column("token", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # of the request
    Column("status", Integer),  # empty while the request runs
    Column("answer", sa.LargeBinary),
    Column("at", Float, nullable=False, index=True),
    Column("holder", Text, nullable=False, default=""),  # the request that runs; it renews `at`
)

batches = _table(
    "batches",
    Column("id", Text, primary_key=True),  # batch_…
    Column("token", Text, nullable=False, index=True),
    Column("patterns", Text, nullable=False),  # JSON: of the tasks that the token may use
    Column("state", Text, nullable=False),
    Column("counts", Text, nullable=False),  # JSON
    Column("errors", Text, nullable=False, default="[]"),  # JSON
    Column("times", Text, nullable=False, default="{}"),  # JSON: when it came into each state
    Column("size", BigInteger, nullable=False, default=0),  # bytes on disk
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
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


def row_subject(task: str, name: str) -> str:
    """Return what deliveries about a row have as subject; a task's id has no space."""
    return f"{task} {name}"
