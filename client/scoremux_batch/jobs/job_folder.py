"""The folder of a job: which rows it has, and how rows are erased from it."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scoremux_batch.people import ALERTS
from scoremux_files.atomic import replace_file, replacing
from scoremux_files.errors import parsing, reading, writing


class JobFolder:
    """The folder that `scoremux score` writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
