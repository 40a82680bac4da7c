"""Work at the review desk: leases, decisions and what follows from them, groups, reopening."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from desks import essays, scored_rows, write_jsonl
from scoremux_client import Scored
from scoremux_client.contract import Status
from scoremux_desk import exports
from scoremux_desk.api.live_intake import LiveIntake, ScoredArrival
from scoremux_desk.database import responses
from scoremux_desk.database.programme import pause_tasks, save_items
from scoremux_desk.database.reads import ADJUDICATION
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import LeaseLostError, ReviewError, TooLateError, TooSoonError
from scoremux_desk.reading import decision_rows
from scoremux_desk.reading.human_decisions import compare
from scoremux_desk.reading.intake import READ_BEHIND, add_scored
from scoremux_desk.reading.task_files import read_items
from scoremux_files.rows.readers import read_rows


def test_routed_rows_come_least_certain_first_read_behind_at_random(at_work: Any) -> None:
    work = at_work(80)
    confidences = []
    while (read := work.take("anna", "bio-7", "LOW_CONFIDENCE")) is not None:
        confidences.append(work.row(read.row).confidence)
        work.decide("anna", read.token)
    assert confidences == sorted(confidences)
    behind = work.take("anna", "", READ_BEHIND)
    assert work.row(behind.row).chosen_by == "read_behind"
    assert work.row(behind.row).route == "machine"


def test_two_raters_never_lease_the_same_row(at_work: Any) -> None:
    work = at_work(40)
    one, other = work.take("anna", "bio-7"), work.take("ben", "bio-7")
    assert one.row != other.row
    with pytest.raises(LeaseLostError, match="went to someone else"):
        work.decide("ben", one.token)
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


def test_decision_is_one_level_or_one_code_and_a_repeated_request_decides_once(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    for level, code in ((9, ""), (None, ""), (1, "B"), (None, "X")):
        with pytest.raises(ReviewError):
            work.decide("anna", read.token, level, code=code)
    assert len(work.decide("anna", read.token, 1)) == 1
    assert work.decide("anna", read.token, 0) == ()
    assert work.row(read.row).final_level == 1


def test_undo_gives_response_back_until_too_late_or_compared(at_work: Any) -> None:
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
    work.decide("anna", work.take("anna").token)
    work.act(compare, "anna")
    with pytest.raises(TooLateError, match="machine"):
        work.undo("anna")


@pytest.mark.parametrize(
    ("adjudicate", "second", "settled"),
    [("non-exact", 0, True), ("non-exact", 1, False), ("non-adjacent", 1, True), ("non-adjacent", 2, False),
     ("never", 2, True)],
)  # fmt: skip
def test_second_reads_are_by_other_people(at_work: Any, adjudicate: str, second: int, settled: bool) -> None:
    work = at_work(40, DeskPolicy(groups=False, second_reads=1.0, adjudicate=adjudicate))
    first = work.take("anna", "bio-7")
    work.decide("anna", first.token, 0)
    assert work.take("anna", "bio-7").row != first.row
    again = work.take("lee", "bio-7")
    assert (again.row, again.kind) == (first.row, "second")
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


def test_validity_paper_comes_once_and_changes_no_score(at_work: Any, tmp_path: Path) -> None:
    work = at_work(40, DeskPolicy(groups=False, validity=0.5))
    paper = work.take("anna", "bio-7", draw=0.1)
    assert (paper.kind, paper.reason) == ("validity", work.take("anna", "bio-7").reason)
    work.decide("anna", paper.token, 0)
    assert work.row(paper.row).state == "validity"
    assert work.take("anna", "bio-7", draw=0.1).kind == "first"  # this rater had it
    assert exports.export_papers(work.database, tmp_path / "papers.jsonl") == 1
    known = work.row(paper.row).known_level
    (line,) = read_rows(tmp_path / "papers.jsonl")
    assert (line["task"], line["level"], line["known_level"]) == ("bio-7", 0, known) and line["decided_at"]


def test_group_is_decided_by_its_ticks(at_work: Any) -> None:
    row = next(row for row in scored_rows(40) if row["task"] == "bio-7" and row["route"] != "machine")
    base = "Chlorophyll absorbs red and blue light and reflects the green light, 2 times 3 is 6."
    texts = [base, base.replace(" and ", "  and\n"), base.upper(), base.replace("red and", "red or"), base]
    rows = [{**row, "id": f"d{n}", "line": 900 + n, "text": text, "confidence": 0.1} for n, text in enumerate(texts)]
    behind = {**row, "id": "behind", "line": 990, "text": base, "route": "machine", "read_behind": 0.1}
    work = at_work(rows=[*rows, behind], policy=DeskPolicy(groups=True))
    write_jsonl(work.programme.folder / "later.jsonl", [{**rows[0], "id": "later", "line": 1}])
    add_scored(work.database, work.programme.folder / "later.jsonl")
    lead = work.take("anna", "bio-7", "LOW_CONFIDENCE")
    members = {work.row(member.row).name: member for member in work.members(lead)}
    assert set(members) == {"d1", "d2", "d4"}  # never a read-behind row, or one of another administration
    ticked = [members["d1"].token, members["d4"].token, "no token of this group"]
    assert len(work.decide("anna", lead.token, 2, also=ticked)) == 3
    decided = work.execute("SELECT size, name FROM decisions JOIN rows ON rows.id = decisions.row")
    assert {(decision.name, decision.size) for decision in decided} == {("d0", 3), ("d1", 3), ("d4", 3)}
    waiting = work.execute("SELECT name FROM rows WHERE state = 'waiting'")
    assert {row.name for row in waiting} == {"d2", "d3", "behind", "later"}
    assert work.undo("anna") == lead.id
    assert {work.row(member.row).name for member in work.members(work.take("anna", "bio-7"))} >= {"d1", "d4"}


def test_second_reads_are_never_grouped(at_work: Any) -> None:
    row = next(row for row in scored_rows(40) if row["task"] == "bio-7" and row["route"] != "machine")
    rows = [{**row, "id": f"d{n}", "line": 900 + n} for n in range(3)]
    work = at_work(rows=rows, policy=DeskPolicy(groups=True, second_reads=1.0))
    lead = work.take("anna", "bio-7")
    work.decide("anna", lead.token, 2, also=[member.token for member in work.members(lead)])
    second = work.take("ben", "bio-7")
    assert (second.kind, work.members(second)) == ("second", [])


def test_reopened_row_is_read_by_someone_else(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    work.decide("anna", read.token, 0)
    work.reopen("dana", read.row)
    with pytest.raises(TooLateError, match="reopened"):
        work.undo("anna")
    assert work.take("anna", "bio-7").row != read.row
    mine = work.take("lee", "bio-7")
    assert mine.row == read.row
    work.decide("lee", mine.token, 2)
    assert work.row(read.row).final_level == 2


def test_paused_task_gives_no_work(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    with work.database.write() as connection:
        pause_tasks(connection, "bio-7", True, "test")
    assert work.take("anna", "bio-7") is None
    with pytest.raises(LeaseLostError):
        work.decide("anna", read.token)


@pytest.mark.parametrize(("again", "state", "final"), [(1, "done", 1), (0, "adjudication", None)])
def test_undo_of_first_rating_after_the_second_settles_again(at_work: Any, again: int, state: str, final: Any) -> None:
    work = at_work(40, DeskPolicy(groups=False, second_reads=1.0))
    first = work.take("anna", "bio-7")
    work.decide("anna", first.token, 2)
    second = work.take("lee", "bio-7")
    assert second.row == first.row
    work.decide("lee", second.token, 1)
    assert work.row(first.row).state == "adjudication"
    assert work.undo("anna") == first.id
    assert work.row(first.row).state == "waiting"
    assert work.take("dana", "", ADJUDICATION) is None
    work.decide("anna", work.take("anna", "bio-7").token, again)
    row = work.row(first.row)
    assert (row.state, row.final_level) == (state, final)


def test_decision_counts_only_after_the_response_was_shown_for_a_time(at_work: Any) -> None:
    work = at_work(40, DeskPolicy(groups=False, guard_s=0.7, fast_s=2.0))
    read = work.take("anna", "bio-7")
    for shown_s in (0.0, 0.6):
        work.wait(shown_s)
        with pytest.raises(TooSoonError):
            work.decide("anna", read.token, wait_s=0)
    work.take("anna", "bio-7")  # shown again
    with pytest.raises(TooSoonError):
        work.decide("anna", read.token, wait_s=0.5)
    work.decide("anna", read.token, wait_s=0.3)
    work.decide("anna", work.take("anna", "bio-7").token, wait_s=1.9)
    work.decide("anna", work.take("anna", "bio-7").token, wait_s=2.0)
    assert [d.fast for d in work.execute("SELECT fast FROM decisions ORDER BY id")] == [True, True, False]
    with work.database.read() as connection:
        assert len(decision_rows.blind_levels(connection)) == 1
        assert len(decision_rows.decisions_again(connection, {"fast": "1"}, 9)) == 2


def test_time_that_the_page_measured_counts_on_a_slow_network(at_work: Any) -> None:
    """The response left the server 9 s ago, and was on the screen for as long as the page says."""
    work = at_work(40, DeskPolicy(groups=False, guard_s=0.7, fast_s=2.0))
    for after_s, least_s in ((0.8, 0.8), (2.5, 2.5), (60.0, 9.0)):
        token = work.take("anna", "bio-7").token
        for early_s in (0.0, 0.69):
            with pytest.raises(TooSoonError):
                work.decide("anna", token, wait_s=0, after_s=early_s)
        work.decide("anna", token, wait_s=9, after_s=after_s)
        (newest,) = work.execute("SELECT fast, spent_s FROM decisions ORDER BY id DESC LIMIT 1")
        assert (newest.fast, newest.spent_s) == (least_s < 2, least_s)
    read = work.take("anna", "bio-7")
    work.wait(30)
    work.take("anna", "bio-7")  # the page is loaded again: what was read before counts as well
    work.decide("anna", read.token, wait_s=5, after_s=1.0)
    assert work.execute("SELECT fast, spent_s FROM decisions ORDER BY id DESC LIMIT 1") == [(False, 31.0)]


def test_response_put_aside_waits_for_its_rater(at_work: Any) -> None:
    row = next(row for row in scored_rows(40) if row["task"] == "bio-7" and row["route"] != "machine")
    rows = [{**row, "id": f"d{n}", "line": 900 + n} for n in range(3)]
    work = at_work(rows=rows, policy=DeskPolicy(groups=True, validity=0.5, aside_s=1000))
    paper = work.take("anna", "bio-7", draw=0.1)
    work.put_aside("anna", paper.token)
    lead = work.take("anna", "bio-7", draw=0.1)  # the only paper is not drawn again
    assert (paper.kind, lead.kind, len(work.members(lead))) == ("validity", "first", 2)
    work.put_aside("anna", lead.token)
    assert work.members(lead) == []
    other = work.take("ben", "bio-7")  # a member that was given back
    assert other.row != lead.row
    work.put_aside("ben", other.token)
    with pytest.raises(LeaseLostError):
        work.decide("anna", lead.token)
    with pytest.raises(LeaseLostError):
        work.take_up("ben", lead.token)
    for token in (paper.token, lead.token):
        taken = work.take_up("anna", token)
        again = work.take("anna", "bio-7")
        assert again.id == taken.id
        assert work.decide("anna", again.token, 1)
    last = work.take("anna", "bio-7")
    work.put_aside("anna", last.token)
    work.wait(1001)
    assert work.take("dana", "bio-7").row == other.row  # it went back to the queue
    with pytest.raises(LeaseLostError):
        work.take_up("ben", other.token)


def test_nobody_hoards_responses(at_work: Any) -> None:
    work = at_work(160)
    for _ in range(20):
        work.put_aside("anna", work.take("anna").token)
    with pytest.raises(ReviewError, match="put 20 responses aside"):
        work.put_aside("anna", work.take("anna").token)


def test_one_person_reads_all_traits_of_an_essay_one_after_the_other(at_work: Any) -> None:
    work = at_work(policy=DeskPolicy(groups=False, second_reads=1.0), rows=essays(1))
    for person, kind, level in (("anna", "first", 0), ("ben", "second", 1)):
        seen, waiting = [], []
        for wait_s in (30, 0.1, 0.1):  # the essay is read once
            read = work.take(person, "essay-1.grammar")
            seen.append((work.row(read.row).task, read.kind))
            work.decide(person, read.token, level, wait_s)
            waiting.append(len(work.execute("SELECT * FROM reads WHERE kind = 'second'")))
        assert seen == [(f"essay-1.{trait}", kind) for trait in ("cohesion", "grammar", "syntax")]
        assert waiting == ([0, 0, 3] if person == "anna" else [3, 3, 3])
        assert work.take(person, "essay-1.grammar") is None
        who = {"p": work.programme.people[person]}
        spent = work.execute("SELECT spent_s, fast FROM decisions WHERE person = :p ORDER BY id", **who)
        assert [(round(seconds, 1), bool(fast)) for seconds, fast in spent] == [(30, False), (0.1, False), (0.1, False)]
    assert work.execute("SELECT state FROM rows WHERE task LIKE 'essay%'") == [("adjudication",)] * 3


def test_totals_of_an_essay_follow_its_traits(at_work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "BLOCK_ROWS", 2)  # three traits of a response are in two blocks
    work = at_work(policy=DeskPolicy(groups=False, second_reads=1.0), rows=essays(2))
    (tmp_path / "essay-1").mkdir()
    traits = {name: {"levels": [1, 1.5, 2]} for name in ("cohesion", "grammar", "syntax")}
    task = {"id": "essay-1", "traits": traits, "total": {"sum": [*traits]}}
    (tmp_path / "essay-1/task.json").write_text(json.dumps(task))
    with work.database.write() as connection:
        save_items(connection, read_items(tmp_path), "test")

    def totals() -> set[tuple[Any, ...]]:
        exports.export_final(work.database, tmp_path / "final.parquet")
        names = ("id", "total", "machine_total", "first_total")
        return {tuple(row[name] for name in names) for row in read_rows(tmp_path / "final.parquet")}

    assert totals() == {("r0", None, 4.5, None), ("r1", None, 4.5, None)}
    for person, levels in (("anna", (0, 0, 2) * 2), ("ben", (0, 0, 0))):
        for level in levels:
            work.decide(person, work.take(person, "essay-1.grammar").token, level)
    assert totals() == {("r0", None, 4.5, 4.0), ("r1", None, 4.5, 4.0)}
    work.decide("lee", work.take("lee", "", ADJUDICATION).token, 1)
    assert totals() == {("r0", 3.5, 4.5, 4.0), ("r1", None, 4.5, 4.0)}


def test_traits_that_come_by_the_api_are_read_together(at_work: Any, tmp_path: Path) -> None:
    work = at_work(0)
    scored = Scored("", 1, 1.5, (0.5, 0.5), Status.OK, "ab", 9, False, route="human:LOW_CONFIDENCE")
    arrivals = [
        ScoredArrival("An essay", replace(scored, task=f"essay-{n}.{trait}", id="7"), trait=trait)
        for trait in ("cohesion", "grammar")
        for n in (1, 2)
    ]
    asyncio.run(LiveIntake(work.database).commit("north", arrivals))
    seen = []
    while (read := work.take("anna", "" if len(seen) > 1 else "essay-2.grammar")) is not None:
        seen.append(work.row(read.row).task)
        work.decide("anna", read.token)
    assert seen == [f"essay-{n}.{trait}" for n in (2, 1) for trait in ("cohesion", "grammar")]
    exports.export_final(work.database, tmp_path / "final.jsonl")
    assert {row["source"] for row in read_rows(tmp_path / "final.jsonl")} == {"api north"}


def test_undone_trait_comes_again_with_those_after_it(at_work: Any) -> None:
    work = at_work(rows=essays(2))
    for _ in range(2):
        work.decide("anna", work.take("anna").token)
    work.undo("anna")
    tasks = []
    for _ in range(2):
        tasks.append(work.row((read := work.take("anna")).row).task)
        work.decide("anna", read.token)
    assert tasks == ["essay-1.grammar", "essay-1.syntax"]


def test_essay_is_put_aside_and_taken_up_with_all_its_traits(at_work: Any) -> None:
    work = at_work(rows=essays(1))
    token = (first := work.take("anna", "essay-1.grammar")).token
    work.put_aside("anna", token)
    assert work.take("anna", "essay-1.grammar") is None
    assert work.take_up("anna", token).id == first.id
    read_by_anna = work.execute("SELECT state FROM reads WHERE person IS NOT NULL")
    assert read_by_anna == [("leased",)] * 3


def test_traits_of_which_the_machine_is_sure_stay_its_own_where_the_policy_says_so(at_work: Any) -> None:
    work = at_work(policy=DeskPolicy(groups=False, sure_traits=0.9), rows=essays(2, sure=0.95))
    assert work.execute("SELECT DISTINCT task, state FROM rows WHERE task LIKE 'essay%' ORDER BY task") == [
        ("essay-1.cohesion", "waiting"), ("essay-1.grammar", "waiting"), ("essay-1.syntax", "machine")
    ]  # fmt: skip
    scored = Scored("", 1, 1.5, (0.5, 0.95), Status.OK, "ab", 9, False, confidence=0.95, route="human:LOW_CONFIDENCE")
    some = [
        ScoredArrival(f"Essay {n}", replace(scored, task=f"essay-1.{trait}", id=str(n)), trait=trait)
        for n in range(400)
        for trait in ("grammar", "syntax")
    ]
    some.append(ScoredArrival("Essay", replace(scored, task="essay-1.total", id="0")))
    asyncio.run(LiveIntake(work.database).commit("north", some))
    drawn = work.execute("SELECT name, read_behind, chosen_by FROM rows WHERE state='waiting' AND source LIKE '%north'")
    both = Counter(drawn)
    assert {*both.values()} == {2} and {row[1:] for row in both} == {(0.1, "read_behind")}
    assert 20 <= len(both) <= 60
