"""For your own tests: a transport that answers without a server.

>>> from scoremux_client import Response, ScoringClient, UnavailableError
>>> transport = FakeTransport({"t-1": [0, 0.5, 1]}, level=lambda task, text: 2 if "address" in text else 0)
>>> transport.fail(UnavailableError("restarting"))  # the next request; the client sends it again
>>> with ScoringClient(transport) as client:
...     [scored.score for scored in client.score([Response("t-1", "addresses"), Response("t-1", "no idea")])]
[1.0, 0.0]
>>> len(transport.requests)  # the failure, a probe, and the rows again
3
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from scoremux_client import contract
from scoremux_client.answer_columns import DTYPES
from scoremux_client.contract import Status
from scoremux_client.errors import RejectedError, TransportError
from scoremux_client.rows import Answer, Columns, Response, to_bytes

Level = Callable[[str, str], int]


class FakeTransport:
    """Answers at once, as a server with `tasks` (id → points of each level) would. Works in one process, for tests.

    level: (task, text) → the level a text gets; the highest by default.
    requests: the requests so far, a list of responses each. closed: whether the client closed it. arithmetic: the
    arithmetic of rows with a score.
    """

    def __init__(self, tasks: Mapping[str, Sequence[float]], level: Level | None = None) -> None:
        self.requests: list[list[Response]] = []
        self.closed = False
        self.arithmetic = ""
        self._tasks = dict(tasks)
        self._level = level or (lambda task, _: len(self._tasks[task]) - 1)
        self._failures: deque[TransportError] = deque()

    def fail(self, error: TransportError, times: int = 1) -> None:
        """Let the next requests fail."""
        self._failures.extend([error] * times)

    def submit(self, inputs: Columns, timeout_s: float | None) -> Answer:  # noqa: ARG002
        """Take one request."""
        future = Answer()
        texts, tasks = (inputs[spec.name][:, 0].tolist() for spec in contract.INPUTS)
        decoded = zip(tasks, texts, strict=True)
        responses = [Response(task.decode(errors="replace"), text) for task, text in decoded]
        self.requests.append(responses)
        self._answer(future, responses)
        return future

    def sharing(self, headers: Mapping[str, str], **options: bool) -> "FakeTransport":  # noqa: ARG002
        """Return this transport, which has no connections, where one of gRPC has others on the same connections."""
        return self

    def close(self) -> None:
        """Refuse further requests."""
        self.closed = True

    def _answer(self, future: Answer, responses: list[Response]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if self.closed:
            future.set_exception(RejectedError("fake: this client is closed"))
        elif self._failures:
            future.set_exception(self._failures.popleft())
        else:
            future.set_result(self._columns(responses))

    def _columns(self, responses: list[Response]) -> Columns:
        width = max([1, *map(len, self._tasks.values())])
        values: dict[str, Any] = {
            "STATUS": b"OK",
            "ROUTE": b"machine",
            "ARITHMETIC": self.arithmetic.encode(),
            "LEVEL": contract.NO_LEVEL,
            "SCORE": contract.NO_SCORE,
            "CONFIDENCE": contract.NO_CONFIDENCE,
            "LEVEL_RANGE": contract.NO_RANGE,
        }
        columns: dict[str, npt.NDArray[Any]] = {}
        for spec in contract.OUTPUTS:
            shape = (len(responses), *(width if size == contract.VARIABLE else size for size in spec.shape))
            empty = b"" if spec.datatype == "BYTES" else 0
            columns[spec.name] = np.full(shape, values.get(spec.name, empty), DTYPES[spec.datatype])
        columns[contract.TASKS.name] = np.full((len(responses), 1), self._listed(), np.object_)
        for row, response in enumerate(responses):
            status, text = self._status(response)
            columns["STATUS"][row, 0] = status.value.encode()
            if status is not Status.OK:
                columns["ROUTE"][row, 0] = contract.route_without_score(status).encode()
            else:
                task = response.task.partition("@")[0]
                level, points = self._level(task, text), self._tasks[task]
                columns["LEVEL"][row, 0], columns["SCORE"][row, 0] = level, points[level]
                columns["PROBABILITIES"][row, : len(points)] = np.where(
                    np.arange(len(points)) == level, 1, contract.LEAST_PROBABILITY
                )
                columns["VERSION"][row, 0] = _version(task).encode()
                columns["TOKENS"][row, 0] = len(text.split()) + 2
        return columns

    def _listed(self) -> bytes:
        listed = [
            {"id": task, "version": _version(task), "levels": [*map(float, p)]} for task, p in self._tasks.items()
        ]
        return json.dumps(listed).encode()

    def _status(self, response: Response) -> tuple[Status, str]:
        """Return the status a server would give, and the text as it would read it."""
        valid_id = contract.TASK_PATTERN.fullmatch(response.task)
        if valid_id is None:
            return Status.INVALID_TASK, ""
        if valid_id[1] not in self._tasks:
            return Status.UNKNOWN_TASK, ""
        raw = to_bytes(response.text)
        if len(raw) > contract.MAX_TEXT_BYTES:
            return Status.TEXT_TOO_LONG, ""
        try:
            return Status.OK, raw.decode()
        except UnicodeDecodeError:
            return Status.INVALID_TEXT, ""


def _version(task: str) -> str:
    return hashlib.sha256(task.encode()).hexdigest()
