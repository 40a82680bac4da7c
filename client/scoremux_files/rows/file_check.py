"""Checks of whole files before any row of them is used: a file that cannot be read is refused with what to do."""

import codecs
from itertools import chain, islice
from pathlib import Path

from scoremux_files.errors import InputError, reading
from scoremux_files.rows.readers import read_records
from scoremux_files.rows.row_layout import Row, RowLayout, renamed_by
from scoremux_files.rows.text_files import NO_TEXT, NOT_UTF8, refuse_foreign

_BLOCK_BYTES = 1 << 20
_FIRST_ROWS = 100


def check_file(path: Path, layout: RowLayout) -> bool:
    """Read a file far enough to know that it can be read as a whole: all of a text file, the columns of a Parquet file.

    Returns whether it has any row. Raises InputError, which says what to do, where it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix != ".parquet":
        _check_text(path)
    records = list(islice(read_records(path, layout), _FIRST_ROWS))
    for record in records:
        if record.line is None:
            raise InputError(f"{path}: {record.reason}{_renamed(path, layout, record.reason)}")
    if suffix == ".jsonl":
        _check_objects(path, [record.values for record in records], layout)
    return bool(records)


def _check_text(path: Path) -> None:
    refuse_foreign(path)
    with reading(path), path.open("rb") as file:
        decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
        for number, block in enumerate(chain(iter(lambda: file.read(_BLOCK_BYTES), b""), [b""])):
            # A response may have NUL; the first line of a text file has no NUL.
            if number == 0 and b"\0" in block.partition(b"\n")[0]:
                raise InputError(f"{path}: {NO_TEXT}")
            try:
                line += decoder.decode(block, final=not block).count("\n")
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                raise InputError(f"{path}, line {line}: {NOT_UTF8}") from None


def _check_objects(path: Path, records: list[Row], layout: RowLayout) -> None:
    """Refuse a .jsonl file whose first lines are all wrong in the same way."""
    objects = [values for values in records if values]
    if records and not objects:
        raise InputError(f"{path}: its first lines are not JSON objects; a .jsonl file has one object in each line")
    names = list(dict.fromkeys(name for values in objects for name in values))
    if objects and (reason := layout.refusal(names)):
        raise InputError(f"{path}: {reason}{_renamed(path, layout, reason)}")


def _renamed(path: Path, layout: RowLayout, reason: str) -> str:
    return renamed_by(path, *(name for name in layout.named if f"no column {name} (" in reason))
