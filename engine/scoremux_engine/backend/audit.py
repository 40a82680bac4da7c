"""Batches → lines of the audit log, before their answers leave."""

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from scoremux_client import contract, rows
from scoremux_client.audit_lines import beginning, event_line, text_digest
from scoremux_engine.backend import metrics
from scoremux_engine.backend.audit_log import ROTATE_BYTES, AppendLog
from scoremux_engine.backend.metrics import Recorder
from scoremux_engine.errors import AuditError
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.scoring.observer import ScoredBatch
from scoremux_files.digests import read_key


class Audit:
    """An `Observer` that logs every row, a batch in one write; one that cannot be logged is counted and refused."""

    def __init__(
        self,
        path: Path,
        provenance: Provenance,
        recorder: Recorder,
        rotate_bytes: int = ROTATE_BYTES,
        key_file: Path | None = None,
    ) -> None:
        """Open the log. Raises AuditError.

        Args:
            rotate_bytes: Size at which a new file is begun.
            key_file: The key of digests by HMAC; None for plain SHA-256.
        """
        self._key = read_key(key_file, raises=AuditError) if key_file else None
        self._file = AppendLog(path, rotate_bytes)
        self._recorder = recorder
        self._events = list[dict[str, Any]]()
        self._constant = {
            "arithmetic": provenance.arithmetic,
            "precision": provenance.precision,
            "runner": provenance.runner,
            "backbone": provenance.backbone,
            "engine": provenance.version,
        }

    def note(self, event: str, **facts: Any) -> None:
        """Log what happened to this process, with the next batch: a disk without room must not fail a start."""
        process = f"{os.getpid()} on {os.uname().nodename}"
        self._events.append(event_line(event, process=process, **facts, **self._constant))

    def observe(self, batch: ScoredBatch) -> None:
        """Log a batch. Raises AuditError if that fails."""
        try:
            self._file.add([*self._events, *self._lines(batch)])
            self._events.clear()
        except AuditError:
            self._recorder.add(metrics.AUDIT_UNWRITTEN_ROWS, len(batch.texts))
            raise

    def close(self) -> None:
        self._file.close()

    def _lines(self, batch: ScoredBatch) -> Iterator[dict[str, Any]]:
        now = datetime.now(timezone.utc)
        columns = batch.columns
        names = (contract.STATUS, contract.LEVEL, contract.PROBABILITIES, contract.VERSION)
        status, level, probabilities, version = (columns[spec.name] for spec in names)
        confidence, condition, route, level_range = (columns[spec.name] for spec in contract.DECIDED)
        versions = ((row.place, row.version) for row in batch.plan.rows)
        widths = {place: 0 if one.task.total or one.outputs == 1 else one.outputs for place, one in versions}
        for place, (text, task) in enumerate(zip(batch.texts, batch.plan.tasks, strict=True)):
            scored = status[place, 0] == contract.Status.OK.value.encode()
            yield {
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
                **self._constant,
            }
