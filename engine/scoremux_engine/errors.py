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

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from scoremux_client.errors import ScoremuxError

T = TypeVar("T")
R = TypeVar("R")


class EngineError(ScoremuxError):
    """Base of the engine's errors."""


class BackboneError(EngineError):
    """The exported backbone is missing, damaged or of another format."""


class PackageError(EngineError):
    """Something is wrong with a task package or an adapter folder."""


class ClosedError(PackageError):
    """An adapter needs what the backbone keeps closed.

    what: the sentence without what to do.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; export the backbone again with --for and all adapters")
        self.what = what


def for_each(check: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Return what a check returns for each item.

    Raises PackageError that names all items for which it does, one a line; the check's own error where it is one.
    """
    done, wrong = list[R](), list[PackageError]()
    for item in items:
        try:
            done.append(check(item))
        except PackageError as error:
            wrong.append(error)
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise PackageError(
            "\n  ".join([f"{len(wrong)} of {len(done) + len(wrong)} adapters are refused:", *map(str, wrong)])
        )
    return done


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
