"""The thin client of scoremux: numpy and tritonclient, nothing else.

>>> from scoremux_client import Response
>>> Response(task="en-6.3-ipp", text="It hands out addresses.", id="r1")
Response(task='en-6.3-ipp', id='r1', text=<23 long>)
"""

from scoremux_client.client import AsyncScoringClient, ScoringClient
from scoremux_client.contract import Status
from scoremux_client.errors import (
    BusyError,
    DeadlineError,
    InputError,
    RejectedError,
    ScoremuxError,
    ServerDiedError,
    ServerDownError,
    TooLargeError,
    TransportError,
    UnavailableError,
)
from scoremux_client.grpc_transport import GrpcTransport
from scoremux_client.http_transport import HttpTransport
from scoremux_client.response import Response
from scoremux_client.retries import NO_RETRIES, Retries
from scoremux_client.scored import Scored
from scoremux_client.security import Tls
from scoremux_client.transport import Transport

__all__ = [
    "NO_RETRIES",
    "AsyncScoringClient",
    "BusyError",
    "DeadlineError",
    "GrpcTransport",
    "HttpTransport",
    "InputError",
    "RejectedError",
    "Response",
    "Retries",
    "Scored",
    "ScoremuxError",
    "ScoringClient",
    "ServerDiedError",
    "ServerDownError",
    "Status",
    "Tls",
    "TooLargeError",
    "Transport",
    "TransportError",
    "UnavailableError",
]
