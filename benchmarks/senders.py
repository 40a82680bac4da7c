"""Threads that send rows without a pause until told to stop, and the rows they send."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from scoremux_client import Response

WORDS = """
the router hands out addresses to hosts a packet is lost window flow control server never sent again
""".split()  # noqa: SIM905


def made_up_rows(tasks: Sequence[str], count: int, draw: random.Random) -> list[Response]:
    """Return `count` responses of 3 to 40 words to random tasks."""
    return [Response(draw.choice(tasks), " ".join(draw.choices(WORDS, k=draw.randint(3, 40)))) for _ in range(count)]


Own = TypeVar("Own", bound="Senders")


class Senders:
    """Runs `send` once for each of `arguments`, on a thread of its own; it returns soon after `stop` is set."""

    def __init__(self, send: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        self.stop = threading.Event()
        self._threads = [threading.Thread(target=send, args=given) for given in arguments]

    def __enter__(self: Own) -> Own:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join()
