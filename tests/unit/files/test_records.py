"""Files of rows: what goes out comes back, and what is wrong is named without showing a text."""

import csv
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoremux_batch.parts import table_of
from scoremux_batch.slices import Slice
from scoremux_batch.sources import SourceFile
from scoremux_client.contract import Status
from scoremux_client.rows import Scored
from scoremux_files.errors import InputError
from scoremux_files.rows.columns import present_columns, texts
from scoremux_files.rows.readers import read_records, read_rows, text_cell, whole_number
from scoremux_files.rows.row_layout import FILE_START, RowLayout, column_names
from scoremux_files.rows.writers import SCHEMA, formula_safe, without_apostrophe, write_scored

SECRET = "my grandmother is the router"
SUFFIXES = [".jsonl", ".csv", ".parquet"]
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
TEXTS = [
    *(
        "",
        " ",
        "NA",
        "null",
        "1",
        "'",
        "a;b",
        "Straße ä\u0308 日本 😀",
        'he said "no", twice',
        "two\nlines\r\nand\ttab",
    ),
    *("007", "1e5", "-0", "0x1F", "NaN", "true", "2024-01-01", "12345678901234567890"),
]
PROBABILITIES = tuple(np.array([1 / 3, 2 / 3, 1e-9], dtype=np.float32).tolist())

OK = Scored("t-1", 2, 0.25, PROBABILITIES, Status.OK, "a" * 64, 12, True, "007")
BAD = Scored("prüfung,1", -1, None, (), Status.UNKNOWN_TASK, "", 0, False, 'r"2"')


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write an input file as users' own programs do."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def table(rows: list[Scored]) -> Any:
    """Return the rows as a part has them."""
    columns = {"ids": [str(row.id) for row in rows], "tasks": [row.task for row in rows], "lines": range(len(rows))}
    part = Slice(SourceFile("in.csv", 0, 0), 0, 0, FILE_START, FILE_START, **columns, students=[None] * len(rows))
    return table_of(part, rows, None)


def write_and_read(path: Path, rows: list[Scored]) -> list[dict[str, Any]]:
    write_scored(path, [table(rows[:4096]), table(rows[4096:])])
    return list(read_rows(path))


@every_suffix
def test_any_text_and_id_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": text, "grade": "3", "id": text, "task": "t-1"} for text in TEXTS]
    assert list(read_rows(write_rows(tmp_path / f"in{suffix}", rows))) == rows


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1.0, 2.5, 1e20, None]),
        pa.array([7, 2**63], pa.uint64()),
        pa.array([True, False]),
        pa.array([3.0, 4.0]).dictionary_encode(),
        pa.array([Decimal("1.50")]),
        pa.array([datetime(2026, 1, 2)]),
        pa.array([uuid.UUID(int=7).bytes], pa.binary(16)),
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([uuid.UUID(int=7).bytes], pa.binary(16))),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_of_a_column_are_the_same_texts_in_scores_and_in_figures(tmp_path: Path, ids: Any) -> None:
    path, rows = tmp_path / "in.parquet", ["t"] * len(ids)
    pq.write_table(pa.table({"id": ids, "task": rows, "text": rows}), path)
    records = list(read_records(path, RowLayout()))
    assert not any(record.reason for record in records)
    read = [None if (value := record.values["id"]) is None else str(value) for record in records]
    assert texts(present_columns(path, ["id"], ["id"])["id"]).to_pylist() == read
    assert len({*read}) == len(ids)


def test_large_csv_file_keeps_every_quoted_newline(tmp_path: Path) -> None:
    rows = [{"id": f"{n:05}", "text": f"{n}" + 'one\ntwo, "three"\n' * 60} for n in range(2500)]
    path = write_rows(tmp_path / "in.csv", rows)
    assert path.stat().st_size > 2 << 20
    assert list(read_rows(path)) == rows


def test_cell_without_text_or_whole_number_is_refused_with_file_and_row() -> None:
    for value in (None, 7, ["a"], {"a": 1}):
        with pytest.raises(InputError, match=r"in\.jsonl, row 2: no text; .* \(their columns: text\)"):
            text_cell(Path("in.jsonl"), 2, {"text": value}, "text")
    assert text_cell(Path("in.jsonl"), 2, {"text": ""}, "text") == ""
    for level in ("a", 1.5, "", None, "nan"):
        with pytest.raises(InputError, match=r"in\.csv, row 2: level is not a whole number"):
            whole_number(Path("in.csv"), 2, level)
    assert [whole_number(Path("in.csv"), 2, level) for level in ("2", " 2.0", 2.0, 2)] == [2] * 4


@pytest.mark.parametrize(
    "line", ["{", f'{{"text": "{SECRET}', f'"{SECRET}"', "[]", "7", "null", f"{SECRET}", "[" * 100_000], ids=range(8)
)
def test_jsonl_line_without_an_object_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "in.jsonl").write_text(f'{{"id": 1}}\n\n{line}\n')
    rows = read_rows(tmp_path / "in.jsonl")
    assert next(rows) == {"id": 1}
    with pytest.raises(InputError, match=r"in\.jsonl, line 3: not (JSON|a JSON object)$"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.csv", f"text\nfine\n{SECRET} r\xf6\n".encode("latin-1"), "line 3: not UTF-8"),
        ("in.csv", f"id,task,text\n1,t-1,x\n{SECRET},extra\n".encode(), "line 3: 2 columns, the header has 3"),
        ("in.csv", f"id,task,text\n1,t-1,x\nr1,t-1,{SECRET},x\n".encode(), "line 3: 4 columns, the header has 3"),
        ("in.txt", b"", r"rows are read from \.jsonl, \.csv, \.tsv, \.parquet"),
        ("in.json", b"", r"rows are read from \.jsonl, \.csv, \.tsv, \.parquet"),
    ],
    ids=range(5),
)
def test_file_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}(, |: ){message}") as caught:
        list(read_rows(tmp_path / name))
    assert SECRET not in str(caught.value)


@every_suffix
def test_missing_file_and_folder_are_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"gone\{suffix} cannot be read"):
        list(read_rows(tmp_path / f"gone{suffix}"))
    path = tmp_path / "gone" / f"out{suffix}"
    with pytest.raises(InputError, match=rf"{path} cannot be written: "):
        write_and_read(path, [OK])


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_scored_rows_come_back_with_their_types(tmp_path: Path, suffix: str) -> None:
    ok, bad = write_and_read(tmp_path / f"out{suffix}", [OK, BAD])
    assert list(ok) == SCHEMA.names
    assert (ok["id"], ok["task"], ok["status"], ok["level"], ok["score"]) == ("007", "t-1", "OK", 2, 0.25)
    assert (ok["probabilities"], ok["version"], ok["tokens"]) == (list(PROBABILITIES), "a" * 64, 12)
    assert ok["truncated"] is True
    assert (bad["id"], bad["task"], bad["status"]) == ('r"2"', "prüfung,1", "UNKNOWN_TASK")
    assert (bad["level"], bad["score"], bad["probabilities"], bad["version"]) == (-1, None, [], "")
    assert suffix == ".jsonl" or pq.read_schema(tmp_path / "out.parquet").equals(SCHEMA)


def test_scored_rows_come_back_from_csv_as_text(tmp_path: Path) -> None:
    ok, bad = write_and_read(tmp_path / "out.csv", [OK, BAD])
    assert (ok["id"], ok["task"], ok["level"], ok["score"], ok["truncated"]) == ("007", "t-1", "2", "0.25", "true")
    assert [np.float32(p) for p in ok["probabilities"].split()] == list(PROBABILITIES)
    assert (bad["id"], bad["task"], bad["level"], bad["score"]) == ('r"2"', "prüfung,1", "-1", "")
    assert bad["probabilities"] == ""


@every_suffix
@pytest.mark.parametrize("count", [0, 9000])
def test_rows_of_no_block_or_several_are_all_there(tmp_path: Path, suffix: str, count: int) -> None:
    rows = [Scored("t-1", n % 5, 0.0, (), Status.OK, "", n, False, f"{n}") for n in range(count)]
    assert [row["id"] for row in write_and_read(tmp_path / f"out{suffix}", rows)] == [row.id for row in rows]


@every_suffix
def test_file_appears_only_when_it_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"

    def tables(fails: bool) -> Iterator[Any]:
        yield table([OK])
        assert path.exists() == fails
        if fails:
            raise InputError("half way")
        yield table([BAD])

    write_scored(path, tables(fails=False))
    whole = path.read_bytes()
    with pytest.raises(InputError, match="half way"):
        write_scored(path, tables(fails=True))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: whole}


@pytest.mark.parametrize("cell", ["=1+1", "@sum", "+x", "-x", "\tx", "\r=1", "-", "'=1", "''@"])
def test_formula_is_disarmed_in_csv_and_only_there(tmp_path: Path, cell: str) -> None:
    for suffix, expected in ((".csv", f"'{cell}"), (".jsonl", cell)):
        assert [row["id"] for row in write_and_read(tmp_path / f"out{suffix}", [replace(OK, id=cell)])] == [expected]
    assert without_apostrophe(f"'{cell}") == cell
    for other in ("-5", "+4.5e3", "r1", "'x", "''", ""):
        assert formula_safe(other) == without_apostrophe(other) == other


def test_columns_are_named_by_key() -> None:
    defaults: dict[str, Any] = {"id": "id", "student": None, "group": ()}
    assert column_names(None, **defaults) == defaults
    given = ["id=Answer ID", "student", "group=l1", "group=a=b"]
    assert column_names(given, **defaults) == {"id": "Answer ID", "student": "student", "group": ("l1", "a=b")}
    for wrong in ("Answer ID", "id=", "text=answer", "=id", ""):
        with pytest.raises(InputError, match=r"--column .*: give KEY=NAME"):
            column_names([wrong], **defaults)
    for given in (["id=answer", "text=answer"], ["task=text"]):
        with pytest.raises(InputError, match="texts and ids are in one column"):
            column_names(given, id="id", task="task", text="text")
