"""Batches → lines of the audit log, before their answers leave; and the settings of the log."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scoremux_client import contract, rows
from scoremux_client.audit_lines import beginning, text_digest
from scoremux_engine.backend import metrics
from scoremux_engine.backend.audit_log import AppendLog
from scoremux_engine.backend.metrics import Recorder
from scoremux_engine.errors import AuditError
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.scoring.observer import ScoredBatch
from scoremux_engine.scoring.outcomes import margin_of
from scoremux_files.digests import read_key


@dataclass(frozen=True)
class AuditSettings:
    """How the audit log is kept.

    path: None for no log; rotate_bytes: size at which a new file is begun; key: of the HMAC, None for plain SHA-256.
    """

    path: Path | None = None
    rotate_bytes: int = 256 << 20
    key: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> AuditSettings:
        """Read the parameters `audit_…`, which are optional. Raises AuditError for a wrong key."""
        path, key_file = (parameters.get(name, "") for name in ("audit_log", "audit_key_file"))
        if not path:
            return cls()
        return cls(
            Path(path),
            int(parameters.get("audit_rotate_bytes", cls.rotate_bytes)),
            read_key(Path(key_file), raises=AuditError) if key_file else None,
        )


class Audit:
    """An `Observer` that logs every row, a batch in one write; one that cannot be logged is counted and refused."""

    def __init__(self, settings: AuditSettings, file: AppendLog, provenance: Provenance, recorder: Recorder) -> None:
        self._key = settings.key
        self._file = file
        self._recorder = recorder
        self._constant = {
            "arithmetic": provenance.arithmetic,
            "precision": provenance.precision,
            "runner": provenance.runner,
            "backbone": provenance.backbone,
            "engine": provenance.version,
        }

    @classmethod
    def open(cls, settings: AuditSettings, provenance: Provenance, recorder: Recorder) -> Audit | None:
        """Open the log; None where none is kept. Raises AuditError."""
        if settings.path is None:
            return None
        return cls(settings, AppendLog(settings.path, settings.rotate_bytes), provenance, recorder)

    def observe(self, batch: ScoredBatch) -> None:
        """Log a batch. Raises AuditError if that fails."""
        try:
            self._file.write(self._lines(batch))
        except AuditError:
            self._recorder.add(metrics.AUDIT_UNWRITTEN_ROWS, len(batch.texts))
            raise
        self._recorder.add(metrics.AUDIT_ROWS, len(batch.texts))

    def close(self) -> None:
        self._file.close()

    def _lines(self, batch: ScoredBatch) -> bytes:
        now = datetime.now(timezone.utc)
        columns = batch.columns
        names = (contract.STATUS, contract.LEVEL, contract.PROBABILITIES, contract.VERSION)
        status, level, probabilities, version = (columns[spec.name] for spec in names)
        confidence, condition, route, level_range = (columns[spec.name] for spec in contract.DECIDED)
        widths = {r.place: r.version.outputs if r.version.outputs > 1 else 0 for r in batch.plan.rows}
        margins = {
            r.place: margin_of(batch.logits[r.place, : r.version.outputs], r.version.task.levels)
            for r in batch.plan.rows
        }
        lines = []
        for place, (text, task) in enumerate(zip(batch.texts, batch.plan.tasks, strict=True)):
            scored = status[place, 0] == contract.Status.OK.value.encode()
            line: dict[str, Any] = {
                **beginning(now, text_digest(rows.to_bytes(text), self._key)),
                "task": task,  # what is not a task's name may be anything, a student's words too
                "version": version[place, 0].decode() or None,
                "status": status[place, 0].decode(),
                "level": int(level[place, 0]) if scored else None,
                "condition": condition[place, 0].decode(),
                "route": route[place, 0].decode(),
                # Nine digits are a float32, bit for bit.
                "confidence": None if confidence[place, 0] < 0 else float(f"{confidence[place, 0]:.9g}"),
                "level_range": level_range[place].tolist() if level_range[place, 0] >= 0 else None,
                "probabilities": [float(f"{p:.9g}") for p in probabilities[place, : widths[place]]] if scored else None,
                "margin": float(f"{margins[place]:.9g}") if scored and math.isfinite(margins[place]) else None,
                **self._constant,
            }
            lines.append(json.dumps(line, separators=(",", ":")))
        return "".join(f"{line}\n" for line in lines).encode()
