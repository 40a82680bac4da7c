"""Batches → lines of the audit log, before their answers leave."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np

from scoremux_client import contract, rows
from scoremux_engine.errors import AuditError
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.scoring.observer import SeenBatch
from scoremux_engine.triton import metrics
from scoremux_engine.triton.audit_log import AppendLog, beginning
from scoremux_engine.triton.audit_settings import AuditSettings
from scoremux_engine.triton.recorder import Recorder

log = logging.getLogger(__name__)


class Audit:
    """An `Observer` that logs every row; a batch is one write.

    A batch that cannot be logged is counted, and either refused (AuditError) or scored all the same.

    Args:
        settings: Whether such a batch is refused, and the key of the digests.
        file: The log.
        provenance: What scores; a part of every line.
        recorder: Counts rows.
    """

    def __init__(self, settings: AuditSettings, file: AppendLog, provenance: Provenance, recorder: Recorder) -> None:
        self._refuses = settings.refuses
        self._digest = _digest(settings.key)
        self._file = file
        self._recorder = recorder
        self._constant = {
            "precision": provenance.precision,
            "runner": provenance.runner,
            "backbone": provenance.backbone,
            "engine": provenance.version,
        }
        self._complained = False

    @classmethod
    def open(cls, settings: AuditSettings, provenance: Provenance, recorder: Recorder) -> Audit | None:
        """Open the log; None where none is kept. Raises AuditError."""
        if settings.path is None:
            return None
        return cls(settings, AppendLog(settings.path, settings.rotate_bytes), provenance, recorder)

    def saw(self, seen: SeenBatch) -> None:
        """Log a batch. Raises AuditError if that fails and a batch that is not logged is refused."""
        try:
            self._file.write(self._lines(seen))
        except AuditError as error:
            self._recorder.add(metrics.AUDIT_UNWRITTEN_ROWS, seen.batch.size)
            if self._refuses:
                raise
            if not self._complained:
                log.error("scoring goes on, but %s", error)
            self._complained = True
            return
        self._complained = False
        self._recorder.add(metrics.AUDIT_ROWS, seen.batch.size)

    def close(self) -> None:
        """Close the log and release its lock."""
        self._file.close()

    def _lines(self, seen: SeenBatch) -> bytes:
        now = datetime.now(timezone.utc)
        columns = seen.columns
        names = (contract.STATUS, contract.LEVEL, contract.PROBABILITIES, contract.VERSION)
        status, level, probabilities, version = (columns[spec.name] for spec in names)
        confidence, condition, route, level_range = (columns[spec.name] for spec in contract.DECIDED)
        widths = {r.place: r.version.outputs if r.version.outputs > 1 else 0 for r in seen.batch.admitted}
        lines = []
        for place, (text, task) in enumerate(zip(seen.texts, seen.batch.tasks, strict=True)):
            scored = status[place, 0] == contract.Status.OK.value.encode()
            line: dict[str, Any] = {
                **beginning(now, self._digest(rows.to_bytes(text))),
                "task": task,  # what is no task's name may be anything, a student's words too
                "version": version[place, 0].decode() or None,
                "status": status[place, 0].decode(),
                "level": int(level[place, 0]) if scored else None,
                # Nine digits are a float32, bit for bit.
                "condition": condition[place, 0].decode(),
                "route": route[place, 0].decode(),
                "confidence": None if np.isnan(confidence[place, 0]) else float(f"{confidence[place, 0]:.9g}"),
                "level_range": level_range[place].tolist() if level_range[place, 0] >= 0 else None,
                "probabilities": [float(f"{p:.9g}") for p in probabilities[place, : widths[place]]] if scored else None,
                **self._constant,
            }
            lines.append(json.dumps(line, separators=(",", ":")))
        return "".join(f"{line}\n" for line in lines).encode()


def _digest(key: bytes | None) -> Callable[[bytes], str]:
    if key is None:
        return lambda text: f"sha256:{hashlib.sha256(text).hexdigest()}"
    return lambda text: f"hmac-sha256:{hmac.digest(key, text, 'sha256').hex()}"
