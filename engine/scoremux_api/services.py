"""What the endpoints share: the settings of `scoremux api`, the database, and the way to Triton."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request

from scoremux_api.callers import Caller, Callers
from scoremux_api.rows.live_intake import LiveIntake
from scoremux_api.scorer import TritonScorer
from scoremux_api.webhooks.addresses import WebhookAddresses
from scoremux_cli.batch.people import Alert, ReadBehind
from scoremux_review.database.connection import Database


@dataclass(frozen=True)
class Settings:
    """The options of `scoremux api` that endpoints need.

    Attributes:
        folder: Where batches are kept.
        tasks: The store, for questions and policies of tasks.
        keep_days: Days for which texts and stored answers are kept; None for ever.
        allowed_hosts: Hosts to which webhooks may go although they are on loopback or private.
    """

    folder: Path
    tasks: Path | None = None
    read_behind: ReadBehind | None = None
    alert: Alert | None = None
    keep_days: int | None = None
    allowed_hosts: frozenset[str] = frozenset()


@dataclass
class Services:
    """One of each, for as long as the API runs."""

    settings: Settings
    database: Database
    scorer: TritonScorer
    callers: Callers
    batches_changed: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def intake(self) -> LiveIntake:
        """Commits rows that people read."""
        return LiveIntake(self.database, self.settings.read_behind)

    @cached_property
    def addresses(self) -> WebhookAddresses:
        """The addresses to which webhooks may go."""
        return WebhookAddresses(self.settings.allowed_hosts)


def services_of(request: Request) -> Services:
    """Return the services of the application that got a request."""
    return cast(Services, request.app.state.services)


def caller_of(request: Request) -> Caller:
    """Return who sent a request. Raises ApiProblem (401)."""
    return services_of(request).callers.of(request)


ServicesOf = Annotated[Services, Depends(services_of)]
CallerOf = Annotated[Caller, Depends(caller_of)]
