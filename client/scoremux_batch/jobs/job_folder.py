"""The folder of a job: one file is scored a part at a time, what it wrote is read, and rows are erased from it."""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoremux_batch.in_process import score_slices
from scoremux_batch.job import Job
from scoremux_batch.journal import JobState, Journal
from scoremux_batch.parts import outcome_of, part_path, read_rejected, read_table, remove_unfinished, write_part
from scoremux_batch.people import ALERTS
from scoremux_batch.slices import Slice, read_slices
from scoremux_batch.sources import expand
from scoremux_client.client import ScoringClient
from scoremux_client.rows import Scored
from scoremux_files.atomic import replace_file, replacing
from scoremux_files.errors import parsing, reading, writing
from scoremux_files.rows.row_layout import Json, RowLayout
from scoremux_files.rows.writers import JOURNAL, beside_parts

Texts = list[str | bytes]
Cells = list[tuple[str | None, ...]]
"""Of each row of a part: who wrote it, and the cells of the columns that are kept."""


class JobFolder:
    """The folder of a job that scores one file beside it; both may move together."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def score(
        self,
        source: Path,
        layout: RowLayout,
        client: ScoringClient,
        *,
        refuse: Callable[[Texts, Cells, list[Scored]], Mapping[int, str]],
        count: Callable[[int, int], None],
        check: Callable[[], None],
        is_over: Callable[[], bool],
    ) -> bool:
        """Score a file from where the job is; return whether all of it is done.

        Args:
            refuse: Called with the rows and outcomes of a part before it is written; returns the places of rows that
                are rejected, and why.
            count: Called with how many rows are scored and rejected: first, and after each part.
            check: Called several times a second; an error that it raises stops the job, which may be resumed.
            is_over: Whether no further part begins now. One begins in any case.

        Raises:
            InputError, TransportError: as for `scoremux score`.
        """
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
            remove_unfinished(self.folder)
        # Each row says what computed it.
        job = Job(expand([str(source)]), layout, mixed_arithmetic=True, root=self.folder.parent)
        texts = deque[Texts]()

        def slices(state: JobState) -> Iterator[Slice]:
            for part in read_slices(job, state):
                texts.append(part.texts)
                yield part
                if is_over():
                    return

        with Journal(self.folder, job) as journal:
            state = journal.state
            count(state.rows, state.rejected)  # the process may have been killed when it had added a part
            for part, scored in score_slices(job, slices(state), client, note=lambda *_: check()):
                cells: Cells = list(zip(part.students, *part.kept.values(), strict=True))
                part.texts = texts.popleft()
                refused = refuse(part.texts, cells, scored)
                places = [place for place in range(len(scored)) if place not in refused]
                rejected = [{"source": "", "line": part.lines[n], "reason": why} for n, why in refused.items()]
                journal.add(write_part(self.folder, part.take(places, rejected), [scored[place] for place in places]))
                count(state.rows, state.rejected)
                check()
            return state.source == len(job.sources)

    def state(self) -> JobState:
        """Return how much of the job is done. Raises InputError."""
        state = JobState()
        for line in self._lines():
            state.add(line)
        return state

    def parts(self) -> list[Path]:
        """Return the files with the outcomes that are done, in the order of the rows. Raises InputError."""
        lines = self._lines()
        numbers = accumulate((line["files"] for line in lines), initial=0)
        return [part_path(self.folder, number) for number, line in zip(numbers, lines, strict=False) if line["rows"]]

    def outcomes(self, part: Path) -> list[Scored]:
        """Return the outcomes of one of `parts`. Raises InputError."""
        return [outcome_of(row) for row in read_table(part).to_pylist()]

    def rejected(self) -> Iterator[Json]:
        """Yield the rejected rows: source, line, reason. Raises InputError."""
        return read_rejected(self.folder)

    @staticmethod
    def below(folder: Path) -> "list[JobFolder]":
        """Return the folders of jobs in a folder, at any depth."""
        parts = {path.parent for path in folder.rglob("part-*.parquet")}
        alerts = {path.parent.parent for path in folder.rglob(f"_{ALERTS}/part-*.jsonl")}
        return [JobFolder(job) for job in sorted(parts | alerts)]

    def ids(self) -> Iterator[str]:
        """Yield the ids of the rows that are done. Raises InputError."""
        for path in sorted(self.folder.glob("part-*.parquet")):
            with reading(path), parsing(f"{path} is no part of a job"):
                yield from pq.read_table(path, columns=["id"])["id"].to_pylist()

    def erase(self, ids: Collection[str]) -> int:
        """Take the rows of some ids out of the parts and alerts; return how many.

        Raises InputError for a file that cannot be read or written.
        """
        erased, gone = 0, pa.array(ids, "string")
        for path in sorted(self.folder.glob("part-*.parquet")):
            with writing(path), parsing(f"{path} is no part of a job"):
                table = pq.read_table(path)
                left = table.filter(pc.invert(pc.is_in(table["id"], gone)))
                if lost := len(table) - len(left):
                    with replacing(path, mode=None) as aside:
                        pq.write_table(left, aside, compression="zstd")
                erased += lost
        for path in sorted(self.folder.glob(f"_{ALERTS}/part-*.jsonl")):
            with writing(path), parsing(f"{path} is damaged"):
                lines = path.read_bytes().splitlines(keepends=True)
                kept = [line for line in lines if json.loads(line)["id"] not in ids]
                if len(kept) < len(lines):
                    replace_file(path, kept, mode=None)
                erased += len(lines) - len(kept)
        return erased

    def _lines(self) -> list[Json]:
        """Return the journal's lines of the parts that are done."""
        path = beside_parts(self.folder, JOURNAL)
        with reading(path), parsing(f"{path} is damaged"):
            whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
            return [json.loads(line) for line in whole.splitlines()[1:]]
