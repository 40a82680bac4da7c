"""The outbox: events for the webhooks of `scoremux api`, written in the transaction that makes them.

Each webhook of the token that asks for the type gets a delivery of its own. Deliveries of one webhook and subject are
sent in order: the later ones wait for the first, also where it is dead, until someone sends it again.
"""

from __future__ import annotations

import base64
import json
import random
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select, update

from scoremux_review.database import log
from scoremux_review.database.schema import DEAD, DELIVERED, WAITING, api_rows, deliveries, row_subject, webhooks

BATCH_COMPLETED, ROW_FINAL, ROW_CORRECTED = "batch.completed", "row.final", "row.corrected"

MOST_AT_ONCE, MOST_IN_ALL = 10, 256
"""Deliveries that one process sends at the same time, to a webhook and in all."""


def save_webhook(connection: Connection, now: float, token: str, url: str, events: Sequence[str]) -> tuple[Any, str]:
    """Keep a webhook; return it, and its new secret.

    Where the token has this URL already, the webhook gets these events, and a second secret: deliveries are signed with
    the new one and with the newest one of those before.
    """
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    mine = (webhooks.c.token == token) & (webhooks.c.url == url)
    before = connection.execute(select(webhooks).where(mine)).one_or_none()
    keys = [secret, *(json.loads(before.secrets)[:1] if before else ())]
    values = {"events": json.dumps(list(events)), "secrets": json.dumps(keys)}
    if before is None:
        key = {"id": f"wh_{secrets.token_hex(12)}", "token": token, "url": url, "created_at": now}
        connection.execute(insert(webhooks).values(**key, **values))
    else:
        connection.execute(update(webhooks).where(mine).values(**values))
    return connection.execute(select(webhooks).where(mine)).one(), secret


def webhooks_of(connection: Connection, token: str) -> Sequence[Any]:
    """Return the webhooks of a token."""
    query = select(webhooks).where(webhooks.c.token == token).order_by(webhooks.c.created_at, webhooks.c.id)
    return connection.execute(query).all()


def delete_webhook(connection: Connection, webhook: str) -> None:
    connection.execute(delete(deliveries).where(deliveries.c.webhook == webhook))
    connection.execute(delete(webhooks).where(webhooks.c.id == webhook))


def deliveries_of(connection: Connection, webhook: str | None, state: str | None, most: int) -> Sequence[Any]:
    """Return the newest deliveries of a webhook, or of all, with its token and url; state: only those in this one."""
    query = select(deliveries, webhooks.c.token, webhooks.c.url).join(webhooks)
    query = query if webhook is None else query.where(deliveries.c.webhook == webhook)
    query = query if state is None else query.where(deliveries.c.state == state)
    return connection.execute(query.order_by(deliveries.c.number.desc()).limit(most)).all()


def add_event(
    connection: Connection, now: float, token: str, subject: str, event: str, data: Mapping[str, Any]
) -> None:
    """Write a delivery of an event for each webhook of a token that asks for its type.

    Args:
        subject: What the event is about: `row_subject`, or the id of a batch.
        event: One of the three types above.
        data: No name of a person and no text of a response.
    """
    at = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds")
    body = json.dumps({"type": event, "timestamp": at, "data": data}, separators=(",", ":"))
    for webhook in webhooks_of(connection, token):
        if event in json.loads(webhook.events):
            values = {"id": f"msg_{secrets.token_hex(16)}", "webhook": webhook.id, "subject": subject, "type": event}
            connection.execute(insert(deliveries).values(**values, body=body, created_at=now, due_at=now))


def add_decision_event(connection: Connection, now: float, row: Any, level: int | None, code: str) -> None:
    """Tell the token that sent a row how the desk has decided it: `row.final`, and later `row.corrected`.

    Call this before the decision is in the record.
    """
    owner = connection.execute(select(api_rows).where(api_rows.c.row == row.id)).one_or_none()
    if owner is None:
        return
    again = row.round > 1 or any(entry.body.get("state") == "done" for entry in log.entries(connection, row.id))
    data = {
        "task": owner.task, "id": owner.name, "level": level, "condition": code or None, "reason": row.reason or None,
        "machine_level": row.level if row.level >= 0 else None,
    }  # fmt: skip
    event = ROW_CORRECTED if again else ROW_FINAL
    add_event(connection, now, owner.token, row_subject(owner.task, owner.name), event, data)


def due(connection: Connection, now: float, busy: Mapping[str, int], until: float | None = None) -> list[Any]:
    """Return deliveries that can be sent now, with url and secrets of their webhooks.

    Args:
        busy: How many deliveries of a webhook are being sent by this process.
        until: Lease them: no process sends them before this time. The connection must be the only writer.
    """
    earlier = deliveries.alias()
    same = (earlier.c.webhook == deliveries.c.webhook) & (earlier.c.subject == deliveries.c.subject)
    behind = exists().where(same, earlier.c.number < deliveries.c.number, earlier.c.state != DELIVERED)
    is_due = (deliveries.c.state == WAITING) & (deliveries.c.due_at <= now)
    found: list[Any] = []
    waiting = connection.scalars(select(deliveries.c.webhook).where(is_due).distinct()).all()
    for webhook in sorted(waiting, key=lambda webhook: (busy.get(webhook, 0), random.random())):  # the slow ones last
        query = select(deliveries, webhooks.c.url, webhooks.c.secrets).join(webhooks)
        query = query.where(deliveries.c.webhook == webhook, is_due, ~behind).order_by(deliveries.c.number)
        room = min(MOST_AT_ONCE - busy.get(webhook, 0), MOST_IN_ALL - sum(busy.values()) - len(found))
        found += connection.execute(query.limit(max(0, room))).all()
    if until is not None:
        leased = deliveries.c.number.in_([delivery.number for delivery in found])
        connection.execute(update(deliveries).where(leased).values(due_at=until))
    return found


def end_lease(connection: Connection, delivery: Any, until: float, state: str, answer: str, due_at: float) -> None:
    """Keep the state after an attempt, what it brought, and when the next one is due.

    Another process may have the delivery by now, since the lease ended; then nothing changes.
    """
    mine = (deliveries.c.number == delivery.number) & (deliveries.c.due_at == until) & (deliveries.c.state == WAITING)
    values = {"state": state, "answer": answer, "due_at": due_at, "attempts": delivery.attempts + 1}
    connection.execute(update(deliveries).where(mine).values(**values))


def send_again(connection: Connection, now: float) -> int:
    """Make dead deliveries due; return how many."""
    again = update(deliveries).where(deliveries.c.state == DEAD).values(state=WAITING, attempts=0, due_at=now)
    return connection.execute(again).rowcount
