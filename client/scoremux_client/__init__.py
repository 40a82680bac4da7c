"""The thin client of scoremux: numpy and tritonclient, nothing else.

>>> from scoremux_client import Response
>>> Response(task="en-6.3-ipp", text="It hands out addresses.", id="r1")
Response(task='en-6.3-ipp', id='r1', text=<23 long>)
"""

from scoremux_client.client import ScoringClient
from scoremux_client.contract import Status
from scoremux_client.errors import (
    DeadlineError,
    InputError,
    RejectedError,
    ScoremuxError,
    TransportError,
    UnavailableError,
)
from scoremux_client.response import Response
from scoremux_client.scored import Scored
from scoremux_client.transport import GrpcTransport, Transport

__all__ = [
    "DeadlineError",
    "GrpcTransport",
    "InputError",
    "RejectedError",
    "Response",
    "Scored",
    "ScoremuxError",
    "ScoringClient",
    "Status",
    "Transport",
    "TransportError",
    "UnavailableError",
]
