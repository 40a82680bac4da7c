"""Where a job writes: a folder of parts, or one file that is exported from a hidden folder of parts at the end."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from scoremux_batch.job import Job
from scoremux_batch.journal import JobState
from scoremux_batch.parts import REJECTED, read_table
from scoremux_batch.people import ALERTS
from scoremux_files.atomic import replace_file
from scoremux_files.errors import InputError, parsing, reading, writing
from scoremux_files.rows.writers import JOURNAL, WRITERS, beside_parts, done_note, write_scored
from scoremux_files.settings import parse_object

_FORMAT = 1


class Output:
    """The paths of a job's output."""

    def __init__(self, path: Path) -> None:
        """Choose the paths. Raises InputError for a file that rows are not written to."""
        self.path = path
        self.is_file = path.suffix.lower() in WRITERS
        if path.suffix and not self.is_file and not path.is_dir():
            raise InputError(f"{path}: rows are written to a folder, or to {', '.join(WRITERS)} files")
        self.folder = path.with_name(f".{path.name}.job") if self.is_file else path
        if self.is_file:
            self.rejected = path.with_name(f"{path.name}.{REJECTED}.jsonl")
            self.alerts = path.with_name(f"{path.name}.{ALERTS}")
        else:
            self.rejected, self.alerts = beside_parts(path, REJECTED), beside_parts(path, ALERTS)
        self._note = done_note(path)

    def finished(self, job: Job) -> JobState | None:
        """Return the counts of rejected rows and of statuses, all tasks together, if the job wrote this file.

        Raises InputError where something else is there: it is never overwritten.
        """
        if beside_parts(self.folder, JOURNAL).exists():
            return None  # the journal says whose job it is
        note = self._read_note()
        if note is None:
            mine = (self.rejected, self.alerts)
            for place in (self.path, *mine) if self.is_file else (*mine, *self.path.glob("part-*")):
                if place.exists():
                    raise InputError(f"{place} was not written by this job; move it, or give another --out")
            return None
        if not self.path.exists():
            return None
        with parsing(f"{self._note} is damaged; give another --out"):
            job.check_same(self.path, note["job"])
            stamp = self._stamp()
            if stamp != {key: note[key] for key in stamp}:
                raise InputError(f"{self.path} has changed since it was written; move it, or give another --out")
            statuses = Counter({name: int(rows) for name, rows in note["statuses"].items()})
            return JobState(rejected=int(note["rejected"]), counts={"": statuses})

    def export(self, job: Job, state: JobState) -> None:
        """Write the file from the parts, note which job wrote it, and remove the parts. Raises InputError."""
        parts = map(read_table, sorted(self.folder.glob("part-*.parquet")))
        write_scored(self.path, parts, job.layout.keep or ())
        with writing(self.rejected):
            if state.rejected:
                rejected = sorted(beside_parts(self.folder, REJECTED).glob("part-*.jsonl"))
                replace_file(self.rejected, (part.read_bytes() for part in rejected), mode=None)
            else:
                self.rejected.unlink(missing_ok=True)  # of an earlier run
        note = {
            "format": _FORMAT,
            "job": job.as_json(),
            "rejected": state.rejected,
            "statuses": state.statuses,
            **self._stamp(),
        }
        with writing(self._note):
            replace_file(self._note, [json.dumps(note).encode()], mode=None)
            # Without its journal the folder belongs to no job, whenever a crash comes.
            beside_parts(self.folder, JOURNAL).unlink()
            shutil.rmtree(self.folder)

    def _read_note(self) -> dict[str, Any] | None:
        if not self.is_file or not self._note.exists():
            return None
        with reading(self._note), parsing(f"{self._note} is damaged; give another --out"):
            note = parse_object(self._note.read_bytes())
        if note.get("format") != _FORMAT:
            raise InputError(f"{self._note} was written by another version of scoremux; give another --out")
        return note

    def _stamp(self) -> dict[str, int]:
        status = self.path.stat()
        return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
