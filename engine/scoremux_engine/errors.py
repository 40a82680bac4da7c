"""Errors of the engine.

    ScoremuxError
    └── EngineError
        ├── BackboneError    the exported backbone cannot be used
        ├── PackageError     something is wrong with a task package or a PEFT adapter; says what, by name
        │   └── ClosedError  an adapter needs what the backbone keeps closed; another export serves it
        ├── StoreError       the store cannot be read or changed
        ├── RunnerError      the backbone cannot be run here
        ├── DroppedError     a request was not computed: cancelled, late, too many rows wait, or the server stops
        ├── AuditError       the audit log cannot be opened, or cannot take the rows that were scored
        └── GrantError       a request has no valid grant, or the key of grants cannot be read

No message ever holds a response's text.
"""

from scoremux_client.errors import ScoremuxError


class EngineError(ScoremuxError):
    """Base of the engine's errors."""


class BackboneError(EngineError):
    """The exported backbone is missing, damaged or of another format."""


class PackageError(EngineError):
    """Something is wrong with a task package or an adapter folder."""


class ClosedError(PackageError):
    """An adapter needs parts that the backbone keeps closed; its message is without the remedy."""

    def __str__(self) -> str:
        return f"{self.args[0]}; export the backbone again with --for and all adapters"


class StoreError(EngineError):
    """The store cannot be read or changed."""


class RunnerError(EngineError):
    """The backbone cannot be run here."""


class DroppedError(EngineError):
    """A request was not computed.

    reason: `cancelled`, `late`, `full`, `token_full` or `stopped`: a label of metrics.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class AuditError(EngineError):
    """The audit log cannot be opened, or cannot take the rows that were scored."""


class GrantError(EngineError):
    """A request has no valid grant, or the key of grants cannot be read."""
