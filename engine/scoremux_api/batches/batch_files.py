"""The folder of one batch: the body as it came, its rows, and the parts of the job that scores them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import orjson
from anyio import to_thread
from pydantic import ValidationError

from scoremux_api.problems import ApiProblem, problem_of
from scoremux_api.shapes import RowIn, as_json_row, parsed
from scoremux_cli.batch.parts import read_table
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_files.atomic import NEW, replacing, sync
from scoremux_files.errors import writing
from scoremux_files.locks import locked
from scoremux_files.rows.row_layout import FILE_START, RowLayout
from scoremux_files.rows.text_files import read_lines

LAYOUT = RowLayout(part_rows=1024)
"""Results appear by the part, and after a crash no more than a part is computed again."""

MOST_BYTES, MOST_ROWS = 256 << 20, 500_000
HALF = "\ud800"
"""Half of a surrogate pair, with which a text gets INVALID_TEXT as one that is `null` does."""


class BatchFiles:
    """Where the files of a batch are."""

    def __init__(self, root: Path, batch: str) -> None:
        self.folder = root.resolve() / batch  # the journal names its source, whatever the working directory is
        self.body, self.rows = self.folder / "body.jsonl", self.folder / "rows.jsonl"
        self.errors, self.scores = self.folder / "errors.jsonl", self.folder / "scores"

    def lock(self) -> AbstractContextManager[None]:
        """Hold the batch in the block. Raises BlockingIOError where another process computes it."""
        return locked(self.folder / ".lock", timeout_s=0)

    async def receive(self, chunks: AsyncIterator[bytes]) -> str:
        """Write the body to disk, durably; return its sha256. Raises ApiProblem, InputError."""
        size, digest = 0, hashlib.sha256()
        with writing(self.folder):
            self.folder.mkdir(mode=0o700)
            with self.body.open("xb") as file:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > MOST_BYTES:
                        raise ApiProblem(413, "Too large", f"a batch has {MOST_BYTES >> 20} MiB at most; send several")
                    digest.update(chunk)
                    await to_thread.run_sync(file.write, chunk)
            if not size:
                raise ApiProblem(422, "Invalid request", "the body is empty; it has a row as JSON in each line")
            for path in (self.body, self.folder, self.folder.parent):
                await to_thread.run_sync(sync, path)
        return digest.hexdigest()

    def validate(self) -> tuple[int, int]:
        """Write the body's rows and errors apart; return how many lines there are, and how many are errors.

        A row keeps the number of its line. Raises InputError.
        """
        total = failed = 0
        lines: dict[int, int] = {}
        with ExitStack() as opened:
            opened.enter_context(writing(self.folder))
            asides = [opened.enter_context(replacing(path, 0o600)) for path in (self.errors, self.rows)]
            errors, rows = (opened.enter_context(aside.open("wb")) for aside in asides)
            for line in read_lines(self.body, FILE_START, LAYOUT.line_bytes):
                if line.data is None or line.data.strip():
                    total += 1
                    row = _row_or_reason(line.data, line.number, lines)
                    if isinstance(row, RowIn):
                        text = HALF if row.text is None else row.text
                        rows.write(json.dumps({"id": row.id, "task": row.task, "text": text}).encode())
                    else:
                        failed += 1
                        errors.write(orjson.dumps({"line": line.number, "detail": row}) + b"\n")
                    if total > MOST_ROWS:
                        raise ApiProblem(422, "Too many rows", f"a batch has {MOST_ROWS:,} rows at most; send several")
                rows.write(b"\n")
        return total, failed

    def results(self) -> Iterator[bytes]:
        """Yield the outcomes of all rows that are done, in the order of the body, as JSON Lines."""
        for path in sorted(self.scores.glob("part-*.parquet")):
            rows = read_table(path).to_pylist()
            yield b"".join(orjson.dumps(as_json_row(_scored(row))) + b"\n" for row in rows)

    def error_lines(self) -> Iterator[bytes]:
        """Yield the lines that are not rows, as JSON Lines."""
        if self.errors.exists():
            with self.errors.open("rb") as file:
                yield from iter(lambda: file.read(1 << 20), b"")

    def remove_texts(self) -> None:
        """Remove the body and what was made of it, but for the outcomes."""
        for path in (self.rows, *self.folder.glob(f"{NEW}*"), self.body):  # erasure looks for the body
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _row_or_reason(data: bytes | None, number: int, lines: dict[int, int]) -> RowIn | str:
    """Return the row in a line, or why there is none, without a word of its text; lines: where each row was."""
    if data is None:
        return f"longer than {LAYOUT.line_bytes:,} bytes"
    try:
        row = parsed(RowIn, data)
    except ValidationError as error:
        return problem_of(error).detail
    first = lines.setdefault(hash((row.task.partition("@")[0], row.id)), number)
    return row if first == number else f"the same task and id as in line {first}"


def _scored(row: dict[str, Any]) -> Scored:
    """Return the outcome in a row of a part."""
    span = None if row["level_low"] is None else (row["level_low"], row["level_high"])
    names = ("task", "level", "score", "version", "tokens", "truncated", "id", "confidence", "condition", "route")
    values = {name: row[name] for name in (*names, "arithmetic")}
    return Scored(**values, probabilities=tuple(row["probabilities"]), status=Status(row["status"]), level_range=span)
