"""The folder of one batch: the body as it came, its rows, and the parts of the job that scores them."""

import hashlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import orjson
from anyio import to_thread
from pydantic import ValidationError

from scoremux_batch.jobs import JobFolder
from scoremux_desk.api.problems import ApiProblem, problem_of
from scoremux_desk.api.shapes import RowIn, as_json_row, parsed
from scoremux_files import first_of, locked, replacing, sync, writing
from scoremux_files.row_files import RowLayout, chunks, read_lines

log = logging.getLogger(__name__)

LAYOUT = RowLayout(part_rows=1024, student="student", keep=["administration", "keep"])
"""Results appear by the part, and after a crash no more than a part is computed again."""

MOST_BYTES = 256 << 20
MOST_LINES = 500_000
HALF = "\ud800"
"""Half of a surrogate pair, with which a text gets INVALID_TEXT as one that is `null` does."""


class BatchFiles:
    """Where the files of a batch are."""

    def __init__(self, root: Path, batch: str) -> None:
        self.folder = root.resolve() / batch
        self.body = self.folder / "body.jsonl"
        self.rows = self.folder / "rows.jsonl"
        self.refused = self.folder / "errors.jsonl"
        self.job = JobFolder(self.folder / "scores")
        self._lock = self.folder / ".lock"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the batch in the block. Raises BlockingIOError where another process computes it."""
        return locked(self._lock, timeout_s=0)

    async def receive(self, blocks: AsyncIterator[bytes]) -> str:
        """Write a body to disk, durably; return its sha256. Raises ApiProblem, InputError."""
        digest = hashlib.sha256()
        with writing(self.folder):
            self.folder.mkdir(mode=0o700)
            with self.body.open("xb") as file:
                async for block in blocks:
                    digest.update(block)
                    await to_thread.run_sync(file.write, block)
            for path in (self.body, self.folder, self.folder.parent):
                await to_thread.run_sync(sync, path)
        return digest.hexdigest()

    def validate(self) -> tuple[int, int]:
        """Write the body's rows and errors apart; return how many lines there are, and how many are errors.

        A row keeps the number of its line. Raises InputError.
        """
        total = failed = 0
        texts = dict[int, int]()
        with (
            writing(self.folder),
            replacing(self.refused, 0o600) as new_errors,
            replacing(self.rows, 0o600) as new_rows,
            new_errors.open("wb") as errors,
            new_rows.open("wb") as rows,
        ):
            for line in read_lines(self.body, LAYOUT.line_bytes - 1):  # the last one may get a line end
                if line.data is None or line.data.strip():
                    total += 1
                    try:
                        row = _new_row(line.data, texts)
                        values = row.model_dump(exclude_defaults=True)
                        values |= {"keep": row.origin[2]} if row.keep else {}
                        half = {**values, "text": HALF}  # the other JSON gets hardly longer than the line was
                        rows.write(json.dumps(half).encode() if row.text is None else orjson.dumps(values))
                    except (ApiProblem, ValidationError) as error:
                        failed += 1
                        errors.write(_error(line.number, problem_of(error)))
                if line.number > MOST_LINES:  # blank ones count: 256 MiB of them would take minutes
                    raise ApiProblem(422, "Too many rows", f"a batch has {MOST_LINES:,} lines at most; send several")
                rows.write(b"\n")
        return total, failed

    def results(self) -> Iterator[bytes]:
        """Return the outcomes of all rows that are done, in the order of the body, as JSON Lines. Raises ApiProblem."""
        paths = self.job.parts()
        if missing := [path.stem for path in paths if not path.exists()]:
            detail = f"these files of the results are missing: {first_of(missing)}; the operator can restore --folder"
            raise ApiProblem(500, "Results incomplete", detail)
        return (b"".join(orjson.dumps(as_json_row(row)) + b"\n" for row in self.job.outcomes(path)) for path in paths)

    def count_refused(self) -> int:
        """Return how many lines of the body `validate` refused."""
        with self.refused.open("rb") as file:
            return sum(1 for _ in file)

    def errors(self) -> Iterator[bytes]:
        """Yield, as JSON Lines, why lines of the body have no outcome; those that `validate` refused come first."""
        if self.refused.exists():
            with self.refused.open("rb") as file:
                yield from iter(partial(file.read, 1 << 20), b"")
        for some in chunks(self.job.rejected(), LAYOUT.part_rows):
            yield b"".join(_error(row["line"], ApiProblem(409, "Row exists", row["reason"])) for row in some)

    def kept_bytes(self) -> int:
        """Return the bytes of the outcomes and errors, which are left when a batch has ended."""
        kept = (path for path in self.folder.rglob("*") if path not in (self.body, self.rows))
        return sum(path.stat().st_size for path in kept)

    def remove_texts(self) -> None:
        """Remove the body and what was made of it, but for the outcomes."""
        kept = {self.refused, self.job.folder, self._lock}
        texts = {*self.folder.glob("*")} - kept - {self.body}
        for path in (*texts, self.body):  # erasure looks for the body
            path.unlink(missing_ok=True)

    def remove(self, reason: str = "") -> None:
        """Remove everything; log why, if there is a reason."""
        if reason:
            log.warning("removed %s: %s", self.folder, reason)
        shutil.rmtree(self.folder, ignore_errors=True)


def _new_row(data: bytes | None, texts: dict[int, int]) -> RowIn:
    """Return the row in a line. Raises ApiProblem or ValidationError, without a word of its text.

    Args:
        texts: Hash of the first text of each task and id so far, by their hash; that of this row is added.
    """
    if data is None:
        raise ApiProblem(422, "Invalid request", f"the line is longer than {LAYOUT.line_bytes:,} bytes")
    row = parsed(RowIn, data)
    key = hash((row.task.partition("@")[0], row.id))
    text = hash(row.text)
    if row.text is not None and texts.setdefault(key, text) != text:
        raise ApiProblem(409, "Row exists", "an earlier line has this id with another text; give a new id")
    return row


def _error(line: int, problem: ApiProblem) -> bytes:
    return orjson.dumps({"line": line, **problem.body()}) + b"\n"
