"""What `scoremux score` does for people: read-behind, alerts, and the table of who goes where."""

import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from batch_jobs import SCOREMUX, alerts, arguments, content, finish, kill_and_finish, people, write_worrying
from peers import listening, worrying
from scoremux_batch.people import Alert, ConditionTask, ReadBehind
from scoremux_client.contract import Status
from scoremux_client.errors import InputError
from scoremux_client.rows import Response, Scored
from scoremux_files.rows.readers import read_rows
from serving import run_here

ROWS = 3000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(worrying) as address:
        yield address


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_worrying(tmp_path, ROWS)


def end(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return run_here(*command[1:])


def test_alerts_of_a_killed_job_are_there_once_each(tmp_path: Path, url: str, source: Path) -> None:
    whole, killed = ([*arguments([source], tmp_path / out, url), *people(source)] for out in ("whole", "killed"))
    ended = end(*whole)
    assert ended.returncode == 4, ended.stderr
    assert "ALERTS: 120" in ended.stderr.replace("\n", " ")
    assert kill_and_finish(killed, tmp_path / "killed", 8, 20, random.Random(2)) >= 2
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    rows = alerts(tmp_path / "killed" / "_alerts")
    assert sorted(row["line"] for row in rows) == [n + 1 for n in range(ROWS) if n % 50 in (0, 2)]
    assert Counter((row["status"], row["probability"]) for row in rows) == {
        ("OK", 0.75): 60,
        ("INVALID_TEXT", None): 60,
    }
    assert all(row["id"] == f"r{row['line'] - 1}" and "answer" not in json.dumps(row) for row in rows)


def test_alert_line_that_a_crash_cut_short_is_written_again(tmp_path: Path, url: str, source: Path) -> None:
    out = tmp_path / "out"
    command = [*arguments([source], out, url), *people(source)]
    end(*command)
    whole = content(out)
    journal, first = out / "_journal.jsonl", out / "_alerts" / "part-000000.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    first.write_bytes(first.read_bytes()[:100])
    end(*command)
    assert content(out) == whole and len(alerts(out / "_alerts")) == 120


def test_read_behind_picks_a_share_of_the_machines_rows_by_key_and_id(tmp_path: Path, url: str, source: Path) -> None:
    options = ["--url", url, "--read-behind", "0.2", "--key-file", tmp_path / "key"]
    ended = end(SCOREMUX, "score", source, *options, "--out", tmp_path / "a.csv")
    assert ended.returncode == 0, ended.stderr
    assert end(SCOREMUX, "score", source, *options, "--out", tmp_path / "b.parquet").returncode == 0
    ids = {row["id"] for row in read_rows(tmp_path / "a.csv") if row["read_behind"]}
    (tmp_path / "today.json").write_text('{"read_behind": {"other": 0.2}}')  # a task without a plan gets the greatest
    planned = [str(tmp_path / "today.json") if word == "0.2" else word for word in options]
    assert end(SCOREMUX, "score", source, *planned, "--out", tmp_path / "c.csv").returncode == 0
    assert (tmp_path / "c.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    table = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert ids == {row["id"] for row in table if row["read_behind"] is not None}
    assert 500 < len(ids) < 680
    assert {row["route"] for row in table if row["read_behind"] is not None} == {"machine"}
    assert {row["read_behind"] for row in table} == {None, np.float32(0.2)}
    words = " ".join(ended.stderr.split())
    assert "human:LOW_CONFIDENCE │ 60 │ 2.0%" in words
    assert "machine, without a confidence │ 2,940 │ 98.0%" in words
    assert f"read behind picked │ {len(ids)}" in words


def test_job_resumes_with_the_same_share_and_key_only(tmp_path: Path, url: str, source: Path) -> None:
    command = arguments([source], tmp_path / "out", url)
    finish([*command, "--read-behind", "0.1", "--key-file", str(tmp_path / "key")])
    other = end(*command)
    assert (other.returncode, "read_behind was {'share': 0.1, 'key': " in other.stderr) == (2, True)
    assert "0123456789abcdef" not in (tmp_path / "out" / "_journal.jsonl").read_text()


def test_job_resumes_with_the_plan_that_it_began_with(tmp_path: Path, url: str, source: Path) -> None:
    plan, journal = tmp_path / "today.json", tmp_path / "out" / "_journal.jsonl"
    plan.write_text('{"read_behind": {"other": 0.2}}')
    command = arguments([source], tmp_path / "out", url)
    command += ["--read-behind", str(plan), "--key-file", str(tmp_path / "key")]
    finish(command)
    whole = content(tmp_path / "out")
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])
    plan.write_text('{"read_behind": {"other": 0.9, "new": 0.8}}')  # of the next morning
    finish(command)
    assert content(tmp_path / "out") == whole


def test_key_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("short")
    with pytest.raises(InputError, match="has 5 bytes; it takes 16 at least"):
        ReadBehind.read("0.1", tmp_path / "key")
    (tmp_path / "page.json").write_text('{"read_behind": {"t-1": 1.5}}')
    for option in ("1.5", "a tenth", str(tmp_path / "page.json")):
        with pytest.raises(InputError, match="give a share from 0 to 1, or the"):
            ReadBehind.read(option, tmp_path / "key")


@pytest.mark.parametrize("said", ["danger", "danger:0", "danger:1.5", "a b:0.5", ":0.5"])
def test_alert_is_a_task_and_a_threshold(said: str) -> None:
    with pytest.raises(InputError, match="--alert is TASK:THRESHOLD"):
        Alert.parse(said)


def test_alert_or_condition_task_that_cannot_be_scored_or_lacks_a_code_stops_the_job() -> None:
    missing = Scored.without_score(Response("danger", ""), Status.UNKNOWN_TASK)
    with pytest.raises(InputError, match="the task danger of --alert or --condition cannot be scored: UNKNOWN_TASK"):
        Alert.parse("danger:0.3").describe(missing)
    with pytest.raises(InputError, match="the task danger of --alert or --condition cannot be scored: UNKNOWN_TASK"):
        ConditionTask.parse("danger:AU:0.3").add(missing, missing)
    regression = replace(missing, status=Status.OK, level=2)
    with pytest.raises(InputError, match=r"the task danger of --alert .* has a head of one value, without probabili"):
        Alert.parse("danger:0.3").describe(regression)
    outcome = replace(Scored.without_score(Response("danger", ""), Status.OK), probabilities=(0.5, 0.25, 0.25))
    with pytest.raises(InputError, match="--condition names 1 codes; danger has another number of levels above 0"):
        ConditionTask.parse("danger:A:0.3").add(outcome, outcome)


@pytest.mark.parametrize("said", ["au", "au:0.9", "au:AU", "au:AU:0", "au::0.5", "au:AX:0.5", ":A:0.5", "a b:A:1"])
def test_condition_is_a_task_codes_and_a_threshold(said: str) -> None:
    with pytest.raises(InputError, match="--condition is TASK:CODES:THRESHOLD"):
        ConditionTask.parse(said)


@pytest.mark.parametrize("status", [Status.SERVER_DIED, Status.NOT_FINITE, Status.TEXT_TOO_LONG])
def test_row_that_the_condition_task_cannot_score_goes_to_people(status: Status) -> None:
    condition, none = ConditionTask.parse("au:AU:0.9"), Scored.without_score(Response("au", ""), status)
    scored = replace(none, status=Status.OK, route="machine")
    assert condition.add(scored, none) == replace(scored, route="human:CONDITION")
    assert condition.add(scored, replace(none, status=Status.CONDITION)) == scored
    assert condition.add(none, none) == none


def test_condition_task_gives_codes_to_scored_rows(tmp_path: Path, url: str, source: Path) -> None:
    command = [*arguments([source], tmp_path / "out", url), "--condition", "danger:UAP:0.5", *people(source)]
    ended = end(*command)
    assert ended.returncode == 4, ended.stderr
    plain, coded = (
        {row["id"]: row for part in path.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()}
        for path in (_without(tmp_path, url, source), tmp_path / "out")
    )
    changed = {row_id for row_id, row in coded.items() if row["condition"] == "U"}
    assert len(changed) == 60
    unknown = {f"r{n}" for n in range(2, ROWS, 50)}  # INVALID_TEXT for the condition task alone
    assert {coded[row_id]["condition"] for row_id in unknown} <= {"", None}
    changed |= unknown
    assert {coded[row_id]["route"] for row_id in changed} == {"human:CONDITION"}
    same = ("level", "score", "status", "version")
    assert all(coded[row_id][key] == row[key] for row_id, row in plain.items() for key in same)
    assert all(coded[row_id]["route"] == row["route"] for row_id, row in plain.items() if row_id not in changed)
    other = end(*arguments([source], tmp_path / "out", url), *people(source))
    assert (other.returncode, "condition was {'task': 'danger'" in other.stderr) == (2, True)


def _without(tmp_path: Path, url: str, source: Path) -> Path:
    finish([*arguments([source], tmp_path / "plain", url), *people(source)])
    return tmp_path / "plain"


@pytest.mark.parametrize("plan", ['{"read_behind": ' + "[" * 100_000, '{"read_behind": {"t": "many"}}', "[]"])
def test_plan_that_is_none_is_refused(tmp_path: Path, plan: str) -> None:
    (tmp_path / "today.json").write_text(plan)
    (tmp_path / "key").write_bytes(b"k" * 16)
    with pytest.raises(InputError, match="give a share from 0 to 1"):
        ReadBehind.read(str(tmp_path / "today.json"), tmp_path / "key")
