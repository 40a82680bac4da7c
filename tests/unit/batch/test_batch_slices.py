"""Slices: every row of a file is in one of them or rejected with its line, wherever reading began."""

import csv
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_jobs import write_sources
from scoremux_batch.job import Job
from scoremux_batch.journal import JobState
from scoremux_batch.slices import Slice, read_slices, read_source
from scoremux_batch.sources import expand
from scoremux_files.rows.readers import READERS
from scoremux_files.rows.row_layout import FILE_START, ReadPosition, RowLayout
from scoremux_files.rows.text_files import NOT_UTF8

SECRET = "my grandmother is the router"
Rows = list[tuple[str, str, str | bytes | None, int]]


def slices(
    path: Path, layout: RowLayout | None = None, start: ReadPosition = FILE_START, number: int = 0
) -> list[Slice]:
    return list(read_source(Job(expand([str(path)]), layout or RowLayout()), 0, start, number))


def rows(path: Path, layout: RowLayout | None = None) -> Rows:
    return [row for s in slices(path, layout) for row in zip(s.ids, s.tasks, s.texts, s.lines, strict=True)]


def rejected(path: Path, layout: RowLayout | None = None) -> list[tuple[int | None, str]]:
    refusals = [(row["line"], row["reason"]) for s in slices(path, layout) for row in s.rejected]
    assert not any(SECRET in reason for _, reason in refusals)
    return refusals


def write(path: Path, count: int) -> Path:
    """Write good rows, with bad ones, blank lines and long quoted texts among them where the kind has such things."""
    draw = random.Random(3)
    good = [{"id": f"r{n}", "task": f"t-{n % 3}", "text": f'{n}, "x"\n' * draw.randint(0, 4)} for n in range(count)]
    if path.suffix == ".parquet":
        for row in good[5::17]:
            row["task"] = None  # type: ignore[assignment]
        pq.write_table(pa.Table.from_pylist(good), path, row_group_size=37)
    elif path.suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps(r) + "\n" * draw.randint(1, 2) + "{\n" * (n % 17 == 5) for n, r in enumerate(good))
        )
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "task", "text"])
            for n, row in enumerate(good):
                writer.writerow(row.values())
                file.write("a,b\r\n" * (n % 17 == 5) + '1,t,"open\r\n' * (n == count // 2))
    return path


@pytest.mark.parametrize("suffix", list(READERS))
@pytest.mark.parametrize(
    "layout", [RowLayout(part_rows=10), RowLayout(part_rows=1), RowLayout(part_bytes=100)], ids=repr
)
def test_reading_resumes_after_any_slice(tmp_path: Path, suffix: str, layout: RowLayout) -> None:
    path = write(tmp_path / f"in{suffix}", 300)
    whole = slices(path, layout)
    assert len(whole) > 1
    assert [s.ends_file for s in whole] == [False] * (len(whole) - 1) + [True]
    for number, part in enumerate(whole[:-1], start=1):
        assert slices(path, layout, part.after, number) == whole[number:]


def test_slices_of_a_resumed_job_have_the_numbers_of_the_whole_job(tmp_path: Path) -> None:
    """Files of all kinds without ids, with bad rows, empty files and a last slice without rows among them."""
    write_sources(tmp_path / "in", 300)
    (tmp_path / "in" / "a.jsonl").write_text("")
    (tmp_path / "in" / "b.csv").write_text("task,text\n" + "t,x\n" * 20)
    job = Job(expand([str(tmp_path / "in")]), RowLayout(id="no", part_rows=10))
    whole = list(read_slices(job, JobState()))
    assert {part.index for part in whole} == set(range(5))
    filled = [part.number for part in whole if part.filled]
    assert filled == list(range(len(filled)))
    ids = [row_id for part in whole for row_id in part.ids]
    assert len(set(ids)) == len(ids) == 20 + 300 + 2 * 297
    for place, part in enumerate(whole):
        start = part.resume()
        state = JobState(part.number + part.filled, start["source"], ReadPosition(**start["position"]))
        if place % 7 == 0:
            assert list(read_slices(job, state)) == whole[place + 1 :]
        assert next(read_source(job, part.index, part.start, part.number)) == part


def test_bad_jsonl_lines_are_rejected_by_line(tmp_path: Path) -> None:
    lines = [
        b'{"task": "t", "text": "a"}',
        b"",
        b"{",
        b'["' + SECRET.encode() + b'"]',
        b'{"task": "t", "text": "\xf6"}',
        b'{"task": "t"}',
        b'{"task": 7, "text": "x"}',
        b'{"task": "t", "text": ["' + SECRET.encode() + b'"]}',
        b'{"task": "t", "text": "x", "id": {}}',
        b"[" * 100_000,
        b'{"task": "t", "text": "b", "id": 7}',
    ]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    assert rows(path) == [("1", "t", "a", 1), ("7", "t", "b", 11)]
    assert rejected(path) == [
        (3, "not JSON"),
        (4, "not a JSON object"),
        (5, NOT_UTF8),
        (6, "no text"),
        (7, "task is not text"),
        (8, "text is not text"),
        (9, "id is neither text nor a number"),
        (10, "not JSON"),
    ]


def test_bad_csv_records_are_rejected_by_line(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    records = [
        b"id,task,text,grade",
        b'1,t,"two\nlines",x',
        b"2,t," + SECRET.encode(),
        b"3,t,\xf6,x",
        b'4,t,"a"b,x',
        b'5,t,5" disk,x',
        b'6,t,"' + SECRET.encode() + b",x",
        b"7,t,=1+1,x",
        b"8,t,fine,x",
    ]
    path.write_bytes(b"\n".join(records))
    assert rows(path) == [
        ("1", "t", "two\nlines", 2),
        ("5", "t", '5" disk', 7),
        ("7", "t", "=1+1", 9),
        ("8", "t", "fine", 10),
    ]
    assert rejected(path) == [
        (4, "3 columns, the header has 4"),
        (5, NOT_UTF8),
        (6, "not CSV"),
        (8, "a quote that is not closed"),
    ]


def arrow_bytes(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("in.csv", b"task,text,text\nt,a,b\n", "header: more than one column text"),
        ("in.parquet", b"PAR1 no PAR1", "not a Parquet file"),
        ("in.parquet", arrow_bytes({"task": ["t"], "text": [1]}), "column text is int64, not text"),
    ],
)
def test_unreadable_file_is_rejected_as_one(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert rows(tmp_path / name) == []
    assert rejected(tmp_path / name) == [(None, reason)]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_parquet_text_may_be_of_several_types_and_an_id_a_number(tmp_path: Path, kind: Any) -> None:
    texts = pa.array(["Straße", "", None]).cast(kind)
    table = pa.table({"id": [7, None, 9], "task": ["t", "t", "t"], "text": texts})
    pq.write_table(table, tmp_path / "in.parquet")
    assert rows(tmp_path / "in.parquet") == [("7", "t", "Straße".encode(), 1), ("2", "t", b"", 2), ("9", "t", "", 3)]
    assert rejected(tmp_path / "in.parquet") == []


def test_broken_row_group_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    texts = [{"id": f"r{n}", "task": "t", "text": random.Random(n).randbytes(50).hex()} for n in range(300)]
    pq.write_table(pa.Table.from_pylist(texts), path, row_group_size=100, compression="zstd")
    column = pq.ParquetFile(path).metadata.row_group(1).column(2)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + 50 : start + column.total_compressed_size] = bytes(column.total_compressed_size - 50)
    path.write_bytes(data)
    assert [row[0] for row in rows(path)] == [f"r{n}" for n in range(300) if not 100 <= n < 200]
    assert rejected(path) == [(101, "rows 101–200 cannot be read")]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_line_of_many_megabytes_is_passed_over_without_being_held(tmp_path: Path, suffix: str) -> None:
    path, size = tmp_path / f"in{suffix}", 200 << 20
    good = b'{"task": "t", "text": "a"}\n' if suffix == ".jsonl" else b"task,text\nt,a\n"
    with path.open("wb") as file:
        file.write(good)
        file.seek(size, 1)  # a hole: it reads as zeros and takes no disk
        file.write(b"\n" + (good if suffix == ".jsonl" else b"t,b\n"))
    tracemalloc.start()
    try:
        lines = [row[3] for row in rows(path, RowLayout(line_bytes=1 << 20))]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    long_line = 2 if suffix == ".jsonl" else 3
    assert lines == [long_line - 1, long_line + 1]
    assert rejected(path, RowLayout(line_bytes=1 << 20)) == [(long_line, "longer than 1,048,576 bytes")]


def test_open_quote_costs_its_own_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text('task,text\nt,"open\n' + "".join(f"t,{n}\n" for n in range(5000)))
    assert [row[2] for row in rows(path, RowLayout(line_bytes=1000))] == [str(n) for n in range(5000)]
    assert rejected(path, RowLayout(line_bytes=1000)) == [(2, "a quote that is not closed")]


def test_columns_are_found_by_the_names_of_the_layout(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("answer,item,key,id\nhello,t-1,k7,no\n")
    assert rows(tmp_path / "in.csv", RowLayout("key", "item", "answer")) == [("k7", "t-1", "hello", 2)]
