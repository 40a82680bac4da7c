"""What leaves the review desk."""

import json
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from desks import ITEMS, Work, run_review, scored_rows, write_jsonl
from labelled import each
from making import ROOT
from peers import answer, listening
from scoremux_batch.score import score
from scoremux_client.contract import CONDITION_CODES
from scoremux_client.errors import InputError
from scoremux_decide.apply import Decider
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.decision import Decision
from scoremux_decide.policy import read_policy
from scoremux_desk import exports
from scoremux_desk.database.connection import Database
from scoremux_desk.database.programme import Item, save_items
from scoremux_desk.database.reads import ADJUDICATION
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.erasure import ErasureRequest, erase
from scoremux_desk.reading import alerts
from scoremux_desk.reading.intake import add_scored
from scoremux_evidence.commands.agreement_commands import report
from scoremux_evidence.rows.label_columns import LabelColumns
from scoremux_evidence.rows.matching import match_files
from scoremux_evidence.rows.predicted import read_labelled
from scoremux_evidence.rows.reading import read_labels
from scoremux_files.rows.readers import read_rows, text_check
from scoremux_files.rows.writers import check_kept, done_note
from scoremux_train.data import read_data


def test_student_goes_from_scoring_over_the_desk_to_training(tmp_path: Path) -> None:
    # Columns of other names, numbers among the students, and what CSV takes for a formula.
    students = ["=7", "s1", "s2", "", "7", "s1", "ß/é 7", "s2"]
    source, base = tmp_path / "answers.csv", tmp_path / "reviews.db"
    lines = [f"k{n},t-{n % 2},{n % 4},{student}" for n, student in enumerate(students)]
    source.write_text("\n".join(["key,item,answer,pupil", *lines]), encoding="utf-8")
    (tmp_path / "key").write_text("sixteen bytes or more")
    options: dict[str, Any] = {"read_behind": "1", "key_file": tmp_path / "key"}
    columns = ["id=key", "task=item", "text=answer"]
    with listening(answer) as url:
        for out in ("scored", "scored.csv", "later"):
            student = [] if out == "later" else ["student=pupil"]
            score(sources=[str(source)], out=tmp_path / out, url=[url], **options, column=[*columns, *student])
        with pytest.raises(
            InputError, match=r"no column who \(its columns: key, item, answer, pupil\); .*--column student"
        ):
            score(sources=[str(source)], out=tmp_path / "x", url=[url], **options, column=[*columns, "student=who"])
    truth = {f"k{n}": student or None for n, student in enumerate(students)}
    assert {row["id"]: row["student"] for row in read_rows(tmp_path / "scored")} == truth

    told = run_review("add", tmp_path / "scored", "--database", base)
    assert "8 rows, 0 known already, 8 to read" in told
    # One file has no places, but knows its columns too; where a job was not told who wrote it, the desk is.
    told = run_review("add", tmp_path / "scored.csv", "--responses", source, "--database", base)
    assert "8 rows, 8 known already" in told
    run_review("add", tmp_path / "later", "--column", "student=pupil", "--database", tmp_path / "later.db")
    with pytest.raises(InputError, match="say which one with --column student=NAME"):
        run_review("add", tmp_path / "later", "--column", "student=who", "--database", tmp_path / "x.db")
    for name in ("reviews.db", "later.db"):
        work = Work.open(tmp_path / name, anna="rater")
        while (read := work.take("anna")) is not None:
            work.decide("anna", read.token, read.id % 3)
        work.verify()
        run_review(
            "export", "--out", tmp_path / "f.csv", "--labelled", tmp_path / "l.jsonl", "--database", tmp_path / name
        )
        assert {row["id"]: row["student"] for row in read_rows(tmp_path / "l.jsonl")} == truth
        assert {row["id"]: row["student"].lstrip("'") or None for row in read_rows(tmp_path / "f.csv")} == truth
        came = {(row["administration"], row["added_at"][:11]) for row in read_rows(tmp_path / "f.csv")}
        assert came == {("later" if name == "later.db" else "scored", datetime.now(timezone.utc).strftime("%Y-%m-%dT"))}
        exports.export_labelled(work.database, tmp_path / "l.csv")
        assert {row["id"]: row["student"] or None for row in read_rows(tmp_path / "l.csv")} == truth
        erase(work.database, ErasureRequest(["k6"]), "test")
        work.verify()
        work.database.close()
        assert "ß/é 7".encode() not in (tmp_path / name).read_bytes()
    # Beside a file whose columns have other names, what the desk exported keeps its own.
    (tmp_path / "own.csv").write_text("key,item,answer,grade,again,pupil\nk9,t-0,x,1,2,s1\n")
    names = {"id": "key", "task": "item", "text": "answer", "level": "grade", "second": "again", "student": "pupil"}
    table = read_labels([tmp_path / "l.jsonl", tmp_path / "own.csv"], LabelColumns(**names), ("id", "text", "level"))
    assert {row.id: row.student for row in each(table.rows)} == {**truth, "k9": "s1"}
    joined = match_files(tmp_path / "scored", tmp_path / "l.jsonl", LabelColumns(student="student"))
    assert len(set(joined.rows.student.tolist())) == 6  # s1 and s2 wrote twice, and nobody knows who wrote k3


def test_groups_go_from_a_job_over_the_desk_to_its_exports_and_the_report(tmp_path: Path) -> None:
    """No page shows them; erased rows lose them."""
    groups = ["Gruppe-ß", "=2", "", "7"]
    cells = {f"r{n}": (groups[n % 4] or None, f"School {n % 3}") for n in range(60)}
    lines = [f"r{n},t,{n % 4},{groups[n % 4]},School {n % 3}" for n in range(60)]
    source, base = tmp_path / "answers.csv", tmp_path / "reviews.db"
    source.write_text("\n".join(["id,task,text,home group,school", *lines]), encoding="utf-8")
    (tmp_path / "key").write_text("sixteen bytes or more")
    options: dict[str, Any] = {"read_behind": "1", "key_file": tmp_path / "key", "keep": ["home group", "school"]}
    with listening(answer) as url:
        for out in ("scored", "scored.csv", "moved.csv"):
            score(sources=[str(source)], out=tmp_path / out, url=[url], **options)
        with pytest.raises(InputError, match="column final cannot be kept"):
            score(sources=[str(source)], out=tmp_path / "x", url=[url], keep=["final"])
    done_note(tmp_path / "moved.csv").unlink()  # a file without its job
    add = ["--responses", source, "--column", "keep=home group", "--column", "keep=school", "--database"]
    with pytest.raises(InputError, match=r"moved.csv, row 1: no column sex \(its columns: id, task"):
        run_review("add", tmp_path / "moved.csv", *add[:2], "--column", "keep=sex", "--database", base)
    run_review("add", tmp_path / "scored.csv", *add[:2], "--database", tmp_path / "file.db")
    run_review("add", tmp_path / "moved.csv", *add, tmp_path / "moved.db")
    assert "60 to read" in run_review("add", tmp_path / "scored", "--database", base)
    for name in ("file.db", "moved.db", "reviews.db"):
        work = Work.open(tmp_path / name, dana="director", anna="rater")
        desk, programme = work.database, work.programme
        for _ in range(59):  # and one stays to be read
            read = work.take("anna")
            work.decide("anna", read.token, read.row * 7 // 3 % 4)
        work.verify()
        for kind, rows in (("labelled", 59), ("final", 60)):
            for suffix in ("csv", "jsonl", "parquet"):
                getattr(exports, f"export_{kind}")(desk, tmp_path / f"{kind}.{suffix}")
                told = list(read_rows(tmp_path / f"{kind}.{suffix}"))
                kept = {
                    row["id"]: (row["home group"].lstrip("'") if row["home group"] else None, row["school"])
                    for row in told
                }
                assert len(told) == rows and kept.items() <= cells.items()
    paths = "/ /progress /raters /agreement /alerts /questions /rows /people /record /export"
    for browser in (programme.client("dana"), programme.reading("anna", "t")):
        for path in ["", *paths.split(), "rows?id=r4", *(f"rows/{number}" for number in range(1, 61))]:
            page = browser.get(f"/{path}").text
            assert [word for word in ("Gruppe-", "School", "home group", "school") if word in page] == [], path

    labelled = tmp_path / "labelled.csv"
    names = LabelColumns(groups=("home group", "school"))
    for out in ("scored", "scored.csv", "moved.csv"):
        joined = match_files(tmp_path / out, labelled, names)
        texts = [joined.groups[name].texts() for name in names.groups]
        found = dict(zip(joined.rows.id.to_pylist(), zip(*texts, strict=True), strict=True))
        assert len(found) == 59 and found.items() <= cells.items()
    report(tmp_path / "scored", labelled, tmp_path / "report.html", column=["group=home group", "group=school"])
    page = (tmp_path / "report.html").read_text()
    assert all(word in page for word in ("Gruppe-ß", "School 1", "home group"))
    data = read_data([labelled], {}, LabelColumns(groups=("school",)))
    assert {row.groups["school"] for row in each(data.rows["t"])} == {"School 0", "School 1", "School 2"}
    assert not data.bad
    erase(desk, ErasureRequest(["r0", "r4", "r8"]), "test")
    assert work.execute("SELECT count(*) AS n FROM rows WHERE kept = ''")[0].n == 3
    work.verify()


def test_administrations_go_from_labels_over_a_job_and_the_desk_to_labels(tmp_path: Path) -> None:
    places = [(n, year, (n + year) % 4) for year in (2025, 2026) for n in range(30)]
    brought = {(f"r{n}", str(year)): str(level) for n, year, level in places}
    names = ("id", "administration", "text", "level", "task")
    rows = [dict(zip(names, (*name, text, int(text), "t"), strict=True)) for name, text in brought.items()]
    source, labelled = tmp_path / "answers.jsonl", tmp_path / "labelled.csv"
    write_jsonl(source, rows)
    (tmp_path / "key").write_text("sixteen bytes or more")
    behind: dict[str, Any] = {"read_behind": "1", "key_file": tmp_path / "key"}
    with listening(answer) as url:
        score(sources=[str(source)], out=tmp_path / "scored", url=[url], keep=["administration"], **behind)
    assert "60 to read" in run_review("add", tmp_path / "scored", "--database", tmp_path / "reviews.db")
    work = Work.open(tmp_path / "reviews.db", anna="rater")
    while (read := work.take("anna")) is not None:
        work.decide("anna", read.token, int(work.row(read.row).text))
    exports.export_labelled(work.database, labelled)
    assert {(row["id"], row["administration"]): row["text"] for row in read_rows(labelled)} == brought
    assert len(read_labels([source, labelled]).rows) == len(match_files(tmp_path / "scored", labelled)) == 60
    # An alert whose row is not at its source and line any more is of the row of its administration.
    moved = {"source": "moved.jsonl", "line": 1, "id": "r3", "alert_task": "danger", "administration": "2026"}
    (tmp_path / "scored" / "_alerts").mkdir()
    write_jsonl(tmp_path / "scored" / "_alerts" / "part-000000.jsonl", [moved])
    assert alerts.add_alerts(work.database, tmp_path / "scored", "test") == (1, 0)
    assert work.execute("SELECT administration FROM rows JOIN alerts ON alerts.row = rows.id")[0][0] == "2026"


@pytest.mark.parametrize("administration", ["", None, "\ud800 \0"])
def test_an_odd_administration_keeps_its_rows_and_alerts(at_work: Any, tmp_path: Path, administration: Any) -> None:
    work, row = at_work(), {**scored_rows(1)[0], "id": "x", "administration": administration}
    (tmp_path / "odd.jsonl").write_text(json.dumps(row))
    add_scored(work.database, tmp_path / "odd.jsonl")
    [(stored,)] = work.execute("SELECT administration FROM rows WHERE name = 'x'")
    assert stored == (administration or "").replace("\ud800", "?").replace("\0", "␀")
    (tmp_path / "odd.jsonl.alerts").mkdir()
    alert = {
        "source": "moved",
        "line": 9,
        "id": "x",
        "alert_task": "danger",
        "administration": stored or administration,
    }
    write_jsonl(tmp_path / "odd.jsonl.alerts" / "part-000000.jsonl", [alert])
    assert alerts.add_alerts(work.database, tmp_path / "odd.jsonl", "test") == (1, 0)


def test_drawn_essay_is_read_by_its_traits(at_work: Any, tmp_path: Path) -> None:
    work = at_work(0)
    with work.database.write() as connection:
        items = [Item(f"essay-1.{trait}", (1.0, 1.5, 2.0), item="essay-1") for trait in ("grammar", "syntax")]
        save_items(connection, items, "test")
    row = {**scored_rows(1)[0], "chosen_by": "sample", "probability": 0.5}
    write_jsonl(tmp_path / "queue.jsonl", [{**row, "task": task} for task in ("essay-1", "plain-1")])
    add_scored(work.database, tmp_path / "queue.jsonl")
    while (read := work.take("anna")) is not None:
        work.decide("anna", read.token, 1)
    exports.export_labelled(work.database, tmp_path / "l.jsonl")
    labels = [(row["task"], row["level"], row["probability"]) for row in read_rows(tmp_path / "l.jsonl")]
    assert labels[:3] == [("essay-1.grammar", 1, 0.5), ("essay-1.syntax", 1, 0.5), ("plain-1", 1, 0.5)]


def test_rows_drawn_of_scored_responses_have_their_groups(at_work: Any, tmp_path: Path) -> None:
    rows = [{**row, "route": "machine", "gender": "fm"[n % 2]} for n, row in enumerate(scored_rows(20))]
    work = at_work(rows=rows, keep=["gender"])
    drawn = [{**row, "chosen_by": "sample", "probability": 0.5, "line": n} for n, row in enumerate(rows[:8])]
    for row in drawn:
        del row["gender"]
    write_jsonl(tmp_path / "queue.jsonl", drawn)
    add_scored(work.database, tmp_path / "queue.jsonl")
    while (read := work.take("anna")) is not None:
        work.decide("anna", read.token, 1)
    exports.export_labelled(work.database, tmp_path / "l.jsonl")
    found = {row["id"]: row["gender"] for row in read_rows(tmp_path / "l.jsonl") if row["chosen_by"] == "sample"}
    assert found == {row["id"]: "fm"[n % 2] for n, row in enumerate(rows[:8])}
    columns = {*exports.FINAL.names, *exports.LABELLED.names} - {"administration"}
    for name in columns:
        with pytest.raises(InputError, match=f"column {name} cannot be kept"):
            check_kept([name], "text")


def test_column_total_that_a_job_of_0_1_kept_is_that_of_the_export(
    at_work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["scoremux_batch.jobs.scored_rows"], "check_kept", lambda *_: None)
    work = at_work(rows=[{**row, "total": "7", "gender": "f"} for row in scored_rows(4)], keep=["total", "gender"])
    exports.export_final(work.database, tmp_path / "f.jsonl")
    assert {(row["total"], row["gender"]) for row in read_rows(tmp_path / "f.jsonl")} == {(None, "f")}


def test_exports_go_back_into_the_statistics(at_work: Any, tmp_path: Path) -> None:
    work, codes = at_work(80, DeskPolicy(groups=False, second_reads=0.5)), list(CONDITION_CODES)
    for name in ("anna", "ben", "anna", "lee", "dana"):
        while (read := work.take(name)) is not None:
            human = (work.row(read.row).level + read.row % 2) % 3
            code = "" if read.row % 5 else codes[read.row % len(codes)]
            work.decide(name, read.token, None if code else human, code=code)
    final, labelled = tmp_path / "final.parquet", tmp_path / "labelled.csv"
    assert exports.export_final(work.database, final) == 80
    exports.export_labelled(work.database, labelled)
    finals = pq.read_table(final).to_pylist()
    given_codes = {row["code"] for row in finals if row["status"] == "CONDITION"}
    assert given_codes > {"H", "P", "A"}
    by = Counter(row["decided_by"] for row in finals)
    assert by["machine"] > 5
    assert by["rater"] > 5
    assert by["agreement"] + by["adjudication"] > 5
    told = list(read_rows(labelled))
    assert {row["chosen_by"] for row in told} == {"route", "read_behind", "validity"}
    write_jsonl(tmp_path / "again.jsonl", scored_rows(80))
    joined = match_files(tmp_path / "again.jsonl", labelled)
    assert len(joined) == sum(row["chosen_by"] != "validity" for row in told)
    trained = read_data([labelled], {}, LabelColumns(second="second"))
    assert not trained.bad
    assert sum(map(len, trained.rows.values())) == len(told)
    assert {row.second for own in trained.rows.values() for row in each(own)} > {None}


def test_codes_go_from_the_decision_over_the_desk_to_the_statistics(at_work: Any, tmp_path: Path) -> None:
    policy, item = read_policy(ROOT / "examples" / "policy.toml"), ITEMS[0]
    decider = Decider(
        Decision(policy.digest, policy.conditions), Finder(policy.conditions, item.question, item.reference, ["en"])
    )
    said = {
        "P": "who cares about this shit", "A": "please give me full marks", "H": "what do i have to write here?",
        "R": "idk", "C": "why do leaves look green explain what happens to light",
        "U": "xkqzj wrtplk bvnmkjq zzxqw", "L": "porque absorben la luz",
    }  # fmt: skip
    rows = [row for row in scored_rows(80) if row["task"] == item.id]
    for row, text in zip(rows, said.values(), strict=False):
        row["text"] = text
    for row in rows:
        found = decider.finder.find(row["text"])
        decided = decider.decide(row["level"], row["probabilities"], found, False, None)
        row |= {"condition": decided.condition, "route": decided.route}
    assert [row["condition"] for row in rows[: len(said)]] == list(said)
    assert {row["route"] for row in rows[: len(said)]} == {"human:CONDITION"}
    work = at_work(rows=rows, policy=DeskPolicy(groups=False, second_reads=0, validity=0))
    while (read := work.take("anna", item.id, "CONDITION")) is not None:
        condition = next(row["condition"] for row in rows if row["id"] == work.row(read.row).name)
        work.decide("anna", read.token, None if condition != "C" else 1, code="" if condition == "C" else condition)
    final, labelled = tmp_path / "final.jsonl", tmp_path / "labelled.jsonl"
    exports.export_final(work.database, final)
    exports.export_labelled(work.database, labelled)
    finals = {row["id"]: row for row in read_rows(final)}
    for row in rows[: len(said)]:
        own = finals[row["id"]]
        assert (own["code"] or "C", own["decided_by"]) == (row["condition"], "rater")
        assert own["status"] == ("CONDITION" if own["code"] else "OK")
    copied = rows[list(said).index("C")]
    write_jsonl(tmp_path / "again.jsonl", rows)
    joined = match_files(tmp_path / "again.jsonl", labelled)
    assert len(joined) == sum(row["condition"] == "C" for row in rows)
    assert [row["id"] for row in read_rows(labelled)][:1] == [copied["id"]]


def test_labelled_rows_are_named_by_id_and_administration(at_work: Any, tmp_path: Path) -> None:
    january = [{**row, "id": str(n + 11)} for n, row in enumerate(scored_rows(8))]
    june = [{**row, "source": "june.jsonl", "text": f"In June {n}"} for n, row in enumerate(january[:4])]
    june.append(june[0] | {"line": 99, "text": "In June, too"})
    work = at_work(rows=january, policy=DeskPolicy(groups=False))
    write_jsonl(tmp_path / "june.jsonl", june)

    def exported(name: str, administration: str = "") -> list[dict[str, Any]]:
        while (read := work.take("anna")) is not None:
            work.decide("anna", read.token, 0)
        exports.export_labelled(work.database, tmp_path / name, administration)
        return [row for row in read_rows(tmp_path / name) if row["chosen_by"] != "validity"]

    def names(rows: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
        return {(row["id"], row["administration"]): row["text"] for row in rows}

    earlier = exported("earlier.csv")
    add_scored(work.database, tmp_path / "june.jsonl")
    told = exported("labelled.jsonl")
    assert names(earlier).items() < names(told).items() and len(names(told)) == len(told)  # no name changes later
    again = [row["id"] for row in june[:4] if row["route"] != "machine" or row["read_behind"]]
    own = {name for name, administration in names(told) if administration == "june.jsonl"}
    assert len(again) > 1 and own in ({*again}, {*again, f"{june[0]['id']} (2)"})
    # What was exported before counts once, and has its predictions.
    write_jsonl(tmp_path / "predictions.jsonl", [
        {"id": row["id"], "task": row["task"], "administration": row["administration"], "level": 0,
         "probabilities": [1], "text_check": text_check(row["text"])} for row in earlier
    ])  # fmt: skip
    files = [tmp_path / "earlier.csv", tmp_path / "labelled.jsonl"]
    trained = read_data(files, {})
    assert {*trained.bad} == {"are given twice, with the same text and levels"}
    labelled = read_labelled(files, tmp_path / "predictions.jsonl", LabelColumns(), {})
    assert len(labelled) == len(told)
    assert {row.key[1:] for row in each(labelled) if row.probabilities} == names(earlier).keys()
    assert names(exported("june.csv", "june.jsonl")).keys() == {(name, "june.jsonl") for name in own}
    assert len(match_files(tmp_path / "june.jsonl", tmp_path / "june.csv")) == len({*again} - {june[0]["id"]})
    assert exports.export_final(work.database, tmp_path / "final.jsonl", "june.jsonl") == 5
    erase(work.database, ErasureRequest(again), "test")
    assert {row["id"] for row in exported("labelled.jsonl")} == {row["id"] for row in earlier} - {*again}


def test_one_rating_after_a_reopening_is_not_agreement(at_work: Any, tmp_path: Path) -> None:
    work = at_work(40, DeskPolicy(groups=False, second_reads=1.0, adjudicate="non-exact"))
    first = work.take("anna", "bio-7")
    work.decide("anna", first.token, 0)
    work.decide("ben", work.take("ben", "bio-7").token, 1)
    work.decide("dana", work.take("dana", "", ADJUDICATION).token, 1)

    def exported() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        exports.export_final(work.database, tmp_path / "final.jsonl")
        exports.export_labelled(work.database, tmp_path / "labelled.jsonl")
        name = work.row(first.row).name
        (final,) = (row for row in read_rows(tmp_path / "final.jsonl") if row["id"] == name)
        return final, [row for row in read_rows(tmp_path / "labelled.jsonl") if row["id"] == name]

    final, (labelled,) = exported()
    assert (final["decided_by"], labelled["second"], labelled["settled_by"]) == ("adjudication", 1, "adjudication")
    work.policy = DeskPolicy(groups=False)
    work.keep_policy()
    work.reopen("dana", first.row)
    final, labelled_rows = exported()
    assert (final["status"], labelled_rows) == ("PENDING", [])
    work.decide("lee", work.take("lee", "bio-7", "LOW_CONFIDENCE").token, 2)
    final, (labelled,) = exported()
    assert (final["decided_by"], final["rater"], final["level"]) == ("rater", "lee", 2)
    assert (labelled["level"], labelled["second"], labelled["settled_by"]) == (2, None, "done")


def test_level_that_a_task_lacks_makes_one_row_odd(at_work: Any, tmp_path: Path) -> None:
    work = at_work(20)
    (machine,) = work.execute("SELECT min(id) AS id FROM rows WHERE state = 'machine' AND level = 2")
    task = work.row(machine.id).task
    levels = work.execute("SELECT levels FROM tasks WHERE id = :task", task=task)[0].levels
    work.execute("UPDATE tasks SET levels = '[0, 1]' WHERE id = :task", task=task)
    assert exports.export_final(work.database, tmp_path / "final.jsonl") == 20
    odd = [row for row in read_rows(tmp_path / "final.jsonl") if row["status"] == "ODD"]
    assert odd
    assert {(row["level"], row["score"], row["task"]) for row in odd} == {(None, None, task)}
    name = work.row(machine.id).name
    work.execute("UPDATE rows SET name = 'r[/12]' WHERE id = :id", id=machine.id)
    told = run_review("export", "--out", tmp_path / "odd.csv", "--database", work.programme.folder / "reviews.db")
    assert "response r[/12] has level 2" in told
    work.execute("UPDATE rows SET name = :name WHERE id = :id", id=machine.id, name=name)
    sentences = exports.odd_rows(work.database, 2)
    assert len(sentences) == min(2, len(odd))
    assert f"task {task} has 2 levels; reopen it" in sentences[0]
    work.execute("UPDATE tasks SET levels = :levels WHERE id = :task", task=task, levels=levels)


def test_rows_on_hold_stand_for_what_the_machine_would_keep(tmp_path: Path) -> None:
    rows = scored_rows(8)
    for row in rows:
        row |= {"route": "human:HELD", "read_behind": None}
    desk = Database(str(tmp_path / "r.db"), create=True)
    write_jsonl(tmp_path / "held.jsonl", rows)
    add_scored(desk, tmp_path / "held.jsonl")
    exports.export_final(desk, tmp_path / "final.jsonl")
    assert {(row["route"], row["read_behind"]) for row in read_rows(tmp_path / "final.jsonl")} == {("human:HELD", 1.0)}
