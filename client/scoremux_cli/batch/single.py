"""A job whose result is one file: its parts are merged at its end, and a note says which job wrote the file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from scoremux_cli.batch.journal import NAME, Done, Job
from scoremux_cli.batch.parts import REJECTED, read_tables
from scoremux_client.errors import InputError
from scoremux_files.atomic import replace_file
from scoremux_files.rows.writers import write_scored


def folder_of(out: Path) -> Path:
    """Return the folder of a job's parts until its end."""
    return out.with_name(f".{out.name}.job")


def rejected_of(out: Path) -> Path:
    """Return the file of rejected rows; it is there only if there are some."""
    return out.with_name(f"{out.name}.{REJECTED}.jsonl")


def finished(out: Path, job: Job) -> tuple[int, int] | None:
    """Return how many rows a job has scored and rejected if it wrote `out` and nothing changed since, else None."""
    try:
        note = json.loads(_note_of(out).read_text(encoding="utf-8"))
        same = note == {**note, **_identity(out, job)}
        return (note["rows"], note["rejected"]) if same else None
    except (OSError, ValueError, KeyError):
        return None


def merge(folder: Path, out: Path, job: Job, done: Done) -> None:
    """Write the file from the parts, note that it is written, and remove the parts. Raises InputError."""
    write_scored(out, read_tables(folder))
    try:
        if done.rejected:
            parts = sorted((folder / REJECTED).glob("part-*.jsonl"))
            replace_file(rejected_of(out), (part.read_bytes() for part in parts), mode=None)
        else:
            rejected_of(out).unlink(missing_ok=True)  # of an earlier run
        note = json.dumps({"rows": done.rows, "rejected": done.rejected, **_identity(out, job)})
        replace_file(_note_of(out), [note.encode()], mode=None)
    except OSError as error:
        raise InputError(f"{out} is written, its notes cannot be: {error.strerror or error}") from error
    # Without its journal the folder belongs to no job, whenever a crash comes.
    (folder / NAME).unlink()
    shutil.rmtree(folder)


def _note_of(out: Path) -> Path:
    return out.with_name(f".{out.name}.done.json")


def _identity(out: Path, job: Job) -> dict[str, Any]:
    status = out.stat()
    return {"job": job.as_json(), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
