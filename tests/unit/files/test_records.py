"""Files of rows: what goes out comes back, and what is wrong is named without showing a text."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoremux_cli.batch.parts import table_of
from scoremux_cli.batch.slices import Slice
from scoremux_cli.batch.sources import SourceFile
from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Scored
from scoremux_files.rows.readers import TextRow, read_responses, read_rows
from scoremux_files.rows.records import FILE_START
from scoremux_files.rows.writers import SCHEMA, formula_safe, without_apostrophe, write_scored

SECRET = "my grandmother is the router"
SUFFIXES = [".jsonl", ".csv", ".parquet"]
TEXTS = [
    "",
    " ",
    "NA",
    "null",
    "1",
    "Straße ä\u0308 日本 😀",
    'he said "no", twice',
    "two\nlines\r\nand\ttab",
    "a;b",
    "'",
]
PROBABILITIES = tuple(np.array([1 / 3, 2 / 3, 1e-9], dtype=np.float32).tolist())

OK = Scored("t-1", 2, 0.25, PROBABILITIES, Status.OK, "a" * 64, 12, True, "007")
BAD = Scored("prüfung,1", -1, math.nan, (), Status.UNKNOWN_TASK, "", 0, False, 'r"2"')


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
    part = Slice(SourceFile("in.csv", 0, 0), 0, 0, FILE_START, FILE_START, **columns)
    return table_of(part, rows, [None] * len(rows))


def drain(path: Path, rows: list[Scored]) -> None:
    write_scored(path, [table(rows[:4096]), table(rows[4096:])])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_text_is_read_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": f"r{n}", "task": "t-1", "text": text} for n, text in enumerate(TEXTS)]
    path = write_rows(tmp_path / f"in{suffix}", rows)
    assert list(read_responses([path])) == [TextRow(row["task"], row["text"], row["id"]) for row in rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("id_", ["007", "1e5", "-0", "0x1F", "NaN", "true", "2024-01-01", "12345678901234567890"])
def test_an_id_stays_text(tmp_path: Path, suffix: str, id_: str) -> None:
    path = write_rows(tmp_path / f"in{suffix}", [{"id": id_, "task": "7", "text": "8"}])
    assert list(read_responses([path])) == [TextRow("7", "8", id_)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_an_id_are_numbered(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"in{suffix}", [{"task": "t-1", "text": "a"}] * 3)
    assert [response.id for response in read_responses([path])] == ["1", "2", "3"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_row_whose_id_is_null_is_numbered(tmp_path: Path, suffix: str) -> None:
    rows = [{"id": "a", "task": "t-1", "text": "x"}, {"id": None, "task": "t-1", "text": "y"}]
    assert [r.id for r in read_responses([write_rows(tmp_path / f"in{suffix}", rows)])] == ["a", "2"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_other_columns_and_their_order_do_not_matter(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"in{suffix}", [{"text": "x", "grade": "3", "id": "a", "task": "t-1"}])
    assert list(read_responses([path])) == [TextRow("t-1", "x", "a")]


def test_a_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.csv", [{"task": "t-1", "text": "x"}]).rename(tmp_path / "IN.CSV")
    assert len(list(read_responses([path]))) == 1


def test_blank_lines_of_a_jsonl_file_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('\n{"task": "t-1", "text": "x"}\n\n  \n{"task": "t-1", "text": "y"}')
    assert [r.text for r in read_responses([tmp_path / "in.jsonl"])] == ["x", "y"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"in{suffix}", [{"task": "t-1", "text": "x"}])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [r.text for r in read_responses([path])] == ["x"]


def test_a_csv_file_of_several_blocks_keeps_every_quoted_newline(tmp_path: Path) -> None:
    text = 'one\ntwo, "three"\n' * 60
    rows = [{"id": f"{n:05}", "task": "t-1", "text": f"{n}{text}"} for n in range(2500)]
    path = write_rows(tmp_path / "in.csv", rows)
    assert path.stat().st_size > 2 << 20
    assert [(r.id, r.text) for r in read_responses([path])] == [(row["id"], row["text"]) for row in rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("missing", ["task", "text"])
def test_a_missing_column_is_named_with_file_and_row(tmp_path: Path, suffix: str, missing: str) -> None:
    row = {"id": "a", "task": "t-1", "text": SECRET}
    del row[missing]
    path = write_rows(tmp_path / f"in{suffix}", [row])
    with pytest.raises(InputError, match=rf"in\{suffix}, row 1: no {missing}; ") as caught:
        list(read_responses([path]))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("value", [None, 7, ["a"], {"a": 1}], ids=str)
def test_a_text_that_is_no_text_is_refused_with_file_and_row(tmp_path: Path, value: Any) -> None:
    rows = [{"task": "t-1", "text": "x"}, {"task": "t-1", "text": value}]
    with pytest.raises(InputError, match=r"in\.jsonl, row 2: no text"):
        list(read_responses([write_rows(tmp_path / "in.jsonl", rows)]))


@pytest.mark.parametrize(
    "line", ["{", f'{{"text": "{SECRET}', f'"{SECRET}"', "[]", "7", "null", f"{SECRET}", "[" * 100_000], ids=range(8)
)
def test_a_line_that_is_no_json_object_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    (tmp_path / "in.jsonl").write_text(f'{{"task": "t-1", "text": "x"}}\n\n{line}\n')
    with pytest.raises(InputError, match=r"in\.jsonl, line 3: not (JSON|a JSON object)$"):
        list(read_rows(tmp_path / "in.jsonl"))


def test_rows_before_a_broken_line_are_read(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"id": 1}\n{\n')
    rows = read_rows(tmp_path / "in.jsonl")
    assert next(rows) == {"id": 1}
    with pytest.raises(InputError):
        next(rows)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_bytes_that_are_not_utf8_are_refused_with_the_file(tmp_path: Path, suffix: str) -> None:
    path = write_rows(tmp_path / f"in{suffix}", [{"task": "t-1", "text": SECRET}] * 3)
    path.write_bytes(path.read_bytes().replace(b"router", b"r\xf6uter", 2))
    with pytest.raises(InputError, match=rf"in\{suffix}") as caught:
        list(read_rows(path))
    assert "grandmother" not in str(caught.value)


def test_a_jsonl_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b'{"text": "a"}\n{"text": "b"}\n{"text": "\xf6"}\n')
    with pytest.raises(InputError, match=r"in\.jsonl, (line 3|after line 2): not UTF-8"):
        list(read_rows(tmp_path / "in.jsonl"))


@pytest.mark.parametrize("row", [f"{SECRET},extra", f"r1,t-1,{SECRET},extra"])
def test_a_csv_row_of_another_width_is_refused_and_not_shown(tmp_path: Path, row: str) -> None:
    (tmp_path / "in.csv").write_text(f"id,task,text\n1,t-1,x\n{row}\n")
    with pytest.raises(InputError, match=r"in\.csv") as caught:
        list(read_rows(tmp_path / "in.csv"))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("name", "data"), [("in.csv", b""), ("in.parquet", b""), ("in.parquet", b"PAR1 no PAR1")])
def test_a_file_that_is_not_what_its_suffix_says_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}: (empty: a CSV file|not a Parquet file)"):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match=rf"gone\{suffix} cannot be read: .*No such file or directory"):
        list(read_rows(tmp_path / f"gone{suffix}"))


@pytest.mark.parametrize("name", ["in.txt", "in", "in.json"])
def test_another_suffix_is_answered_with_those_that_are_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: rows are read from \.jsonl, \.csv or \.parquet"):
        list(read_rows(tmp_path / name))


def test_scored_rows_come_back_from_jsonl(tmp_path: Path) -> None:
    drain(tmp_path / "out.jsonl", [OK, BAD])
    ok, bad = read_rows(tmp_path / "out.jsonl")
    assert list(ok) == SCHEMA.names
    assert (ok["id"], ok["task"], ok["status"], ok["level"], ok["score"]) == ("007", "t-1", "OK", 2, 0.25)
    assert (ok["probabilities"], ok["version"], ok["tokens"]) == (list(PROBABILITIES), "a" * 64, 12)
    assert ok["truncated"] is True
    assert (bad["id"], bad["task"], bad["status"]) == ('r"2"', "prüfung,1", "UNKNOWN_TASK")
    assert (bad["level"], bad["score"], bad["probabilities"], bad["version"]) == (-1, None, [], "")


def test_scored_rows_come_back_from_parquet_with_their_types(tmp_path: Path) -> None:
    drain(tmp_path / "out.parquet", [OK, BAD])
    assert pq.read_schema(tmp_path / "out.parquet").equals(SCHEMA)
    ok, bad = read_rows(tmp_path / "out.parquet")
    assert (ok["id"], ok["level"], ok["score"], ok["truncated"]) == ("007", 2, 0.25, True)
    assert ok["probabilities"] == list(PROBABILITIES)
    assert (bad["id"], bad["task"], bad["score"], bad["probabilities"]) == ('r"2"', "prüfung,1", None, [])


def test_scored_rows_come_back_from_csv_as_text(tmp_path: Path) -> None:
    drain(tmp_path / "out.csv", [OK, BAD])
    ok, bad = read_rows(tmp_path / "out.csv")
    assert (ok["id"], ok["task"], ok["level"], ok["score"], ok["truncated"]) == ("007", "t-1", "2", "0.25", "true")
    assert [np.float32(p) for p in ok["probabilities"].split()] == list(PROBABILITIES)
    assert (bad["id"], bad["task"], bad["level"], bad["score"]) == ('r"2"', "prüfung,1", "-1", "")
    assert bad["probabilities"] == ""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_of_more_than_one_block_are_all_there(tmp_path: Path, suffix: str) -> None:
    rows = [Scored("t-1", n % 5, 0.0, (), Status.OK, "", n, False, f"{n}") for n in range(9000)]
    drain(tmp_path / f"out{suffix}", rows)
    assert [row["id"] for row in read_rows(tmp_path / f"out{suffix}")] == [row.id for row in rows]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_rows_make_a_whole_file(tmp_path: Path, suffix: str) -> None:
    drain(tmp_path / f"out{suffix}", [])
    assert list(read_rows(tmp_path / f"out{suffix}")) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_appears_only_when_it_is_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"

    def tables() -> Iterator[Any]:
        yield table([OK])
        assert not path.exists()
        yield table([BAD])
        assert not path.exists()

    write_scored(path, tables())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    def failing() -> Iterator[Any]:
        yield table([OK])
        raise InputError("half way")

    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(InputError, match="half way"):
        write_scored(path, failing())
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {path.name: "old"}


@pytest.mark.parametrize("cell", ["=1+1", "@sum", "+x", "-x", "\tx", "\r=1", "-"])
def test_a_cell_that_looks_like_a_formula_is_disarmed_in_csv_and_only_there(tmp_path: Path, cell: str) -> None:
    drain(tmp_path / "out.csv", [replace(OK, id=cell)])
    drain(tmp_path / "out.jsonl", [replace(OK, id=cell)])
    assert [row["id"] for row in read_rows(tmp_path / "out.csv")] == [f"'{cell}"]
    assert [row["id"] for row in read_rows(tmp_path / "out.jsonl")] == [cell]
    assert without_apostrophe(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["-5", "+4.5e3", "r1", "'x", "''", ""])
def test_other_cells_stay_what_they_are(cell: str) -> None:
    assert formula_safe(cell) == cell
    assert without_apostrophe(cell) == cell


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "gone" / f"out{suffix}"
    with pytest.raises(InputError, match=rf"{path} cannot be written: "):
        drain(path, [OK])
