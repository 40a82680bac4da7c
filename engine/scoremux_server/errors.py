"""Errors of the server.

ScoremuxError
└── ServerError
    ├── SetupError      something needed to start is missing or wrong
    ├── StartError      HAProxy ended; or Triton stopped or never became ready: the message has its last error
    │   └── InterruptedStartError  another start may succeed: a process died, or the start took too long
    └── CrashLoopError  Triton died again and again; the message has the last cause
"""

from scoremux_client.errors import ScoremuxError


class ServerError(ScoremuxError):
    """Base of the server's errors."""


class SetupError(ServerError):
    """Something needed to start is missing or wrong."""


class StartError(ServerError):
    """Triton stopped or never became ready, or HAProxy ended."""


class InterruptedStartError(StartError):
    """Triton or a stub died, or took too long to start; nothing says that the next start would fail too."""


class CrashLoopError(ServerError):
    """Triton died again and again."""
