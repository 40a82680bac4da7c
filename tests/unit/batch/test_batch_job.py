"""`scoremux score` as a process, against a server that answers at once: killed, stopped, resumed, refused."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset
from tritonclient.utils import deserialize_bytes_tensor

from batch_jobs import SCOREMUX, arguments, content, finish, kill_and_finish, write_sources
from desks import write_jsonl
from making import ROOT
from peers import answer, answer_but, infer_response, listening, ok_columns, texts_of
from scoremux_batch.job import Job
from scoremux_batch.journal import Journal
from scoremux_client.contract import NO_CONFIDENCE
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_files.errors import InputError
from scoremux_files.rows.readers import read_rows
from scoremux_files.rows.row_layout import FILE_START, RowLayout
from serving import run_here
from waiting import until


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(answer) as address:
        yield address


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return run_here("score", *command)


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(out.glob("part-*")) for row in pq.read_table(part).to_pylist()]


def rejected(out: Path) -> list[tuple[str, int | None, str]]:
    lines = [line for part in sorted((out / "_rejected").glob("*")) for line in part.read_text().splitlines()]
    return [(Path(row["source"]).name, row["line"], row["reason"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.nightly)])
def test_killed_job_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path: Path, url: str, kills: int) -> None:
    sources = write_sources(tmp_path / "in", 1500)
    finish(arguments(sources, tmp_path / "whole", url))
    killed = arguments(sources, tmp_path / "killed", url)
    assert kill_and_finish(killed, tmp_path / "killed", kills, 28, random.Random(4)) >= 3
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    scored = rows(tmp_path / "whole")
    assert len({(row["source"], row["line"]) for row in scored}) == len(scored) == 1500 + 2 * 1485
    assert len(rejected(tmp_path / "whole")) == 30


def test_kept_columns_are_in_the_output_and_a_report_finds_groups_there(tmp_path: Path, url: str) -> None:
    cells = [("f", 7), ("=m", 8.0), ("", None)]
    lines = [
        {"task": "t", "text": str(n), "id": f"r{n}", "gender": cells[n % 3][0], "Form No": cells[n % 3][1]}
        for n in range(90)
    ]
    write_jsonl(tmp_path / "in.jsonl", lines)
    write_jsonl(tmp_path / "truth.jsonl", [{"id": line["id"], "level": n % 2} for n, line in enumerate(lines)])
    command = [tmp_path / "in.jsonl", "--url", url, "--part-rows", "40"]
    kept_columns = ("--keep", "gender", "--keep", "Form No", "--keep", "gender")
    for out in ("out", "out.csv", "out.jsonl"):
        assert run(*command, *kept_columns, "--out", tmp_path / out).returncode == 0
    kept = [(row["id"], row["gender"], row["Form No"]) for row in rows(tmp_path / "out")]
    assert kept == [(f"r{n}", cells[n % 3][0] or None, ("7", "8", None)[n % 3]) for n in range(90)]
    assert [(row["id"], row["gender"], row["Form No"]) for row in read_rows(tmp_path / "out.jsonl")] == kept
    assert [row["gender"] for row in read_rows(tmp_path / "out.csv")][:3] == ["f", "'=m", ""]
    joined = match_files(tmp_path / "out", tmp_path / "truth.jsonl", LabelColumns(groups=("gender",)))
    found = dict(zip(joined.rows.id.to_pylist(), joined.groups["gender"].texts(), strict=True))
    assert found == {name: gender for name, gender, _ in kept if name in found}
    assert {*found.values()} == {"f", "=m", None}
    said = run(*command, "--out", tmp_path / "out").stderr
    assert "keep was ['gender', 'Form No'], now None" in " ".join(said.split())
    for name, message in (("sex", "no column sex"), ("level", "column level cannot be kept")):
        refused = run(tmp_path / "in.jsonl", "--url", url, "--out", tmp_path / "no", "--keep", name)
        assert refused.returncode == 2 and message in " ".join(refused.stderr.split())


def test_the_readers_of_parquet_read_a_jobs_folder(tmp_path: Path, url: str) -> None:
    lines = [{"task": "t", "text": str(n), "id": f"r{n}"} for n in range(30)]
    bad = '{"task": "t"}\nnot JSON\n'
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + bad)
    out = tmp_path / "out"
    run(tmp_path / "in.jsonl", "--out", out, "--url", url, "--part-rows", "10")
    assert {path.name for path in out.iterdir()} >= {"_journal.jsonl", "_rejected"}
    ids = sorted(line["id"] for line in lines)
    assert sorted(pd.read_parquet(out)["id"]) == ids
    assert sorted(dataset(out).to_table()["id"].to_pylist()) == ids
    assert sorted(pq.read_table(out)["id"].to_pylist()) == ids
    assert sorted(pl.read_parquet(out / "*.parquet")["id"]) == ids


def test_jobs_of_format_1_are_resumed_or_finished(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "tests/upgrade/format-1/job", tmp_path / "job")
    monkeypatch.chdir(tmp_path / "job")
    (source,) = json.loads(Path("scored/journal.jsonl").read_text().splitlines()[0])["sources"]
    os.utime("responses.jsonl", ns=(source["mtime_ns"],) * 2)
    os.utime("done.csv", ns=(json.loads(Path(".done.csv.done.json").read_text())["mtime_ns"],) * 2)
    shared = ("responses.jsonl", "--url", url, "--part-rows", "10")
    resumed = run(*shared, "--out", "scored", "--read-behind", "0.5", "--key-file", "key")
    assert "resuming: 19 rows are done" in resumed.stderr
    assert len(rows(Path("scored"))) == 39
    assert "nothing to do: 39 rows are in done.csv" in run(*shared, "--out", "done.csv").stderr


def test_ctrl_c_stops_at_once_and_says_how_to_resume(tmp_path: Path, url: str) -> None:
    sources = write_sources(tmp_path / "in", 4_000)
    command = arguments(sources, tmp_path / "out", url)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / "out").glob("part-*")), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "re-run the same command to resume" in errors
    assert len(rows(tmp_path / "out")) < 4_000  # it did not go on to the end
    finish(command)
    assert len(rows(tmp_path / "out")) == 4_000 + 2 * 3_960


def test_a_part_that_an_earlier_version_left_unfinished_is_removed(tmp_path: Path, url: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,a\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".unfinished.json").write_text("{}")
    assert run(tmp_path / "in.csv", "--out", tmp_path / "out", "--url", url).returncode == 0
    assert not (tmp_path / "out" / ".unfinished.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--part-rows", "7"], "part_rows was 16384, now 7"),
        (["--column", "text=answer"], "text was 'text', now 'answer'"),
        (["more.csv"], "more.csv was not in it"),
        (["in.csv"], "in.csv has changed since; restore it or give another --out"),
        (["_journal.jsonl"], "was written by another version of scoremux; score into another --out"),
    ],
    ids=range(5),
)
def test_other_job_is_refused_by_name(tmp_path: Path, url: str, change: list[str], message: str) -> None:
    out = tmp_path / "out"
    for name in ("in.csv", "more.csv"):
        (tmp_path / name).write_text("task,text\nt,1\n")
    command = [tmp_path / "in.csv", "--out", out, "--url", url]
    assert run(*command).returncode == 0
    source, times = tmp_path / "in.csv", (tmp_path / "in.csv").stat()
    match change:
        case ["in.csv"]:  # of the same size, and as it seems of the same time
            source.write_text("task,text\nt,2\n")
            os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        case ["_journal.jsonl"]:
            journal = out / "_journal.jsonl"
            journal.write_text(journal.read_text().replace('"format": 1', '"format": 4'))
        case ["more.csv"]:
            command += [tmp_path / "more.csv"]
        case _:
            command += change
    before = content(out)
    refused = run(*command)
    assert (refused.returncode, content(out)) == (2, before)
    assert message in " ".join(refused.stderr.split())
    if change == ["in.csv"]:
        source.write_text("task,text\nt,1\n")
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert run(*command).returncode == 0


def test_job_does_not_go_on_in_another_arithmetic_unless_allowed(tmp_path: Path) -> None:
    def line(name: str) -> dict[str, Any]:
        place = {"files": 1, "source": 0, "position": FILE_START._asdict()}
        return {**place, "rows": 1, "rejected": 0, "people": {}, "counts": {}, "arithmetic": [name]}

    with Journal(tmp_path, Job([], RowLayout())) as journal:
        journal.add(line("x86-f32"))
    with Journal(tmp_path, Job([], RowLayout())) as journal:
        journal.add(line("x86-f32"))
        with pytest.raises(InputError, match=r"in vnni-int8-bf16 and x86-f32, .* allow it with --mixed-arithmetic"):
            journal.add(line("vnni-int8-bf16"))
        assert journal.state.parts == 2
    with Journal(tmp_path, Job([], RowLayout(), mixed_arithmetic=True)) as journal:
        journal.add(line("vnni-int8-bf16"))
        assert journal.state.parts == 3 and journal.state.arithmetic == {"x86-f32", "vnni-int8-bf16"}


def test_journal_that_a_crash_cut_short_is_repaired(tmp_path: Path, url: str) -> None:
    sources = write_sources(tmp_path / "in", 2000)
    for name in ("whole", "torn"):
        finish(arguments(sources, tmp_path / name, url))
    journal = tmp_path / "torn" / "_journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:4]) + lines[4][:20])
    (tmp_path / "torn" / ".new-3").write_bytes(b"half")
    finish(arguments(sources, tmp_path / "torn", url))
    assert content(tmp_path / "torn") == content(tmp_path / "whole")
    assert journal.read_bytes() == b"".join(lines)


def test_second_process_on_one_job_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    release = threading.Event()

    def waiting(request: Any, context: Any) -> Any:
        release.wait(240)
        return answer(request, context)

    with listening(waiting) as slow:
        command = [SCOREMUX, "score", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out"), "--url", slow]
        first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until((tmp_path / "out" / "_journal.jsonl").exists, first)
        second = run(*command[2:])
        release.set()
        assert first.wait(240) == 0
    assert second.returncode == 2
    assert "another process is at work on this job" in second.stderr


def test_folders_and_bad_rows_in_one_job(tmp_path: Path, url: str) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    (data / "a.csv").write_text("task,text\nt,1\nt\nt,2\n")
    (data / "deep" / "b.jsonl").write_text('{"task": "t", "text": "3", "id": "same"}\n{"text": "my secret\n')
    (data / "d.jsonl").write_text("")
    (data / "_SUCCESS").write_text("")
    (tmp_path / "x1.jsonl").write_text('{"task": "t", "text": "4", "id": "same"}\n')
    command = (data, tmp_path / "x1.jsonl", "--out", data / "out", "--url")
    ended = run(*command, url)
    assert ended.returncode == 3
    scored = [(Path(r["source"]).name, r["line"], r["id"], r["level"]) for r in rows(data / "out")]
    assert scored == [("a.csv", 2, "1", 1), ("a.csv", 4, "3", 2), ("b.jsonl", 1, "same", 3), ("x1.jsonl", 1, "same", 4)]
    assert rejected(data / "out") == [("a.csv", 3, "1 columns, the header has 2"), ("b.jsonl", 2, "not JSON")]
    assert "a.csv, line 3: 1 columns, the header has 2" in ended.stderr
    assert "secret" not in ended.stderr
    again = run(*command, "127.0.0.1:9")  # a job that is done sends nothing
    assert (again.returncode, "resuming: 4 rows are done" in again.stderr) == (3, True)


def test_null_text_is_scored_as_a_blank_one(tmp_path: Path, url: str) -> None:
    nulls, end = '{"task": "t", "text": null}\n' * 3, '{"task": "t", "text": null, "id": "last"}\n'
    (tmp_path / "in.jsonl").write_text(nulls + '{"task": "t", "text": "5"}\n' + nulls + end)
    ended = run(tmp_path / "in.jsonl", "--out", tmp_path / "out", "--url", url, "--part-rows", "2")
    assert ended.returncode == 0, ended.stderr
    scored = [(row["id"], row["status"], row["level"], row["line"]) for row in rows(tmp_path / "out")]
    (tmp_path / "blank.jsonl").write_text((tmp_path / "in.jsonl").read_text().replace("null", '""'))
    run(tmp_path / "blank.jsonl", "--out", tmp_path / "blank", "--url", url)
    assert scored == [(row["id"], row["status"], row["level"], row["line"]) for row in rows(tmp_path / "blank")]
    assert [row["status"] for row in rows(tmp_path / "out")] == ["OK"] * 8


@pytest.mark.parametrize("out", ["out", "out.csv"])
def test_job_without_any_score_does_not_end_with_success(tmp_path: Path, out: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\nt,2\n")
    with listening(partial(answer_but, status=b"UNKNOWN_TASK", takes=lambda _: True)) as url:
        command = (tmp_path / "in.csv", "--out", tmp_path / out, "--url", url)
        for _ in range(2):
            ended = run(*command)
            assert ended.returncode == 5, ended.stderr
            assert "NO ROW WAS SCORED: 2 UNKNOWN_TASK" in ended.stderr


@pytest.mark.parametrize("name", ["keep.csv", "keep.jsonl", "keep.csv.rejected.jsonl", "keep", "keep.csv.alerts"])
def test_file_of_somebody_else_is_not_overwritten(tmp_path: Path, url: str, name: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    foreign = tmp_path / name
    if not foreign.suffix.startswith((".csv", ".jsonl")):
        foreign.mkdir()
        foreign /= "part-000000.parquet"
    foreign.write_text("mine")
    out = tmp_path / ("keep.csv" if name.startswith("keep.csv.") else name)
    before = content(tmp_path)
    refused = run(tmp_path / "in.csv", "--out", out, "--url", url)
    assert (refused.returncode, content(tmp_path)) == (2, before)
    assert "was not written by this job; move it, or give another --out" in refused.stderr


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_single_file_is_exported_once_and_no_part_stays_beside_it(tmp_path: Path, url: str, suffix: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\nt\n")
    out = tmp_path / f"out{suffix}"
    assert run(tmp_path / "in.csv", "--out", out, "--url", url).returncode == 3
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"in.csv", out.name, f"{out.name}.rejected.jsonl", f".{out.name}.done.json"}
    before = out.read_bytes(), out.stat().st_mtime_ns
    again = run(tmp_path / "in.csv", "--out", out, "--url", "127.0.0.1:9")
    assert again.returncode == 3, again.stderr
    assert "nothing to do: 1 rows are in" in again.stderr and "rejected: 1, all in" in again.stderr
    assert (out.read_bytes(), out.stat().st_mtime_ns) == before


def test_journal_counts_the_last_line_of_a_part_that_an_earlier_version_scored_again(tmp_path: Path, url: str) -> None:
    command = arguments(write_sources(tmp_path / "in", 600), tmp_path / "out", url)
    finish(command)
    journal = tmp_path / "out" / "_journal.jsonl"
    lines = journal.read_text().splitlines()
    died = {**json.loads(lines[1]), "counts": {"t-1": {"SERVER_DIED": 1}}}
    journal.write_text(
        "\n".join([lines[0], json.dumps(died), *lines[2:], json.dumps({"replaces": 0} | json.loads(lines[1]))]) + "\n"
    )
    before = content(tmp_path / "out")
    again = run_here(*command[1:])
    assert again.returncode == 3, again.stderr
    assert "SERVER_DIED" not in again.stderr and content(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("source", "in.csv has changed since; restore it or give another --out"),
        ("option", "out.csv is of another job: part_rows was 16384, now 7; give another --out"),
        ("output", "out.csv has changed since it was written; move it, or give another --out"),
        ("note", "was written by another version of scoremux; give another --out"),
        ("deleted", ""),
    ],
)
def test_single_file_of_another_job_is_not_overwritten(tmp_path: Path, url: str, change: str, message: str) -> None:
    source, out, note = tmp_path / "in.csv", tmp_path / "out.csv", tmp_path / ".out.csv.done.json"
    source.write_text("task,text\nt,1\nt\n")
    command = [source, "--out", out, "--url", url]
    assert run(*command).returncode == 3
    whole = content(tmp_path)
    match change:
        case "source":
            source.write_text("task,text\nt,2\n")
        case "option":
            command += ["--part-rows", "7"]
        case "output":
            out.write_text("edited")
        case "note":
            note.write_text('{"format": 0}')
        case _:
            out.unlink()
    before = content(tmp_path)
    again = run(*command)
    if change == "deleted":
        assert again.returncode == 3 and "nothing to do" not in again.stderr
        assert content(tmp_path).keys() == whole.keys() and out.read_bytes() == whole["out.csv"]
    else:
        assert (again.returncode, content(tmp_path)) == (2, before)
        assert message in again.stderr


def test_umask_decides_who_may_read_the_output(tmp_path: Path, url: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\nt\n")
    words = [SCOREMUX, "score", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out"), "--url", url]
    subprocess.run(words, capture_output=True, timeout=240, check=False, umask=0o077)
    (tmp_path / "in.csv").unlink()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    assert not [path for path in files if path.stat().st_mode & 0o077]


def test_token_is_not_sent_to_another_machine_unencrypted_unasked(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("task,text\nt,1\n")
    command = [tmp_path / "in.csv", "--out", tmp_path / "out", "--url", "192.0.2.1:8001", "--token", "secret"]
    refused = run(*command)
    assert refused.returncode == 2 and "--insecure" in refused.stderr and "secret" not in refused.stderr
    insecure = run(*command, "--insecure", "--patience", "0")
    assert insecure.returncode == 2 and "--insecure" not in insecure.stderr


def test_cut_texts_and_rows_decided_without_a_calibration_are_counted(tmp_path: Path) -> None:
    def uncalibrated(request: Any, _context: object) -> Any:
        columns = ok_columns([1] * len(texts := texts_of(request)))
        columns["CONFIDENCE"][:] = NO_CONFIDENCE
        columns["TRUNCATED"][:, 0] = [text == b"2" for text in texts]
        return infer_response(columns)

    (tmp_path / "in.csv").write_text("task,text\nt,1\nt,2\nt,3\n")
    with listening(uncalibrated) as url:
        ended = run(tmp_path / "in.csv", "--out", tmp_path / "out", "--url", url)
    assert re.search("machine, without a confidence │ +3 │ 100.0% ", ended.stderr)
    assert re.search("text cut at its end +│ +1 │ +33.3% ", ended.stderr)


def test_text_in_the_task_column_is_counted_without_being_named(tmp_path: Path, url: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\nmy grandmother is the router,t\nand her cat,t\nt,1\n")
    ended = run(tmp_path / "in.csv", "--out", tmp_path / "out", "--url", url)
    assert re.search(r"\(no task id\) │ +2 ", ended.stderr)
    assert "grandmother" not in ended.stderr + (tmp_path / "out" / "_journal.jsonl").read_text()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["gone.csv"], "gone.csv cannot be read"), (["in.csv", "in.csv"], "is given twice"), (["empty"], "there are no")],
    ids=range(3),
)
def test_sources_that_make_no_sense_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    (tmp_path / "in.csv").write_text("task,text\n")
    (tmp_path / "empty").mkdir()
    refused = run(*(tmp_path / name for name in names), "--out", tmp_path / "out", "--url", "127.0.0.1:9")
    assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr


_LARGE_PARTS = 2000
"""Rows of parts in which there is room for as many tasks as make a job sort its rows."""


def many_tasks(folder: Path, count: int) -> list[Path]:
    """Write two files of rows over `count` tasks, three rows a task in no order, some of which cannot be read."""
    draw = random.Random(3)
    numbers = [*range(count)] * 3
    draw.shuffle(numbers)
    lines = [{"id": f"r{n}", "task": f"t-{task:04}", "text": f"answer {n}"} for n, task in enumerate(numbers)]
    lines[5]["text"] = "half of a pair: \ud800"
    folder.mkdir()
    half = len(lines) // 2
    for name, part in (("a.jsonl", lines[:half]), ("b.jsonl", lines[half:])):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in part) + "{\n")
    return [folder / "a.jsonl", folder / "b.jsonl"]


def test_job_over_many_tasks_sends_each_task_once_and_keeps_the_order_of_its_rows(tmp_path: Path) -> None:
    sent: list[str] = []

    def noting(request: Any, context: Any) -> Any:
        sent.extend(task.decode() for task in deserialize_bytes_tensor(request.raw_input_contents[1]))
        return answer(request, context)

    sources = many_tasks(tmp_path / "in", 1500)
    with listening(noting) as address:
        finish(arguments(sources, tmp_path / "out", address, _LARGE_PARTS))
    sent = [task for task in sent if task]
    assert len(sent) == 4499, "the row that JSON cannot carry is not sent"
    runs = sum(before != after for before, after in pairwise(sent))
    assert runs <= 1500 + 40, "a task's rows were sent apart, but for requests that overtake each other"
    scored = rows(tmp_path / "out")
    assert [row["id"] for row in scored] == [f"r{n}" for n in range(4500)]
    assert [row["status"] for row in scored if row["status"] != "OK"] == ["INVALID_TEXT"]
    assert len(rejected(tmp_path / "out")) == 2
    assert not [*(tmp_path / "out").glob("*by_task*")], "texts of students were left behind"


@pytest.mark.parametrize("kills", [3, pytest.param(40, marks=pytest.mark.nightly)])
def test_killed_job_of_many_tasks_ends_with_the_same_bytes(tmp_path: Path, url: str, kills: int) -> None:
    sources = many_tasks(tmp_path / "in", 1500)
    finish(arguments(sources, tmp_path / "whole", url, _LARGE_PARTS))
    killed = arguments(sources, tmp_path / "killed", url, _LARGE_PARTS)
    assert kill_and_finish(killed, tmp_path / "killed", kills, 18, random.Random(4)) >= 2
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 4500
