"""Which tasks a server has: asked for over the wire, without an admin endpoint."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scoremux_client import contract
from scoremux_client.errors import RejectedError
from scoremux_client.rows import Response, encode
from scoremux_client.transports.connect import connect, headers_with
from scoremux_client.transports.transport import Tls, Transport

_ID, _VERSION = re.compile(contract.TASK_ID_PATTERN), re.compile(contract.DIGEST_PATTERN)


@dataclass(frozen=True)
class ServedTask:
    """A live task of a server.

    Attributes:
        version: Digest of its live version.
        levels: Points of its levels; none if the server cannot read the version.
    """

    id: str
    version: str
    levels: tuple[float, ...]


def served_tasks(
    url: str | Transport,
    *,
    tls: Tls | None = None,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    insecure: bool = False,
    timeout_s: float = 30.0,
) -> list[ServedTask]:
    """Return the live tasks of a server that the token may score, by id.

    The options are those of `ScoringClient`; a transport of your own has to ask for the output `TASKS` alone.

    Raises:
        TransportError: The server does not answer, or does not list its tasks.
        InputError: An address makes no sense.
    """
    sent = headers_with(headers, token)
    transport = connect(url, tls, sent, insecure=insecure, outputs=(contract.TASKS,)) if isinstance(url, str) else url
    try:
        columns = transport.submit(encode([Response("", "")]), timeout_s).result()
    finally:
        if isinstance(url, str):
            transport.close()
    try:
        listed = json.loads(columns[contract.TASKS.name][0, 0])
        return [_task(**task) for task in listed]
    except (LookupError, TypeError, ValueError):
        raise RejectedError("the server's list of tasks is not what the contract allows; upgrade scoremux") from None


def _task(id: str, version: str, levels: Any) -> ServedTask:
    if not (_ID.fullmatch(id) and _VERSION.fullmatch(version)):
        raise ValueError
    return ServedTask(id, version, tuple(map(float, levels or ())))
