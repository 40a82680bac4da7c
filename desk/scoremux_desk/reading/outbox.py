"""The outbox: events for the webhooks of `scoremux api`, written in the transaction that makes them.

Each webhook of the token that asks for the type gets a delivery of its own. Deliveries of one webhook and subject are
sent in order: the later ones wait for the first, also where it is dead, until someone sends it again.
"""

import base64
import json
import random
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, exists, func, or_, select

from scoremux_desk.database import log, programme
from scoremux_desk.database.schema import (
    API_ROW,
    DEAD,
    DELIVERED,
    DELIVERY,
    WAITING,
    WEBHOOK,
    api_rows,
    as_dict,
    changed,
    deleted,
    deliveries,
    found,
    inserted,
    row_subject,
    time_of,
    webhooks,
)

BATCH_COMPLETED = "batch.completed"
ROW_FINAL = "row.final"
ROW_CORRECTED = "row.corrected"

MOST_AT_ONCE, MOST_OF_TOKEN, MOST_IN_ALL = 10, 64, 256
"""Deliveries that one process sends at the same time, to a webhook, of a token and in all."""

FEW_FAILURES = 3
"""Failures in a row from which a receiver is taken to be down: it gets one delivery after each pause."""

MOST_ATTEMPTS = 20
"""Attempts within about two days, after which a delivery is dead."""

_LONGEST_PAUSE_S = 14_400.0
_UNDATED_S = 2 * _LONGEST_PAUSE_S
"""What is due later than this was written under a wrong clock, and is due now."""


def pause_s(attempts: int) -> float:
    """Return the seconds from a failed attempt, the n-th, to the next: 5 × 3^(n − 1), at most 4 h."""
    return min(_LONGEST_PAUSE_S, 5.0 * 3.0 ** (attempts - 1))


def save_webhook(
    connection: Connection, token: str, url: str, events: Sequence[str], issued: str = ""
) -> tuple[Any, str]:
    """Keep a webhook; return it, and its new secret.

    Where the token has this URL already, the webhook gets these events, and a second secret: deliveries are signed with
    the new one and with the newest one of those before. A later token of the same name takes over the webhook with its
    waiting deliveries, and without the secrets of before.
    """
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    mine = (WEBHOOK.token == token) & (WEBHOOK.url == url)
    before = found(connection, webhooks, mine)
    keys = [secret, *(json.loads(before.secrets)[:1] if before and before.issued == issued else ())]
    values = {
        "events": json.dumps(list(events)),
        "secrets": json.dumps(keys),
        "issued": issued,
    }
    if before is None:
        key = f"wh_{secrets.token_hex(12)}"
        inserted(connection, webhooks, id=key, token=token, url=url, created_at=time_of(connection), **values)
    else:
        changed(connection, webhooks, mine, **values)
    return connection.execute(select(webhooks).where(mine)).one(), secret


def webhooks_of(connection: Connection, token: str = "", issued: str | None = None) -> Sequence[Any]:
    """Return the webhooks of a token name, or of all; issued: only those of the token with this key."""
    query = select(webhooks).order_by(WEBHOOK.token, WEBHOOK.created_at, WEBHOOK.id)
    query = query.where(WEBHOOK.token == token) if token else query
    return connection.execute(query if issued is None else query.where(WEBHOOK.issued == issued)).all()


def adopt_webhooks(connection: Connection, in_force: Mapping[str, str]) -> None:
    """Give webhooks that an earlier version kept, without the key of a token, that of the token of their name."""
    for token, issued in in_force.items():
        changed(connection, webhooks, WEBHOOK.token == token, WEBHOOK.issued == "", issued=issued)


def count_waiting(connection: Connection) -> Mapping[str, int]:
    """Return how many deliveries wait, by webhook."""
    query = select(DELIVERY.webhook, func.count()).where(DELIVERY.state == WAITING)
    return as_dict(connection, query.group_by(DELIVERY.webhook))


def delete_webhook(connection: Connection, webhook: str) -> int:
    """Delete a webhook with its deliveries; return whether there is one."""
    deleted(connection, deliveries, DELIVERY.webhook == webhook)
    return deleted(connection, webhooks, WEBHOOK.id == webhook)


def deliveries_of(connection: Connection, webhook: str | None, state: str | None, most: int) -> Sequence[Any]:
    """Return the newest deliveries of a webhook, or of all, with its token and url; state: only those in this one."""
    query = select(
        deliveries,
        WEBHOOK.token,
        WEBHOOK.url,
    ).join(webhooks)
    query = query if webhook is None else query.where(DELIVERY.webhook == webhook)
    query = query if state is None else query.where(DELIVERY.state == state)
    return connection.execute(query.order_by(DELIVERY.number.desc()).limit(most)).all()


def add_event(connection: Connection, token: str, subject: str, event: str, data: Mapping[str, Any]) -> None:
    """Write a delivery of an event for each webhook of a token that asks for its type.

    Args:
        subject: The row or batch of the event: `row_subject`, or the id of a batch.
        event: One of the three types above.
        data: No name of a person and no text of a response.
    """
    now = time_of(connection)
    body = json.dumps(
        {
            "type": event,
            "timestamp": log.iso_time(now),
            "data": data,
        },
        separators=(",", ":"),
    )
    for webhook in webhooks_of(connection, token):
        if event in json.loads(webhook.events):
            inserted(
                connection,
                deliveries,
                id=f"msg_{secrets.token_hex(16)}",
                webhook=webhook.id,
                subject=subject,
                type=event,
                body=body,
                created_at=now,
                due_at=now,
            )


def add_decision_event(connection: Connection, row: Any, level: int | None, code: str) -> None:
    """Tell the token that sent a row how the desk has decided it: `row.final`, and later `row.corrected`.

    Call this before the decision is in the record.
    """
    owner = found(connection, api_rows, API_ROW.row == row.id)
    if owner is None:
        return
    again = row.round > 1 or any(entry.body.get("state") == "done" for entry in log.entries(connection, row.id))
    data = {
        "task": owner.task,
        "id": owner.name,
        "level": level,
        "score": programme.item_of(connection, row.task).worth(level),
        "condition": code or None,
        "reason": row.reason or None,
        "machine_level": row.level if row.level >= 0 else None,
    }
    event = ROW_CORRECTED if again else ROW_FINAL
    add_event(
        connection,
        owner.token,
        row_subject(owner.task, owner.name),
        event,
        data,
    )


def due(
    connection: Connection,
    now: float,
    busy: Mapping[str, int],
    until: float | None = None,
    in_force: Mapping[str, str] | None = None,
) -> list[Any]:
    """Return deliveries that can be sent now, with url, secrets, token and failures of their webhooks.

    A webhook that is down gets one delivery after each pause, until it takes one.

    Args:
        busy: How many deliveries of a webhook are being sent by this process.
        until: Lease them: no process sends them before this time. The connection must be the only writer.
        in_force: Keys of the tokens that are in force, by name: other webhooks get nothing. None for all.
    """
    earlier = deliveries.alias()
    behind = exists().where(
        earlier.c.webhook == DELIVERY.webhook,
        earlier.c.subject == DELIVERY.subject,
        earlier.c.number < DELIVERY.number,
        earlier.c.state != DELIVERED,
    )
    late = now + _UNDATED_S
    is_due = (DELIVERY.state == WAITING) & or_(DELIVERY.due_at <= now, DELIVERY.due_at > late)
    found: list[Any] = []
    waiting = {*connection.scalars(select(DELIVERY.webhook).where(is_due).distinct())}
    all_webhooks = webhooks_of(connection) if waiting else ()
    of_token = Counter[str]()
    for webhook in all_webhooks:
        of_token[webhook.token] += busy.get(webhook.id, 0)
    slow_last = sorted(all_webhooks, key=lambda webhook: (busy.get(webhook.id, 0), random.random()))
    for webhook in slow_last:
        is_valid = in_force is None or in_force.get(webhook.token) == webhook.issued
        if webhook.id not in waiting or not is_valid or now < webhook.due_at <= late:
            continue
        of_webhook = (WEBHOOK[name] for name in ("url", "secrets", "token", "failures"))
        query = select(deliveries, *of_webhook).join(webhooks)
        query = query.where(DELIVERY.webhook == webhook.id, is_due, ~behind).order_by(DELIVERY.number)
        room = min(
            (1 if webhook.failures >= FEW_FAILURES else MOST_AT_ONCE) - busy.get(webhook.id, 0),
            MOST_OF_TOKEN - of_token[webhook.token],
            MOST_IN_ALL - sum(busy.values()) - len(found),
        )
        new = connection.execute(query.limit(max(0, room))).all()
        of_token[webhook.token] += len(new)
        found += new
    if until is not None:
        leased = DELIVERY.number.in_([delivery.number for delivery in found])
        changed(connection, deliveries, leased, due_at=until)
    return found


def end_lease(
    connection: Connection, delivery: Any, until: float, now: float, delivered: bool | None, answer: str
) -> None:
    """Keep the result of an attempt, and when the next one is due: of the delivery, and of the webhook.

    Another process may have the delivery by now, since the lease ended; then nothing changes.

    Args:
        until: The end of the lease.
        delivered: Whether the receiver took it; None where nothing was tried, which counts for no attempt.
    """
    mine = (DELIVERY.number == delivery.number) & (DELIVERY.due_at == until) & (DELIVERY.state == WAITING)
    attempts = delivery.attempts + (delivered is not None)
    state = DELIVERED if delivered else DEAD if attempts >= MOST_ATTEMPTS else WAITING
    jitter = random.uniform(0.8, 1.2)
    kept = changed(
        connection,
        deliveries,
        mine,
        state=state,
        answer=answer,
        due_at=now + pause_s(max(1, attempts)) * jitter,
        attempts=attempts,
    )
    if not kept or delivered is None:
        return
    webhook = WEBHOOK.id == delivery.webhook
    failures = delivery.failures + 1
    if delivered:
        changed(connection, webhooks, webhook, WEBHOOK.failures > 0, failures=0, due_at=0.0)
    elif failures >= MOST_ATTEMPTS:
        waiting = (DELIVERY.webhook == delivery.webhook) & (DELIVERY.state == WAITING)
        changed(connection, deliveries, waiting, state=DEAD, answer=answer)
        changed(connection, webhooks, webhook, failures=0, due_at=0.0)
    else:
        pause = pause_s(failures - FEW_FAILURES + 1) * jitter if failures >= FEW_FAILURES else 0.0
        # Of those that were sent together, and after a success, none counts.
        same = WEBHOOK.failures == delivery.failures
        changed(connection, webhooks, webhook, same, failures=failures, due_at=now + pause)


def send_again(connection: Connection) -> int:
    """Make dead deliveries due, and try all webhooks again; return how many there are."""
    changed(connection, webhooks, failures=0, due_at=0.0)
    return changed(
        connection,
        deliveries,
        DELIVERY.state == DEAD,
        state=WAITING,
        attempts=0,
        due_at=time_of(connection),
    )
