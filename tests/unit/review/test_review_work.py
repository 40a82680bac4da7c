"""The review desk's work: what comes in, leases, decisions and what follows from them, groups, what goes out."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, text

from desks import Programme, make_programme, scored_rows, write_jsonl
from load import made_up_rows
from making import ROOT
from scoremux_assess.agreement.joining import read_joined
from scoremux_assess.decisions.policy import read_policy
from scoremux_client.errors import InputError
from scoremux_files.rows.readers import read_rows
from scoremux_review import exports
from scoremux_review.database import log
from scoremux_review.database.schema import decisions, queues, reads, rows
from scoremux_review.desk_policy import Policy
from scoremux_review.errors import BrokenRecordError, LeaseLostError, ReviewError, TooLateError
from scoremux_review.reading import human_decisions as deciding
from scoremux_review.reading import intake, settling, similar
from scoremux_review.reading import queues as leasing
from scoremux_review.reading.human_decisions import Judgement
from scoremux_review.reading.items import read_items
from scoremux_review.reading.queues import ADJUDICATION, Reader
from scoremux_review.reading.response_texts import Texts
from scoremux_train.data import Columns, read_data


class Work:
    """What people do at a desk, a transaction each."""

    def __init__(self, programme: Programme, policy: Policy) -> None:
        self.programme, self.policy = programme, policy

    def reader(self, name: str) -> Reader:
        return Reader(self.programme.people[name], name, name in ("lee", "dana"))

    def take(self, name: str, task: str = "", reason: str = "", draw: float = 1.0) -> Any:
        with self.programme.database.write() as connection:
            return leasing.take(connection, self.reader(name), task, reason, self.policy, self.now, draw)

    def decide(self, name: str, token: str, level: int | None = 1, **said: Any) -> tuple[int, ...]:
        with self.programme.database.write() as connection:
            judgement = Judgement(level, **said)
            return deciding.decide(connection, self.reader(name), token, judgement, self.policy, self.now)

    def undo(self, name: str) -> int:
        with self.programme.database.write() as connection:
            return deciding.undo(connection, self.reader(name), self.policy, self.now)

    def members(self, read: Any) -> list[Any]:
        with self.programme.database.read() as connection:
            return leasing.members(connection, read.id)

    def row(self, number: int) -> Any:
        with self.programme.database.read() as connection:
            return connection.execute(select(rows).where(rows.c.id == number)).one()

    def verify(self) -> tuple[int, str]:
        with self.programme.database.read() as connection:
            return log.verify(connection)

    @property
    def now(self) -> float:
        return self.programme.clock[0]

    def wait(self, seconds: float) -> None:
        self.programme.clock[0] += seconds


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Any]:
    made = []

    def make(number: int = 40, policy: Policy | None = None, **options: Any) -> Work:
        chosen = policy or Policy(groups=False)
        work = Work(make_programme(tmp_path, number, chosen, **options), chosen)
        made.append(work)
        return work

    yield make
    for work in made:
        work.verify()  # whatever was done, the record tells all of it
        counted(work.programme)
        work.programme.database.close()


def counted(programme: Programme) -> None:
    """Check that the queues' counts are those of the reads."""
    with programme.database.read() as connection:
        query = select(reads.c.task, reads.c.reason, reads.c.state).where(reads.c.kind != "validity")
        states = Counter((r.task, r.reason, r.state) for r in connection.execute(query))
        for queue in connection.execute(select(queues)):
            key = (queue.task, queue.reason)
            assert queue.waiting == states[(*key, "open")] + states[(*key, "leased")]
            assert queue.done == states[(*key, "done")]


def test_a_file_added_again_brings_only_what_is_new(at_work: Any) -> None:
    work = at_work(40)
    folder, database = work.programme.folder, work.programme.database
    again = intake.add_scored(database, folder / "scored.jsonl", Texts())
    assert (again.rows, again.known, again.to_read) == (40, 40, 0)
    write_jsonl(folder / "more.jsonl", scored_rows(50))
    assert intake.add_scored(database, folder / "more.jsonl", Texts()).known == 40


def test_texts_are_read_from_where_score_read_them(tmp_path: Path, at_work: Any) -> None:
    work = at_work(0)
    plain = scored_rows(6)
    write_jsonl(tmp_path / "responses.jsonl", [{k: row[k] for k in ("id", "task", "text")} for row in plain])
    for row in plain:
        row["source"] = str(tmp_path / "responses.jsonl")
    without = [{k: v for k, v in row.items() if k != "text"} for row in plain]
    write_jsonl(tmp_path / "a.jsonl", without)
    assert intake.add_scored(work.programme.database, tmp_path / "a.jsonl", Texts()).rows == 6
    alone = [{k: v for k, v in row.items() if k not in ("source", "line")} for row in without]
    write_jsonl(tmp_path / "b.jsonl", alone)
    with pytest.raises(InputError, match="give --responses FILE"):
        intake.add_scored(work.programme.database, tmp_path / "b.jsonl", Texts())
    added = intake.add_scored(work.programme.database, tmp_path / "b.jsonl", Texts([tmp_path / "responses.jsonl"]))
    assert added.known == 6  # the same rows by source, line and id
    with work.programme.database.read() as connection:
        assert set(connection.execute(select(rows.c.text).where(rows.c.state != "validity")).scalars()) == {
            row["text"] for row in plain
        }


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


def test_routed_rows_come_least_certain_first_and_read_behind_at_random(at_work: Any) -> None:
    work = at_work(80)
    sure = []
    while (read := work.take("anna", "bio-7", "LOW_CONFIDENCE")) is not None:
        sure.append(work.row(read.row).confidence)
        work.decide("anna", read.token)
    assert sure == sorted(sure)
    behind = work.take("anna", "", intake.READ_BEHIND)
    assert work.row(behind.row).chosen_by == "read_behind"
    assert work.row(behind.row).route == "machine"


def test_two_raters_never_hold_the_same_row_and_a_lease_ends(at_work: Any) -> None:
    work = at_work(40)
    one, other = work.take("anna", "bio-7"), work.take("ben", "bio-7")
    assert one.row != other.row
    assert work.take("anna", "bio-7").token == one.token  # a reload shows the same response
    work.wait(work.policy.lease_s + 1)
    taken = work.take("ben", "bio-7")
    assert taken.token == other.token  # still theirs: nobody took it
    work.wait(work.policy.lease_s + 1)
    work.take("lee", "bio-7")  # frees what has expired
    with pytest.raises(LeaseLostError):
        work.decide("anna", one.token)
    with pytest.raises(LeaseLostError):
        work.decide("ben", work.take("lee", "bio-7").token)


def test_a_request_sent_again_decides_once(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna")
    assert len(work.decide("anna", read.token, 1)) == 1
    assert work.decide("anna", read.token, 0) == ()
    assert work.row(read.row).final_level == 1


@pytest.mark.parametrize(("level", "code"), [(9, ""), (None, ""), (1, "B"), (None, "X")])
def test_a_decision_is_one_level_or_one_code_of_the_task(at_work: Any, level: int | None, code: str) -> None:
    work = at_work(40)
    with pytest.raises(ReviewError):
        work.decide("anna", work.take("anna", "bio-7").token, level, code=code)


def test_undo_gives_the_response_back_until_it_is_too_late(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    work.decide("anna", read.token, 0)
    work.take("anna", "bio-7")
    assert work.undo("anna") == read.id
    again = work.take("anna", "bio-7")
    assert (again.id, work.row(read.row).state) == (read.id, "waiting")
    work.decide("anna", again.token, 2)
    assert work.row(read.row).final_level == 2
    work.wait(work.policy.undo_s + 1)
    with pytest.raises(TooLateError, match="too long ago"):
        work.undo("anna")


def test_the_machines_score_seen_ends_undoing(at_work: Any) -> None:
    work = at_work(40)
    (decision,) = work.decide("anna", work.take("anna").token)
    with work.programme.database.write() as connection:
        deciding.compare(connection, work.reader("anna"), decision, work.now)
    with pytest.raises(TooLateError, match="machine"):
        work.undo("anna")


@pytest.mark.parametrize(
    ("adjudicate", "second", "settled"),
    [("non-exact", 0, True), ("non-exact", 1, False), ("non-adjacent", 1, True), ("non-adjacent", 2, False),
     ("never", 2, True)],
)  # fmt: skip
def test_second_reads_are_by_someone_else_and_differences_are_adjudicated_by_a_third(
    at_work: Any, adjudicate: str, second: int, settled: bool
) -> None:
    work = at_work(40, Policy(groups=False, second_reads=1.0, adjudicate=adjudicate))
    first = work.take("anna", "bio-7")
    work.decide("anna", first.token, 0)
    assert work.take("anna", "bio-7").row != first.row
    again = work.take("lee", "bio-7")
    assert (again.row, again.kind) == (first.row, "second")
    with pytest.raises(TooLateError):
        work.undo("anna")
    work.decide("lee", again.token, second)
    row = work.row(first.row)
    if settled:
        assert (row.state, row.final_level) == ("done", 0)
        return
    assert row.state == "adjudication"
    assert work.take("ben", "", ADJUDICATION) is None  # a rater
    assert work.take("lee", "", ADJUDICATION) is None  # one of the two
    last = work.take("dana", "", ADJUDICATION)
    work.decide("dana", last.token, 1)
    assert work.row(first.row).final_level == 1


def test_validity_papers_are_slipped_in_once_and_change_no_score(at_work: Any) -> None:
    work = at_work(40, Policy(groups=False, validity=0.5))
    paper = work.take("anna", "bio-7", draw=0.1)
    assert (paper.kind, paper.reason) == ("validity", work.take("anna", "bio-7").reason)
    work.decide("anna", paper.token, 0)
    assert work.row(paper.row).state == "validity"
    assert work.take("anna", "bio-7", draw=0.1).kind == "first"  # this rater had it


def near_duplicates() -> tuple[list[dict[str, Any]], set[str]]:
    """Return rows of one answer: exact copies, and copies with a difference that changes the score."""
    base = "Chlorophyll absorbs red and blue light and reflects the green light into our eyes, 2 times 3 is 6."
    planted = [
        base.replace("reflects", "does not reflect"),
        base.replace("absorbs red", "absorbs no red"),
        base.replace("6.", "5."),
        base.replace("green", "GREEN").replace("6", "-6"),
        base.replace("red and blue", "red or blue"),
    ]
    texts = [base, base.replace(" and ", "  and\n"), base, *planted]
    row = next(row for row in scored_rows(40) if row["task"] == "bio-7" and row["route"] != "machine")
    made = [{**row, "id": f"d{n}", "line": 900 + n, "text": one, "confidence": 0.1} for n, one in enumerate(texts)]
    extra = {"route": "machine", "read_behind": 0.1}
    return [*made, {**row, "id": "behind", "line": 990, "text": base, **extra}], {f"d{n}" for n in range(3, 8)}


def test_a_group_is_decided_by_its_ticks_alone(at_work: Any) -> None:
    made, planted = near_duplicates()
    work = at_work(rows=made, policy=Policy(groups=True))
    lead = work.take("anna", "bio-7", "LOW_CONFIDENCE")
    found = {work.row(member.row).name: member for member in work.members(lead)}
    assert set(found) == {"d1", "d2"} | planted  # and never a read-behind row
    assert work.take("ben", "bio-7", "LOW_CONFIDENCE") is None
    ticked = [found["d1"].token, found["d4"].token, "no token of this group"]
    assert len(work.decide("anna", lead.token, 2, also=ticked)) == 3
    with work.programme.database.read() as connection:
        made_by = connection.execute(select(decisions.c.size, rows.c.name).join(rows, rows.c.id == decisions.c.row))
        assert {(found.name, found.size) for found in made_by} == {("d0", 3), ("d1", 3), ("d4", 3)}
        waiting = select(rows.c.name).where(rows.c.state == "waiting")
        assert set(connection.execute(waiting).scalars()) == {"d2", "behind"} | planted - {"d4"}
    assert work.take("ben", "bio-7", "LOW_CONFIDENCE") is not None
    work.undo("anna")
    assert {work.row(m.row).name for m in work.members(work.take("anna", "bio-7"))} >= {"d1", "d4"}


def test_only_white_space_makes_a_group_exact() -> None:
    made, planted = near_duplicates()
    base = made[0]["text"]
    for row in made:
        same = similar.keys("t", base).exact == similar.keys("t", row["text"]).exact
        assert same == (row["id"] not in planted)
        changed = [p for p in similar.differences(base, row["text"]) if p.kind != "same" and p.text.strip()]
        assert bool(changed) == (row["id"] in planted)


def test_planted_differences_are_found_and_never_taken_for_the_same() -> None:
    draw = random.Random(18)
    changes = (
        lambda words, at: [*words[:at], "not", *words[at:]],
        lambda words, at: [*words[:at], *words[at + 1 :]],
        lambda words, at: [*words[:at], words[at].upper(), *words[at + 1 :]],
        lambda words, at: [*words[:at], f"-{words[at]}", *words[at + 1 :]],
        lambda words, at: [*words[:at], f"{words[at]}.", *words[at + 1 :]],
        lambda words, at: [*words[:at], words[at + 1], words[at], *words[at + 2 :]],
    )
    found = looked_at = 0
    for response in made_up_rows(["t"], 400, 18):
        words = str(response.text).split()
        if len(words) < 8:
            continue
        text, at = " ".join(words), draw.randrange(len(words) - 1)
        own, near = similar.keys("t", text), similar.near_to(text)
        for change in changes:
            other = " ".join(change(words, at))
            if other == text:
                continue
            theirs = similar.keys("t", other)
            assert theirs.exact != own.exact
            assert [p for p in similar.differences(text, other) if p.kind != "same" and p.text.strip()]
            looked_at += 1
            found += near(other) and bool(set(own.near or ()) & set(theirs.near or ()))
        for same in (f"  {text}\n", "  ".join(words), "\n".join(words)):
            assert similar.keys("t", same) == own
    assert found / looked_at > 0.85


def test_reopened_rows_are_read_by_someone_else_and_can_be_assigned(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    work.decide("anna", read.token, 0)
    with work.programme.database.write() as connection:
        settling.reopen(connection, work.reader("dana"), read.row, "rubric changed", work.now)
    assert work.take("anna", "bio-7").row != read.row
    with work.programme.database.write() as connection:
        settling.assign(connection, work.reader("dana"), read.row, work.programme.people["lee"], work.now)
    assert work.take("ben", "bio-7").row != read.row
    mine = work.take("lee", "bio-7")
    assert mine.row == read.row
    work.decide("lee", mine.token, 2)
    assert work.row(read.row).final_level == 2


def test_a_paused_task_gives_no_work(at_work: Any) -> None:
    work = at_work(40)
    held = work.take("anna", "bio-7")
    with work.programme.database.write() as connection:
        connection.execute(text("UPDATE tasks SET paused = true WHERE id = 'bio-7'"))
    assert work.take("anna", "bio-7") is None
    with pytest.raises(LeaseLostError):
        work.decide("anna", held.token)


def test_the_record_cannot_be_changed_and_tells_of_every_change(tmp_path: Path) -> None:
    work = Work(make_programme(tmp_path), Policy(groups=False))
    database = work.programme.database
    for _ in range(3):
        work.decide("anna", work.take("anna").token, 1, note="a note")
    number, digest = work.verify()

    def change(statement: str, **values: Any) -> None:
        with database.write() as connection:
            connection.execute(text(statement), values)

    for forbidden in ("UPDATE record SET entry = ''", "DELETE FROM record"):
        with pytest.raises(Exception, match="append-only"):
            change(forbidden)
    change("UPDATE decisions SET level = 0 WHERE id = 2")
    with pytest.raises(BrokenRecordError, match="decision 2"):
        work.verify()
    change("UPDATE decisions SET level = 1 WHERE id = 2")
    for verb in ("UPDATE", "DELETE"):  # someone with the database's own rights
        change(f"DROP TRIGGER record_{verb}")
    change("UPDATE record SET entry = replace(entry, 'rater', 'boss') WHERE number = 5")
    with pytest.raises(BrokenRecordError, match="entry 5"):
        work.verify()
    change("UPDATE record SET entry = replace(entry, 'boss', 'rater') WHERE number = 5")
    change("DELETE FROM record WHERE number = :number", number=number)
    change("UPDATE decisions SET undone = true WHERE id = 3")
    assert work.verify()[0] == number - 1  # a record cut at its end is intact in itself
    with database.read() as connection, pytest.raises(BrokenRecordError, match=f"entry {number} was noted"):
        log.verify(connection, (number, digest))


def test_exports_go_back_into_the_statistics(at_work: Any, tmp_path: Path) -> None:
    work = at_work(80, Policy(groups=False, second_reads=0.5))
    for name in ("anna", "ben", "anna", "lee", "dana"):
        while (read := work.take(name)) is not None:
            human = (work.row(read.row).level + read.row % 2) % 3
            work.decide(name, read.token, None if read.row % 9 == 0 else human, code="R" if read.row % 9 == 0 else "")
    final, labelled = tmp_path / "final.parquet", tmp_path / "labelled.csv"
    assert exports.export_final(work.programme.database, final) == 80
    exports.export_labelled(work.programme.database, labelled)
    by = Counter(row["decided_by"] for row in pq.read_table(final).to_pylist())
    assert by["machine"] > 5
    assert by["rater"] > 5
    assert by["agreement"] + by["adjudication"] > 5
    told = list(read_rows(labelled))
    assert {row["chosen_by"] for row in told} == {"route", "read_behind", "validity"}
    write_jsonl(tmp_path / "again.jsonl", scored_rows(80))
    joined = read_joined(tmp_path / "again.jsonl", labelled)
    assert len(joined) == sum(row["chosen_by"] != "validity" for row in told)
    trained = read_data([labelled], {}, Columns(second="second"))
    assert not trained.bad
    assert sum(map(len, trained.rows.values())) == len(told)
    assert {row.second for own in trained.rows.values() for row in own} > {None}
    scores = tmp_path / "lti.jsonl"
    assert exports.export_lti(work.programme.database, scores) == 80
    given = [json.loads(line) for line in scores.read_text().splitlines()]
    assert {one["gradingProgress"] for one in given} <= {"FullyGraded", "PendingManual"}
    assert sum("scoreGiven" in one for one in given) > 60


def test_a_policy_file_is_refused_by_the_key_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[review]\nsecond_reads = 0.1\nmachine = "never"\n[other]\nx = 1\n')
    assert Policy.read(path) == Policy(second_reads=0.1, machine="never")
    example = ROOT / "examples" / "policy.toml"
    assert Policy.read(example) == Policy(second_reads=0.1, adjudicate="non-adjacent", validity=0.05)
    assert read_policy(example).digest  # one file for both
    for bad, said in (
        ("second_reads = 2", "share"),
        ('machine = "maybe"', "one of"),
        ("leases = 3", r"review\.leases"),
    ):
        path.write_text(f"[review]\n{bad}\n")
        with pytest.raises(InputError, match=said):
            Policy.read(path)
