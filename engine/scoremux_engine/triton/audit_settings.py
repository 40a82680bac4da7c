"""How the audit log is kept, as the model's parameters and the environment say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scoremux_engine.errors import AuditError

KEY_VARIABLE = "SCOREMUX_AUDIT_KEY"
REFUSE, CONTINUE = "refuse", "continue"
KEY_BYTES = 16
"""Shortest key that is taken: a shorter one can be guessed."""


@dataclass(frozen=True)
class AuditSettings:
    """How the audit log is kept.

    path: None for no log; rotate_bytes: size at which a new file is begun; key: of the HMAC, None for plain SHA-256;
    refuses: whether a batch that cannot be logged gets no scores.
    """

    path: Path | None = None
    rotate_bytes: int = 256 << 20
    refuses: bool = True
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, parameters: Mapping[str, str], variables: Mapping[str, str] = os.environ) -> AuditSettings:
        """Read the settings.

        Args:
            parameters: `audit_log`, `audit_rotate_bytes`, `audit_when_full` and `audit_key_file`; all are optional.
            variables: The environment, where the key may be as SCOREMUX_AUDIT_KEY instead; white space around it does
                not count.

        Raises:
            AuditError: The key cannot be read, is too short or is in both places.
        """
        path = parameters.get("audit_log", "")
        if not path:
            return cls()
        return cls(
            Path(path),
            int(parameters.get("audit_rotate_bytes", cls.rotate_bytes)),
            parameters.get("audit_when_full", REFUSE) == REFUSE,
            _key(parameters.get("audit_key_file", ""), variables.get(KEY_VARIABLE, "")),
        )


def _key(file: str, variable: str) -> bytes | None:
    if file and variable:
        raise AuditError(f"the audit key is both in {file} and in {KEY_VARIABLE}: give one of them")
    if not file and not variable:
        return None
    try:
        # The very bytes, whatever the locale: the same secret is the same key in both places.
        key = (Path(file).read_bytes() if file else os.fsencode(variable)).strip()
    except OSError as error:
        raise AuditError(f"the audit key {file} cannot be read: {error.strerror or error}") from error
    if len(key) < KEY_BYTES:
        raise AuditError(f"the audit key in {file or KEY_VARIABLE} has {len(key)} bytes; it takes {KEY_BYTES} at least")
    return key
