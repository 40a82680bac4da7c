"""What a running server answers with, task by task."""

from __future__ import annotations

from collections.abc import Sequence

from scoremux_client import Response, ScoringClient


def served_versions(url: str, tasks: Sequence[str]) -> dict[str, str]:
    """Return the digest that the server at `url` scores each task with, or the status it answers with instead.

    It is asked as anybody asks: one row a task, with an empty text. Raises the client's TransportError.
    """
    with ScoringClient(url) as client:
        answers = client.score([Response(task, "") for task in tasks])
    return {task: answer.version or answer.status.value for task, answer in zip(tasks, answers, strict=True)}
