"""The client of scoremux: numpy, and tritonclient for gRPC.

>>> from scoremux_client import Response
>>> Response(task="en-6.3-ipp", text="It hands out addresses.", id="r1")
Response(task='en-6.3-ipp', id='r1', text=<23 long>)
"""

import importlib
from typing import TYPE_CHECKING, Any

from scoremux_client.calls.servers import NO_RETRIES, Retries
from scoremux_client.client import ScoringClient
from scoremux_client.contract import Status
from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    InputError,
    RejectedError,
    ScoremuxError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.rows import Response, Scored
from scoremux_client.served_tasks import ServedTask, served_tasks
from scoremux_client.transports.connect import connect
from scoremux_client.transports.transport import Tls, Transport

if TYPE_CHECKING:
    from scoremux_client.async_client import AsyncScoringClient
    from scoremux_client.testing import FakeTransport
    from scoremux_client.transports.grpc import GrpcTransport

__all__ = [
    "NO_RETRIES", "AsyncScoringClient", "BusyError", "DeadlineError", "FakeTransport", "GrpcTransport",
    "InputError", "RejectedError", "Response", "Retries", "Scored", "ScoremuxError", "ScoringClient",
    "ServedTask", "Status", "Tls", "TooLargeError", "Transport", "TransportError", "UnavailableError", "connect",
    "served_tasks",
]  # fmt: skip

_MODULE_OF = {
    "AsyncScoringClient": "scoremux_client.async_client",
    "FakeTransport": "scoremux_client.testing",
    "GrpcTransport": "scoremux_client.transports.grpc",
}


def __getattr__(name: str) -> Any:
    # A user of one client does not pay for the import of the other.
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
