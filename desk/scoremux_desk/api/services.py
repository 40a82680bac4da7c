"""Services of the endpoints: the options of `scoremux api`, the database, and the way to Triton."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from scoremux_batch.jobs import ForPeople
from scoremux_client import Response
from scoremux_desk.api.bodies import Bodies
from scoremux_desk.api.callers import Caller, Callers
from scoremux_desk.api.followers import Followers
from scoremux_desk.api.live_intake import LiveIntake
from scoremux_desk.api.problems import UPDATE_S, ApiProblem
from scoremux_desk.api.triton_scorer import TritonScorer
from scoremux_desk.database.connection import Database
from scoremux_files import InputError

LEAST_FREE_BYTES = 8 << 20
"""Free bytes that the API needs to be ready: a request with its rows on the desk."""


@dataclass
class Services:
    """The options of `scoremux api` that endpoints need, and one of each thing that they share.

    Attributes:
        tasks: The store, for questions and policies of tasks.
        keep_days: Days for which settled rows are kept; None: for ever.
    """

    database: Database
    scorer: TritonScorer
    callers: Callers
    tasks: Path | None = None
    people: ForPeople = field(default_factory=ForPeople)
    keep_days: int | None = None

    def __post_init__(self) -> None:
        self.intake = LiveIntake(
            self.database, self.people, lambda: self.scorer.ask_tasks(self.callers.operator()).result()
        )
        self.bodies = Bodies()
        self.followers = Followers(self.database)

    def check_room(self) -> None:
        """Return if a file of rows can be written. Raises ApiProblem (503), before a row would be lost."""
        if self.database.is_sqlite:
            place = Path(str(self.database.engine.url.database)).parent
            if not os.access(place, os.W_OK) or shutil.disk_usage(place).free < LEAST_FREE_BYTES:
                raise ApiProblem(503, "Storage unavailable", "the disk of the API is full or read-only", UPDATE_S)

    async def alerts(self, caller: Caller, rows: Sequence[Response]) -> Sequence[Mapping[str, Any] | None]:
        """Score rows for the alert task, too; return an alert or None for each row.

        Raises ApiProblem where the alert task cannot be scored, TransportError as the scorer does.
        """
        if (alert := self.people.alert) is None:
            return [None] * len(rows)
        caller = self.callers.may_also_score(caller, alert.task)
        outcomes = await self.scorer.score(caller, [Response(alert.task, row.text) for row in rows])
        try:
            described = [alert.describe(outcome) for outcome in outcomes]
        except InputError as error:
            raise ApiProblem(503, "Alerts unavailable", str(error), UPDATE_S) from None
        return [None if row.text is None else said for row, said in zip(rows, described, strict=True)]


# `async`: FastAPI runs plain functions in its threads, and there are few of these.
async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _caller(request: Request) -> Caller:
    return (await _services(request)).callers.of(request)


ServicesOf = Annotated[Services, Depends(_services)]
CallerOf = Annotated[Caller, Depends(_caller)]
"""Who sent the request; a parameter of this type answers 401 to others."""
