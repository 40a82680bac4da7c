"""Where a job writes: a folder of parts, or one file that is exported from a hidden folder of parts at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from scoremux_cli.batch.journal import NAME, Job, JobState
from scoremux_cli.batch.parts import REJECTED, read_tables
from scoremux_cli.batch.people import ALERTS
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, writing
from scoremux_files.rows.writers import WRITERS, write_scored

_FORMAT = 1


class Output:
    """The paths of a job's output.

    Attributes:
        path: What the user named.
        is_file: Whether it is one file.
        folder: The folder of parts and journal.
        rejected: The folder, or the file, of rejected rows; it is there only if there are some.
        alerts: The folder of alerts; it is there only if there are some.
    """

    def __init__(self, path: Path) -> None:
        """Choose the paths. Raises InputError for a file that rows are not written to."""
        self.path = path
        self.is_file = path.suffix.lower() in WRITERS
        if path.suffix and not self.is_file and not path.is_dir():
            raise InputError(f"{path}: rows are written to a folder, or to {', '.join(WRITERS)} files")
        self.folder = path.with_name(f".{path.name}.job") if self.is_file else path
        self.rejected = path.with_name(f"{path.name}.{REJECTED}.jsonl") if self.is_file else path / REJECTED
        self.alerts = path.with_name(f"{path.name}.{ALERTS}") if self.is_file else path / ALERTS
        self._note = path.with_name(f".{path.name}.done.json")

    def finished(self, job: Job) -> tuple[int, int] | None:
        """Return how many rows a job has scored and rejected if it wrote this file and nothing changed since."""
        try:
            note = json.loads(self._note.read_bytes())
            return (note["rows"], note["rejected"]) if self.is_file and note == note | self._identity(job) else None
        except (OSError, ValueError, KeyError):
            return None

    def export(self, job: Job, state: JobState) -> None:
        """Write the file from the parts, note which job wrote it, and remove the parts. Raises InputError."""
        write_scored(self.path, read_tables(self.folder))
        with writing(self.rejected):
            if state.rejected:
                parts = sorted((self.folder / REJECTED).glob("part-*.jsonl"))
                replace_file(self.rejected, (part.read_bytes() for part in parts), mode=None)
            else:
                self.rejected.unlink(missing_ok=True)  # of an earlier run
        note = {"rows": state.rows, "rejected": state.rejected, **self._identity(job)}
        with writing(self._note):
            replace_file(self._note, [json.dumps(note).encode()], mode=None)
            # Without its journal the folder belongs to no job, whenever a crash comes.
            (self.folder / NAME).unlink()
            shutil.rmtree(self.folder)

    def _identity(self, job: Job) -> dict[str, Any]:
        status = self.path.stat()
        return {"format": _FORMAT, "job": job.as_json(), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
