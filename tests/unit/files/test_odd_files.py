"""Files that users bring: names of columns, delimiters, encodings, archives, and every refusal."""

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
from scoremux_evidence.rows.label_columns import label_columns
from scoremux_evidence.rows.reading import read_labels
from scoremux_files.errors import InputError
from scoremux_files.rows.file_check import check_file
from scoremux_files.rows.readers import read_records, read_rows
from scoremux_files.rows.row_layout import RowLayout, column_names
from serving import run_here

SECRET = "my grandmother is the router"
ROWS = [
    {"id": f"r{n}", "task": "t-1", "text": text, "note; 1": "a, b"}
    for n, text in enumerate(["Straße; 5\t6, 7", "日本 😀", 'she said "no"', "two\nlines", "", "plain"] * 3)
]
ENCODINGS = ["utf-8", "utf-8-sig"]


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
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode(encoding))
    assert check_file(path, RowLayout())
    assert list(read_rows(path)) == ROWS
    job = Job(expand([str(path)]), RowLayout(part_rows=4))
    whole = list(read_source(job, 0))
    assert [text for part in whole for text in part.texts] == [row["text"] for row in ROWS]
    for number, part in enumerate(whole[:-1], start=1):
        assert list(read_source(job, 0, part.after, number)) == whole[number:]


@pytest.mark.parametrize(
    ("name", "text", "row"),
    [
        ("in.csv", 'id,level,"a; b; c; d"\nr1,2,x\n', {"id": "r1", "level": "2", "a; b; c; d": "x"}),
        ("in.csv", "\n \n\nid;task;text\n\nr1;t;x, y\n", {"id": "r1", "task": "t", "text": "x, y"}),
        ("in.csv", "task,text\nt,a\0b\n", {"task": "t", "text": "a\0b"}),
    ],
)
def test_the_header_is_found_and_divided(tmp_path: Path, name: str, text: str, row: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(text.encode())
    assert list(read_rows(tmp_path / name)) == [row]
    (record,) = read_records(tmp_path / name, RowLayout())
    assert "text" not in row or (record.line == 1 + text[:-1].count("\n") and check_file(tmp_path / name, RowLayout()))


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
    ("in.csv", b"id\ttask\tanswer\nr1\tt\tx\n", COLUMN),
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
    ("in.csv", gzip.compress(GOOD), "not a text file"),
    ("in.csv", gzip.compress(GOOD)[:40], "not a text file"),
    ("in.jsonl", bz2.compress(GOOD), "not a text file"),
    ("in.csv", lzma.compress(GOOD), "not a text file"),
    ("in.csv", archive(), "not a text file"),
    ("in.csv", parquet({"task": ["t"], "text": ["x"]}), "not a text file"),
    ("in.csv", "task,text\nt,Straße\n".encode("latin-1"), f"line 2: {UTF8}"),
    ("in.csv", GOOD + f"r,t,{SECRET} ü\n".encode("latin-1"), f"line 23: {UTF8}"),
    ("in.jsonl", b'{"task": "t", "text": "x"}\n{"task": "t", "text": "\xf6"}\n', f"line 2: {UTF8}"),
    ("in.csv", GOOD + "r,t,ü\n".encode("utf-16-le"), "UTF-8"),
    ("in.csv", "task,text\nt,x\n".encode("utf-16"), "not a text file"),
    ("in.csv", "\ufefftask,text\nt,x\n".encode("utf-16-be"), "not a text file"),
    ("in.csv", b"task,text\nt,x" + b"\xc3", f"line 2: {UTF8}"),
    ("in.csv", b"id,task,text\rr1,t,x\r", r"not CSV; the first line names columns.* end with \\n"),
    ("in.csv", b"sep=;\nid;task;text\nr1;t;x\n", "the first line names columns"),
    ("in.csv", b"id|task|text\nr1|t|x\n", "cells are divided by commas, semicolons or tabs"),
    ("in.csv", b"id, task, text\nr1, t, x\n", r"no column task \(its columns: id, ' task', ' text'\)"),
    ("in.csv", b"  \n\n", "empty: a CSV file has a header"),
]


@pytest.mark.parametrize(("name", "data", "message"), REFUSED, ids=range(len(REFUSED)))
def test_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        if not check_file(path, RowLayout()):
            raise InputError(f"there are no rows in {path}")
    assert str(caught.value).startswith((str(path), "there are no rows"))
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    if message == "not a text file":  # by every reader
        with pytest.raises(InputError, match=message):
            list(read_rows(path))


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


WORDS = ("wrong", "partial", "correct")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = "".join(f"t,answer {n},{WORDS[n % 3]},s{n % 30}\n" for n in range(60))
    (tmp_path / "rows.csv").write_text(f"item,Antwort,Urteil,pupil\n{rows}")
    (tmp_path / "columns.toml").write_text(
        'task = "item"\ntext = "Antwort"\nlevel = "Urteil"\nstudent = "pupil"\n'
        "[levels]\nwrong = 0\npartial = 1\ncorrect = 2\n"
    )
    return tmp_path / "rows.csv"


def test_names_and_levels_of_the_file_count_for_every_command_and_an_option_overrides_one(data: Path) -> None:
    columns = label_columns(None, "level", data=data)
    assert (columns.task, columns.text, columns.level, columns.student) == ("item", "Antwort", "Urteil", "pupil")
    rows = read_labels([data], columns, ("task", "text", "level")).rows
    assert rows.level[:3].tolist() == [0, 1, 2] and rows.student.texts()[1] == "s1"
    checked = run_here("train", data, "--check")
    assert (checked.returncode, checked.stderr) == (0, "") and "20 20 20" in checked.stdout
    named = column_names(["text=item2"], data, id="id", text="text", group=())
    assert named == {"id": "id", "text": "item2", "group": ()}
    (data.parent / "columns.toml").write_text('group = ["region", "school"]\n')
    assert column_names(None, data, group=())["group"] == ("region", "school")
    assert column_names(["group=sex"], data, group=())["group"] == ("region", "school", "sex")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('lvl = "x"', "unknown key lvl; the keys are administration"),
        ("text = 3", 'text: give KEY = "NAME"'),
        ("[levels]\nright = 1.5", "under .levels. WORD = LEVEL"),
        ("text = ", "columns.toml is not TOML"),
    ],
)
def test_wrong_file_is_named(data: Path, content: str, complaint: str) -> None:
    (data.parent / "columns.toml").write_text(content)
    with pytest.raises(InputError, match=complaint):
        column_names(None, data, text="text")


def test_words_and_levels_without_rows_are_named_with_what_maps_them(data: Path) -> None:
    (data.parent / "columns.toml").write_text('task = "item"\ntext = "Antwort"\nlevel = "Urteil"\n')
    said = run_here("train", data, "--check").stderr
    assert "no number in Urteil or score; words need [levels] in columns.toml" in said
    (data.parent / "columns.toml").unlink()
    data.write_text("task,text,level\n" + "".join(f"t,answer {n},{1 + n % 3}\n" for n in range(60)))
    said = run_here("train", data, "--check").stderr
    assert "its levels are 1, 2, 3, and no row has 0; if these are points, name the column with --column score=" in said
    assert run_here("train", data, "--check", "--column", "score=level").returncode == 0


def test_standard_name_counts_where_the_renamed_column_is_absent(data: Path) -> None:
    (data.parent / "columns.toml").write_text('task = "item"\ntext = "Antwort"\nstudent = "pupil"\n')
    data.write_text("task,text,level\n" + "".join(f"t,answer {n},{n % 3}\n" for n in range(60)))
    columns = label_columns(None, "level", data=data)
    assert (columns.task, columns.text, columns.student) == ("task", "text", "pupil")
    assert label_columns(["text=Antwort"], data=data).text == "Antwort"


def test_error_about_a_renamed_column_names_the_file_that_renamed_it(data: Path) -> None:
    renamed = f"; {data.parent / 'columns.toml'} says "
    data.write_text(data.read_text().replace("Antwort", "words"))
    assert renamed + "Antwort" in run_here("train", data, "--check").stderr
    score = ("score", data, "--out", data.parent / "out", "--url", "127.0.0.1:9")
    assert renamed + "Antwort" in run_here(*score).stderr
    said = run_here(*score, "--column", "text=other").stderr
    assert "no column other" in said and renamed not in said


def test_file_in_another_encoding_and_a_repository_that_is_not_there_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("task,text,level\nt,Können,1\n".encode("latin-1"))
    said = run_here("train", tmp_path / "latin.csv", "--check").stderr
    assert said.endswith(
        "latin.csv:2: cannot be used: not UTF-8; save it as UTF-8, or convert it: "
        "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW\n"
    )
    said = run_here("tune", tmp_path / "nowhere", "--texts", tmp_path / "latin.csv").stderr
    assert said.startswith(f"scoremux: there is no folder {tmp_path / 'nowhere'}; give a repository that ")


def test_texts_in_the_column_of_levels_are_not_shown(data: Path) -> None:
    (data.parent / "columns.toml").unlink()
    said = run_here(
        "train", data, "--check", "--column", "task=item", "--column", "text=pupil", "--column", "level=Antwort"
    )
    assert "answer" not in said.stderr and said.returncode == 2


def test_check_exits_with_3_where_rows_cannot_be_used(data: Path) -> None:
    data.write_text(data.read_text() + "t,another,unsure,s1\n")
    checked = run_here("train", data, "--check")
    assert checked.returncode == 3 and "no number in Urteil or score" in checked.stdout


@pytest.mark.parametrize("suffix", [".xlsx", ".xls", ".ods"])
def test_workbook_is_refused_with_the_clicks_that_save_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"rows{suffix}").write_bytes(b"PK\x03\x04")
    for words in (("train", "--check"), ("score", "--out", tmp_path / "out", "--url", "localhost:9")):
        said = run_here(words[0], tmp_path / f"rows{suffix}", *words[1:]).stderr
        assert "in Excel, File > Save As > CSV UTF-8 writes the sheet as .csv" in said
