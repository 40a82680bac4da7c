"""`/v1/webhooks`: where a token wants to hear of its batches and rows, and what was sent there."""

import asyncio
import json
from datetime import datetime
from typing import Any, Literal, get_args

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from scoremux_desk.api.callers import Caller, Callers
from scoremux_desk.api.problems import ApiProblem, Described, declared, not_found
from scoremux_desk.api.services import CallerOf, ServicesOf
from scoremux_desk.api.shapes import KnownMembers, body_shape, parsed
from scoremux_desk.api.webhooks.addresses import NotLookedUpError
from scoremux_desk.reading import outbox
from scoremux_files import InputError

MOST_WEBHOOKS = 20
"""Of one token."""

_MOST_LISTED = 100
_MOST_BYTES = 16_384
router = APIRouter()
Event = Literal["batch.completed", "row.final", "row.corrected"]
State = Literal["waiting", "delivered", "dead"]


class WebhookRequest(KnownMembers):
    """A webhook to register."""

    url: str = Field(max_length=2_000)
    """https, and a host with public addresses alone."""
    events: list[Event] = Field(list(get_args(Event)), min_length=1, max_length=3)


class WebhookOut(Described):
    """A webhook of the token."""

    id: str
    url: str
    events: list[Event]
    created_at: datetime
    secret: str | None
    """For a library of Standard Webhooks; only in the answer that makes it."""


class WebhookList(BaseModel):
    """The webhooks of the token."""

    webhooks: list[WebhookOut]


class DeliveryOut(Described):
    """An event on its way to a webhook."""

    id: str
    """The header `webhook-id`, the same in each attempt."""
    type: Event
    state: State
    attempts: int
    answer: str
    """What the last attempt brought."""
    created_at: datetime
    due_at: datetime
    """When the next attempt is due, of a waiting one."""
    data: dict[str, Any]


class DeliveryList(BaseModel):
    """Deliveries of a webhook."""

    deliveries: list[DeliveryOut]


@router.post(
    "/v1/webhooks", status_code=201, responses=declared(408, 409, 413, 429), openapi_extra=body_shape(WebhookRequest)
)
async def register(request: Request, services: ServicesOf, caller: CallerOf) -> WebhookOut:
    """Register a URL, or give one that the token has other events and a new secret.

    Deliveries are then signed with the secret before, too, until the URL is registered once more.
    """
    with services.bodies.taking(caller.token) as taken:
        asked = parsed(WebhookRequest, await taken.read(request, _MOST_BYTES))
    issued = services.callers.key_of(caller)
    try:
        await services.addresses.of(asked.url, (caller.token, "new"))
    except NotLookedUpError as error:
        raise ApiProblem(503, "Lookup failed", str(error), 5) from error
    except InputError as error:
        raise ApiProblem(422, "Webhook refused", str(error)) from error

    def save() -> WebhookOut:
        with services.database.write() as connection:
            urls = {webhook.url for webhook in outbox.webhooks_of(connection, caller.token, issued)}
            if len(urls | {asked.url}) > MOST_WEBHOOKS:
                raise ApiProblem(409, "Too many webhooks", f"a token has at most {MOST_WEBHOOKS} webhooks; delete one")
            return _shown(*outbox.save_webhook(connection, caller.token, asked.url, asked.events, issued))

    return await asyncio.to_thread(save)


@router.get("/v1/webhooks", responses=declared())
def webhooks(services: ServicesOf, caller: CallerOf) -> WebhookList:
    """List the token's webhooks, without their secrets."""
    with services.database.read() as connection:
        mine = outbox.webhooks_of(connection, caller.token, services.callers.key_of(caller))
    return WebhookList(webhooks=[_shown(found) for found in mine])


@router.delete("/v1/webhooks/{webhook}", status_code=204, response_class=Response, responses=declared(404))
def delete(webhook: str, services: ServicesOf, caller: CallerOf) -> None:
    """Delete a webhook with its deliveries."""
    with services.database.write() as connection:
        _require(connection, services.callers, caller, webhook)
        outbox.delete_webhook(connection, webhook)


@router.get("/v1/webhooks/{webhook}/deliveries", responses=declared(404))
def deliveries(webhook: str, services: ServicesOf, caller: CallerOf, state: State | None = None) -> DeliveryList:
    """List the newest 100 deliveries of a webhook, or those in one state."""
    with services.database.read() as connection:
        _require(connection, services.callers, caller, webhook)
        found = outbox.deliveries_of(connection, webhook, state, _MOST_LISTED)
    return DeliveryList(
        deliveries=[
            DeliveryOut(
                **row._mapping,
                data=json.loads(row.body)["data"],
            )
            for row in found
        ]
    )


def _require(connection: Any, callers: Callers, caller: Caller, webhook: str) -> None:
    mine = outbox.webhooks_of(connection, caller.token, callers.key_of(caller))
    if all(found.id != webhook for found in mine):
        raise not_found("this webhook")


def _shown(webhook: Any, secret: str | None = None) -> WebhookOut:
    return WebhookOut(**{**webhook._mapping, "events": json.loads(webhook.events), "secret": secret})
