"""What comes into the review desk: scored files, their texts, tasks, papers, the policy."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from desks import scored_rows, write_jsonl
from making import ROOT
from scoremux_client.errors import InputError
from scoremux_decide.policy import read_policy
from scoremux_desk.database import responses
from scoremux_desk.database.connection import Database
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.exports import export_final
from scoremux_desk.pages.rendering import reason_name
from scoremux_desk.reading.intake import add_scored
from scoremux_desk.reading.task_files import read_items
from scoremux_files.rows.readers import read_rows


def test_file_added_again_brings_only_new_rows(at_work: Any) -> None:
    work = at_work(40)
    folder = work.programme.folder
    again = add_scored(work.database, folder / "scored.jsonl")
    assert (again.rows, again.already_there, again.rescored, again.to_read) == (40, 40, 0, 0)
    write_jsonl(folder / "more.jsonl", scored_rows(50))
    assert add_scored(work.database, folder / "more.jsonl").already_there == 40
    other_version = [row | {"version": "d" * 64} for row in scored_rows(60)]
    write_jsonl(folder / "again.jsonl", other_version)
    again = add_scored(work.database, folder / "again.jsonl")
    assert (again.rows, again.already_there, again.rescored) == (60, 50, 50)


@pytest.mark.parametrize("change", [{"text": "Another year."}, {"task": "another"}])
def test_another_response_at_a_known_place_is_refused(at_work: Any, change: dict[str, str]) -> None:
    work = at_work(10)
    write_jsonl(work.programme.folder / "next.jsonl", [row | change for row in scored_rows(10)])
    with pytest.raises(InputError, match=r"another text or task than when scored\.jsonl brought it") as caught:
        add_scored(work.database, work.programme.folder / "next.jsonl")
    assert "Another year" not in str(caught.value)


def test_texts_are_read_from_the_scored_sources(tmp_path: Path, at_work: Any) -> None:
    work = at_work(0)
    plain = scored_rows(6)
    write_jsonl(tmp_path / "responses.jsonl", [{k: row[k] for k in ("id", "task", "text")} for row in plain])
    for row in plain:
        row["source"] = str(tmp_path / "responses.jsonl")
    without = [{k: v for k, v in row.items() if k != "text"} for row in plain]
    write_jsonl(tmp_path / "a.jsonl", without)
    assert add_scored(work.database, tmp_path / "a.jsonl").rows == 6
    alone = [{k: v for k, v in row.items() if k not in ("source", "line")} for row in without]
    write_jsonl(tmp_path / "b.jsonl", alone)
    with pytest.raises(InputError, match="review add` --responses FILE"):
        add_scored(work.database, tmp_path / "b.jsonl")
    added = add_scored(work.database, tmp_path / "b.jsonl", responses=[tmp_path / "responses.jsonl"])
    assert added.already_there == 6  # the same rows by source, line and id
    texts = work.execute("SELECT text FROM rows WHERE state != 'validity'")
    assert {row.text for row in texts} == {row["text"] for row in plain}


@pytest.mark.parametrize("reason", ["NEW_TASK", "UNCALIBRATED"])
def test_rows_of_a_new_task_are_all_read(tmp_path: Path, at_work: Any, reason: str) -> None:
    work, row = at_work(0), scored_rows(1)[0]
    write_jsonl(tmp_path / "new.jsonl", [row | {"confidence": 0.9, "condition": "", "route": f"human:{reason}"}])
    assert add_scored(work.database, tmp_path / "new.jsonl").to_read == 1
    (chosen,) = work.execute("SELECT chosen_by, reason FROM rows WHERE state = 'waiting'")
    assert tuple(chosen) == ("all", reason)
    assert reason_name(reason) == {"NEW_TASK": "New task", "UNCALIBRATED": "No calibration"}[reason]


def test_uncalibrated_rows_that_a_profile_leaves_to_the_machine_are_the_machines(tmp_path: Path, at_work: Any) -> None:
    """Only the server's profile gives the route `machine` without a confidence; rows without a route are of before."""
    work, row = at_work(0), scored_rows(1)[0] | {"confidence": None, "condition": "", "route": "machine"}
    rows = [row | {"id": f"r{n}", "line": n + 1, "read_behind": 0.25 if n % 4 == 0 else None} for n in range(40)]
    rows += [row | {"id": "old", "line": 50, "route": ""}]
    write_jsonl(tmp_path / "new.jsonl", rows)
    assert add_scored(work.database, tmp_path / "new.jsonl").to_read == 11
    chosen = work.execute(
        "SELECT state, chosen_by, reason, read_behind, count(*) AS n FROM rows WHERE source = 'responses.jsonl' "
        "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2"
    )
    assert [tuple(rows) for rows in chosen] == [
        ("machine", "", "", None, 30),
        ("waiting", "all", "ALL", None, 1),
        ("waiting", "read_behind", "READ_BEHIND", 0.25, 10),
    ]
    while (read := work.take("anna", reason="READ_BEHIND")) is not None:
        work.decide("anna", read.token, 1)
    export_final(work.database, tmp_path / "final.jsonl")
    finals = Counter((row["status"], row["decided_by"]) for row in read_rows(tmp_path / "final.jsonl"))
    assert finals == {("OK", "machine"): 30, ("OK", "rater"): 10, ("PENDING", ""): 1}


def test_code_in_the_place_of_a_score_is_the_machines_last_word(tmp_path: Path, at_work: Any) -> None:
    """Read by people, blank responses alone would pass as a sample of all responses, beside those that were routed."""
    work, row = at_work(0), scored_rows(1)[0]
    coded = {"status": "CONDITION", "level": -1, "score": None, "probabilities": [], "condition": "B", "text": " "}
    rows = [row | coded | {"confidence": None, "route": "machine"}]
    rows += [row | {"id": "r1", "line": 2, "confidence": 0.4, "condition": "", "route": "human:LOW_CONFIDENCE"}]
    write_jsonl(tmp_path / "coded.jsonl", rows)
    assert add_scored(work.database, tmp_path / "coded.jsonl").to_read == 1
    export_final(work.database, tmp_path / "final.jsonl")
    (final, _) = read_rows(tmp_path / "final.jsonl")
    assert (final["status"], final["code"], final["decided_by"]) == ("CONDITION", "B", "machine")


def test_row_that_nobody_can_grade_is_counted_apart(tmp_path: Path, at_work: Any) -> None:
    work, row = at_work(0), scored_rows(1)[0] | {"confidence": 0.9, "route": "machine"}
    nothing = {"level": -1, "score": None, "probabilities": [], "confidence": None, "route": "", "condition": ""}
    rows = [row | {"text": ""}]
    rows += [row | nothing | {"id": f"r{n}", "line": n, "status": status}
             for n, status in enumerate(("UNKNOWN_TASK", "INVALID_TEXT"), start=2)]  # fmt: skip
    write_jsonl(tmp_path / "odd.jsonl", rows)
    assert add_scored(work.database, tmp_path / "odd.jsonl").to_read == 0
    export_final(work.database, tmp_path / "final.jsonl")
    assert [row["decided_by"] for row in read_rows(tmp_path / "final.jsonl")] == ["machine", "nobody", "nobody"]
    with work.database.read() as connection:
        assert responses.count_states(connection) == {"machine": 1, "nobody": 2}
    assert "Nobody can grade</span><strong>2<" in work.programme.client("lee").get("/progress").text
    assert "nobody can grade it" in work.programme.client("lee").get("/rows/3").text


def test_null_in_a_scored_file_is_a_blank_response(tmp_path: Path, at_work: Any) -> None:
    work, row = at_work(0), scored_rows(1)[0] | {"confidence": 0.4, "route": "human:LOW_CONFIDENCE"}
    del row["text"]
    (tmp_path / "responses.jsonl").write_text('{"id": "r0", "task": "bio-7", "text": null}\n')
    write_jsonl(tmp_path / "scored.jsonl", [row])
    add_scored(work.database, tmp_path / "scored.jsonl", responses=[tmp_path / "responses.jsonl"])
    assert work.execute("SELECT text, state FROM rows WHERE name = 'r0'") == [("", "waiting")]


def test_tasks_come_from_a_store_or_from_task_folders(tmp_path: Path) -> None:
    folders = {item.id: item for item in read_items(ROOT / "examples" / "saf" / "adapters")}
    assert len(folders) == 27
    assert folders["de-1"].language == "de"
    package = tmp_path / "packages" / "ab12"
    shutil.copytree(ROOT / "examples" / "saf" / "adapters" / "de-1", package)
    (tmp_path / "manifest.json").write_text(json.dumps({"tasks": {"de-1": "ab12"}, "backbone": "cd34"}))
    assert list(read_items(tmp_path)) == [folders["de-1"]]
    with pytest.raises(InputError, match="neither a store"):
        list(read_items(tmp_path / "packages" / "ab12"))
    traits = {name: {"levels": [1, points]} for name, points in (("grammar", 2), ("syntax", 1.5))}
    (package / "task.json").write_text(json.dumps({"id": "essay-1", "traits": traits}))
    assert [(item.id, item.levels) for item in read_items(tmp_path)] == [
        ("essay-1.grammar", (1, 2)), ("essay-1.syntax", (1, 1.5))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [("second_reads = 2", "less than or equal to 1"), ('machine = "maybe"', "'never', 'after' or 'before'"),
     ("groups = 1", "valid boolean"), ("lease_s = 0", "greater than 0"), ("leases = 3", "unknown key leases")],
)  # fmt: skip
def test_policy_file_is_refused_by_key(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f"[review]\n{line}\n")
    with pytest.raises(InputError, match=rf"policy\.toml, \[review\].*{message}"):
        DeskPolicy.read(path)


def test_policy_file_serves_desk_and_calibration(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[review]\nsecond_reads = 0.1\nmachine = "never"\n[other]\nx = 1\n')
    assert DeskPolicy.read(path) == DeskPolicy(second_reads=0.1, machine="never")
    example = ROOT / "examples" / "policy.toml"
    assert DeskPolicy.read(example) == DeskPolicy(second_reads=0.1, adjudicate="non-adjacent", validity=0.05)
    assert read_policy(example).digest


def test_file_that_has_a_name_as_those_of_traits_is_refused_for_such_a_task(tmp_path: Path) -> None:
    rows = [{**row, "source": "1 of May.csv"} for row in scored_rows(2)]
    database = Database(str(tmp_path / "reviews.db"), create=True)
    write_jsonl(tmp_path / "scored.jsonl", [{**rows[0], "task": "1"}, {**rows[1], "task": "essay.1"}])
    with pytest.raises(InputError, match=r"1 of May\.csv: rows of essay\.1 cannot come from a file of this name"):
        add_scored(database, tmp_path / "scored.jsonl")
    write_jsonl(tmp_path / "scored.jsonl", [{**rows[0], "task": "1"}])
    add_scored(database, tmp_path / "scored.jsonl")
    export_final(database, tmp_path / "final.jsonl")
    assert [row["source"] for row in read_rows(tmp_path / "final.jsonl")] == ["1 of May.csv"]
    database.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"line": 2**70}, "row 2: its line or level is out of range"), ({"line": "x"}, "row 2: not what"),
     ({"level": 10**30}, "row 2: its line or level is out of range"), ({"probabilities": "a b"}, "row 2: not what"),
     ({"confidence": "high"}, "row 2: not what"), ({"level_low": 1e400}, "row 2: not what"),
     ({"id": "x" * 100_000}, "source and id have more than 2,000 bytes together")],
)  # fmt: skip
def test_odd_number_or_huge_id_is_named_by_its_row(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    rows = scored_rows(3)
    write_jsonl(tmp_path / "scored.jsonl", [rows[0], {**rows[1], **change}, rows[2]])
    database = Database(str(tmp_path / "reviews.db"), create=True)
    with pytest.raises(InputError, match=message) as refused:
        add_scored(database, tmp_path / "scored.jsonl")
    assert len(str(refused.value)) < 400
    database.close()
