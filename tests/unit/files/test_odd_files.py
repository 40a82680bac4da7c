"""Odd files of rows: semicolons, tabs and UTF-16 are read; what cannot be read as a whole is refused with a remedy."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoremux_batch.job import Job
from scoremux_batch.slices import read_source
from scoremux_batch.sources import expand
from scoremux_files.errors import InputError
from scoremux_files.rows.file_check import check_file
from scoremux_files.rows.readers import read_records, read_rows
from scoremux_files.rows.row_layout import RowLayout
from serving import run_here

SECRET = "my grandmother is the router"
ROWS = [
    {"id": f"r{n}", "task": "t-1", "text": text, "note; 1": "a, b"}
    for n, text in enumerate(["Straße; 5\t6, 7", "日本 😀", 'she said "no"', "two\nlines", "", "plain"] * 3)
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]


def csv_text(delimiter: str = ",") -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return buffer.getvalue()


TEXTS = {
    **{f"{name}.csv": csv_text(delimiter) for name, delimiter in (("comma", ","), ("semicolon", ";"), ("tab", "\t"))},
    "lines.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", TEXTS)
def test_delimiters_and_encodings_are_recognised(tmp_path: Path, name: str, encoding: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16") else ""
    path = tmp_path / name
    path.write_bytes((mark + TEXTS[name]).encode(encoding))
    assert check_file(path, RowLayout())
    assert list(read_rows(path)) == ROWS
    job = Job(expand([str(path)]), RowLayout(part_rows=4))
    whole = list(read_source(job, 0))
    assert [text for part in whole for text in part.texts] == [row["text"] for row in ROWS]
    for number, part in enumerate(whole[:-1], start=1):
        assert list(read_source(job, 0, part.after, number)) == whole[number:]


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"'])
def test_a_line_that_says_what_divides_cells_is_no_header(tmp_path: Path, first: str) -> None:
    (tmp_path / "in.csv").write_text("\r\n".join([first, "id;task;a,b,c,d", "r1;t;x"]))
    assert list(read_rows(tmp_path / "in.csv")) == [{"id": "r1", "task": "t", "a,b,c,d": "x"}]
    (tmp_path / "tabs.tsv").write_text("sep=\t\nid\ttask\nr1\tt\n")
    assert list(read_rows(tmp_path / "tabs.tsv")) == [{"id": "r1", "task": "t"}]


def test_semicolons_in_a_quoted_header_do_not_divide_it(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('id,level,"a; b; c; d"\nr1,2,x\n')
    assert list(read_rows(path)) == [{"id": "r1", "level": "2", "a; b; c; d": "x"}]


def test_blank_lines_before_a_header_are_no_header(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\n \n\nid;task;text\n\nr1;t;x, y\n")
    (record,) = read_records(path, RowLayout())
    assert (record.line, record.values) == (6, {"id": "r1", "task": "t", "text": "x, y"})


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("xl/workbook.xml", "<workbook/>")
    return buffer.getvalue()


def parquet(columns: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


GOOD = csv_text().encode()
UTF8 = "not UTF-8; save it as UTF-8, or convert it: iconv -f WINDOWS-1252 -t UTF-8"
COLUMN = r"no column text \(its columns: id, task, answer\); say which one with --column text=NAME"
REFUSED = [
    ("in.csv", b"", "empty: a CSV file has a header"),
    ("in.csv", b"\xef\xbb\xbf", "empty: a CSV file has a header"),
    ("in.csv", b"id,task,text\n", "there are no rows in"),
    ("in.jsonl", b"", "there are no rows in"),
    ("in.jsonl", b"\n \n", "there are no rows in"),
    ("in.parquet", b"", "not a Parquet file"),
    ("in.parquet", b"PAR1 cut", "not a Parquet file"),
    ("in.parquet", parquet({"id": [], "task": [], "text": []}), "there are no rows in|column task is null, not text"),
    ("in.csv", b"id,task,answer\nr1,t,x\n", COLUMN),
    ("in.csv", b"id;task;answer\nr1;t;x\n", COLUMN),
    ("in.csv", "\ufeffid\ttask\tanswer\nr1\tt\tx\n".encode("utf-16-le"), COLUMN),
    ("in.jsonl", b'{"id": "r1", "task": "t", "answer": "x"}\n' * 3, COLUMN),
    ("in.parquet", parquet({"id": ["r"], "task": ["t"], "answer": ["x"]}), COLUMN),
    ("in.csv", f"{SECRET},t-1\nyes,t-1\n".encode(), r"no column task \(its columns: t-1, 1 more\)"),
    ("in.csv", b"Answer ID,Answer,Mark (0-5)\n1,x,2\n", r"columns: 'Answer ID', Answer, 'Mark \(0-5\)'"),
    ("in.csv", f"{SECRET},the answer is no\nyes,t-1\n".encode(), r"no column task \(its columns: 2 more\)"),
    ("in.csv", b"task,text,text\nt,x,y\n", "more than one column text"),
    ("in.parquet", parquet({"task": ["t"], "text": [1]}), "column text is int64, not text"),
    ("in.jsonl", b'[\n {"task": "t",\n  "text": "x"}\n]\n', "not JSON objects; a .jsonl file has one object in each"),
    ("in.jsonl", b'[{"task": "t", "text": "x"}]', "not JSON objects"),
    ("in.jsonl", GOOD, "not JSON objects"),
    ("in.csv", bytes(range(256)) * 40, "not a text file"),
    ("in.csv", "id,task,text\nr1,t,x\n".encode("utf-16-le"), "not a text file"),
    ("in.csv", "\ufeffid,task,text\nr1,t,x\n".encode("utf-32-le"), "it is UTF-32; save it as UTF-8"),
    ("in.csv", gzip.compress(GOOD), "compressed by gzip; unpack it"),
    ("in.csv", gzip.compress(GOOD)[:40], "compressed by gzip; unpack it"),
    ("in.jsonl", bz2.compress(GOOD), "compressed by bzip2"),
    ("in.csv", lzma.compress(GOOD), "compressed by xz"),
    ("in.csv", archive(), "ZIP archive or an Excel workbook"),
    ("in.csv", parquet({"task": ["t"], "text": ["x"]}), "it is a Parquet file; name it .parquet"),
    ("in.csv", "task,text\nt,Straße\n".encode("latin-1"), f"line 2: {UTF8}"),
    ("in.csv", GOOD + f"r,t,{SECRET} ü\n".encode("latin-1"), f"line 23: {UTF8}"),
    ("in.jsonl", b'{"task": "t", "text": "x"}\n{"task": "t", "text": "\xf6"}\n', f"line 2: {UTF8}"),
    ("in.csv", GOOD + "r,t,ü\n".encode("utf-16-le"), "UTF-8"),
    ("in.csv", "\ufefftask,text\nt,x\n".encode("utf-16-le") + b"\n", "line 3: not UTF-16; save it as UTF-8$"),
    ("in.csv", b"task,text\nt,x" + b"\xc3", f"line 2: {UTF8}"),
    ("in.csv", b"id,task,text\rr1,t,x\r", "its lines end with carriage returns alone; save it as CSV"),
    ("in.csv", b"id|task|text\nr1|t|x\n", "cells are divided by commas, semicolons or tabs"),
    ("in.csv", b"id, task, text\nr1, t, x\n", r"no column task \(its columns: id, ' task', ' text'\)"),
    ("in.csv", b"  \n\n", "empty: a CSV file has a header"),
]


FOREIGN = [row for row in REFUSED if "compressed" in row[2] or "ZIP" in row[2]]


@pytest.mark.parametrize(("name", "data", "message"), FOREIGN, ids=range(len(FOREIGN)))
def test_every_reader_refuses_what_is_no_text(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize(("name", "data", "message"), REFUSED, ids=range(len(REFUSED)))
def test_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        if not check_file(path, RowLayout()):
            raise InputError(f"there are no rows in {path}")
    assert str(caught.value).startswith((str(path), "there are no rows"))
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)


def test_file_with_nul_in_a_response_is_read(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"task,text\nt,x\nt,a\0b\n")
    assert check_file(tmp_path / "in.csv", RowLayout())


@pytest.mark.parametrize(("name", "data", "message"), [REFUSED[n] for n in (2, 8, 23, 29)], ids=range(4))
@pytest.mark.parametrize("out", ["out", "out.csv"])
def test_score_refuses_odd_files_at_the_start(tmp_path: Path, name: str, data: bytes, message: str, out: str) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.jsonl").write_text(TEXTS["lines.jsonl"])
    sources = [tmp_path / name] if "no rows" in message else [tmp_path / "good.jsonl", tmp_path / name]
    ended = run_here("score", *sources, "--out", tmp_path / out, "--url", "127.0.0.1:9")
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1 and ended.stderr.startswith("scoremux: ")
    assert {path.name for path in tmp_path.iterdir()} == {name, "good.jsonl"}
