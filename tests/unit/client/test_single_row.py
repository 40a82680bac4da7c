"""A single row in place of a list of rows."""

import asyncio

import pytest

from scoremux_client import AsyncScoringClient, InputError, Response, ScoringClient
from scoremux_client.testing import FakeTransport

ROW = Response("t-1", "secret answer")


def test_single_row_is_refused_with_what_to_pass() -> None:
    with ScoringClient(FakeTransport({"t-1": [0, 1]})) as client:
        for given in (ROW, None):
            with pytest.raises(InputError, match=r"pass a list of them: client\.score\(\[Response\(…\)\]\)") as refused:
                client.score(given)  # type: ignore[arg-type]
            assert "secret" not in str(refused.value)

    async def score() -> None:
        async with AsyncScoringClient(FakeTransport({"t-1": [0, 1]})) as client:
            await client.score(ROW)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="rows are of type Response; pass a list of them"):
        asyncio.run(score())
