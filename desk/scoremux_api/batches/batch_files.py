"""The folder of one batch: the body as it came, its rows, and the parts of the job that scores them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson
from anyio import to_thread
from pydantic import ValidationError

from scoremux_api.problems import ApiProblem, problem_of
from scoremux_api.shapes import RowIn, as_json_row, parsed
from scoremux_batch.parts import part_path, read_rejected, read_table
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_files.atomic import NEW, replacing, sync
from scoremux_files.errors import first_of, parsing, reading, writing
from scoremux_files.locks import locked
from scoremux_files.rows.readers import chunks
from scoremux_files.rows.row_layout import FILE_START, RowLayout
from scoremux_files.rows.text_files import read_lines
from scoremux_files.rows.writers import JOURNAL, beside_parts

log = logging.getLogger(__name__)

LAYOUT = RowLayout(part_rows=1024, student="student", keep=["administration", "keep"])
"""Results appear by the part, and after a crash no more than a part is computed again."""

MOST_BYTES, MOST_LINES = 256 << 20, 500_000
HALF = "\ud800"
"""Half of a surrogate pair, with which a text gets INVALID_TEXT as one that is `null` does."""


class BatchFiles:
    """Where the files of a batch are."""

    def __init__(self, root: Path, batch: str) -> None:
        self.folder = root.resolve() / batch
        self.body, self.rows = self.folder / "body.jsonl", self.folder / "rows.jsonl"
        self.refused, self.scores = self.folder / "errors.jsonl", self.folder / "scores"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the batch in the block. Raises BlockingIOError where another process computes it."""
        return locked(self.folder / ".lock", timeout_s=0)

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
            for line in read_lines(self.body, FILE_START, LAYOUT.line_bytes - 1):  # the last one may get a line end
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

    def parts(self) -> list[dict[str, Any]]:
        """Return the journal's lines of the parts that are done. Raises InputError."""
        path = beside_parts(self.scores, JOURNAL)
        with reading(path), parsing(f"{path} is damaged"):
            whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
            return [json.loads(line) for line in whole.splitlines()[1:]]

    def results(self) -> Iterator[bytes]:
        """Return the outcomes of all rows that are done, in the order of the body, as JSON Lines. Raises ApiProblem."""
        lines = self.parts()
        numbers = accumulate((line["files"] for line in lines), initial=0)
        paths = [part_path(self.scores, number) for number, line in zip(numbers, lines, strict=False) if line["rows"]]
        if missing := [path.stem for path in paths if not path.exists()]:
            detail = f"these files of the results are missing: {first_of(missing)}; the operator can restore --folder"
            raise ApiProblem(500, "Results incomplete", detail)
        tables = (read_table(path).to_pylist() for path in paths)
        return (b"".join(orjson.dumps(as_json_row(_scored(row))) + b"\n" for row in rows) for rows in tables)

    def count_refused(self) -> int:
        """Return how many lines of the body `validate` refused."""
        with self.refused.open("rb") as file:
            return sum(1 for _ in file)

    def errors(self) -> Iterator[bytes]:
        """Yield, as JSON Lines, why lines of the body have no outcome; those that `validate` refused come first."""
        if self.refused.exists():
            with self.refused.open("rb") as file:
                yield from iter(partial(file.read, 1 << 20), b"")
        for some in chunks(read_rejected(self.scores), LAYOUT.part_rows):
            yield b"".join(_error(row["line"], ApiProblem(409, "Row exists", row["reason"])) for row in some)

    def kept_bytes(self) -> int:
        """Return the bytes of what is left when a batch has ended: outcomes and errors."""
        kept = (path for path in self.folder.rglob("*") if path not in (self.body, self.rows))
        return sum(path.stat().st_size for path in kept)

    def remove_texts(self) -> None:
        """Remove the body and what was made of it, but for the outcomes."""
        for path in (self.rows, *self.folder.glob(f"{NEW}*"), self.body):  # erasure looks for the body
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
    key, text = hash((row.task.partition("@")[0], row.id)), hash(row.text)
    if row.text is not None and texts.setdefault(key, text) != text:
        raise ApiProblem(409, "Row exists", "an earlier line has this id with another text; give a new id")
    return row


def _error(line: int, problem: ApiProblem) -> bytes:
    return orjson.dumps({"line": line, **problem.body()}) + b"\n"


def _scored(row: dict[str, Any]) -> Scored:
    """Return the outcome in a row of a part."""
    span = None if row["level_low"] is None else (row["level_low"], row["level_high"])
    values = {field.name: row[field.name] for field in fields(Scored) if field.name in row}
    return Scored(**{**values, "status": Status(row["status"]), "level_range": span})
