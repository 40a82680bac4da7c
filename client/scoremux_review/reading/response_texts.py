"""The texts of scored rows: `scoremux score` writes none, so they are read again from where it read them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from scoremux_client.errors import InputError
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.row_layout import Record, RowLayout


def texts_of(files: Sequence[Path], names: Collection[str], layout: RowLayout | None = None) -> set[str]:
    """Return the texts that files of responses have for some ids. Raises InputError."""
    columns, texts = layout or RowLayout(), set[str]()
    for path in files:
        for number, record in enumerate(read_records(path, columns), start=1):
            text = record.values.get(columns.text)
            if isinstance(text, str) and str(record.values.get(columns.id) or number) in names:
                texts.add(text)
    return texts


class Texts:
    """Finds texts by source and line, as the parts of a job have them, or by id in files of responses."""

    def __init__(self, responses: Sequence[Path] = (), layout: RowLayout | None = None) -> None:
        """Read the files of responses, if there are any.

        Args:
            responses: Files with the columns id and text, for scored files without source and line.
            layout: Names of the columns.

        Raises:
            InputError: a file cannot be read, or has an id twice.
        """
        self._layout = layout or RowLayout()
        self._by_id: dict[str, tuple[str, int, str]] = {}
        self._source = ""
        self._records: Iterator[Record] = iter(())
        self._last: Record | None = None
        for path in responses:
            for number, record in enumerate(read_records(path, self._layout), start=1):
                name = record.values.get(self._layout.id)
                name = str(number if name is None else name)
                if name in self._by_id:
                    raise InputError(f"{path}, line {record.line}: id {name!r} is given twice")
                self._by_id[name] = (str(path), record.line or 0, self._text(path, record))

    def of(self, path: Path, number: int, name: str, row: dict[str, Any]) -> tuple[str, int, str]:
        """Return source, line and text of a scored row.

        Args:
            path: The scored file.
            number: The row's number in it, from 1.
            name: The row's id.
            row: Its columns.

        Raises:
            InputError: there is no text for it.
        """
        if isinstance(row.get("text"), str):
            return str(row.get("source") or path), int(row.get("line") or number), row["text"]
        if self._by_id:
            if name not in self._by_id:
                raise InputError(f"{path}, row {number}: id {name!r} is not in the files of responses")
            return self._by_id[name]
        if not row.get("source") or not row.get("line"):
            raise InputError(f"{path} has no texts, and does not say where they are: give --responses FILE")
        record = self._at(str(row["source"]), int(row["line"]))
        return str(row["source"]), int(row["line"]), self._text(Path(row["source"]), record)

    def _at(self, source: str, line: int) -> Record:
        # Parts have their rows in the order of the source, so one pass over it is enough.
        if source != self._source or (self._last and (self._last.line or 0) > line):
            self._source, self._last = source, None
            self._records = read_records(Path(source), self._layout)
        while self._last is None or (self._last.line or 0) < line:
            self._last = next(self._records, None)
            if self._last is None:
                break
        if self._last is None or self._last.line != line:
            raise InputError(f"{source} has no row in line {line}; it has changed since it was scored")
        return self._last

    def _text(self, path: Path, record: Record) -> str:
        text = record.values.get(self._layout.text)
        if isinstance(text, bytes):
            return text.decode(errors="replace")
        if text is None and self._layout.text in record.values:
            return ""  # the row has a status, and nobody can grade it
        if not isinstance(text, str):
            raise InputError(f"{path}, line {record.line}: {record.reason or f'no column {self._layout.text}'}")
        return text
