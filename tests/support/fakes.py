"""A server in this process whose level is the text itself, a number; and what to send it."""

from __future__ import annotations

from scoremux_client import Response, Retries
from scoremux_client.testing import FakeTransport

TASKS = {"t-1": [float(i) for i in range(1000)], "t-2": [0.0, 1.0]}
FAST = Retries(patience_s=60, contact_s=60, base_s=0.001, cap_s=0.01)


def fake() -> FakeTransport:
    return FakeTransport(TASKS, lambda _, text: int(text) % 1000)


def numbered(count: int) -> list[Response]:
    return [Response("t-1", str(i), f"id-{i}") for i in range(count)]


def sent(transport: FakeTransport) -> list[str]:
    """The texts sent, probes left out."""
    return [r.text.decode() for request in transport.requests for r in request if r.task]  # type: ignore[union-attr]
