"""Who may read what at the review desk: qualification sets, assignments and quotas, control limits."""

import random
import re
from collections import Counter
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from desks import Work, scored_rows, write_jsonl
from scoremux_client.errors import InputError
from scoremux_desk import figures
from scoremux_desk.database.accounts import change_person
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.errors import LeaseLostError, ReviewError, TooLateError
from scoremux_desk.pages.rendering import figure
from scoremux_desk.reading.intake import add_papers
from scoremux_evidence.figures.estimates import rounded

POLICY = DeskPolicy(groups=False, undo_s=100)


def with_papers(work: Work, kind: str, task: str, levels: list[int]) -> Work:
    papers = [{"task": task, "level": level, "text": f"{kind} {n}"} for n, level in enumerate(levels)]
    write_jsonl(work.programme.folder / f"papers-{kind}.jsonl", papers)
    assert add_papers(work.database, work.programme.folder / f"papers-{kind}.jsonl", kind) == len(papers)
    return work


def test_paper_that_comes_again_with_another_known_level_is_refused(at_work: Any) -> None:
    work = with_papers(at_work(10), "validity", "bio-7", [0, 1])
    file = work.programme.folder / "papers-validity.jsonl"
    assert add_papers(work.database, file, "validity") == 0
    file.write_text(file.read_text().replace('"level": 0', '"level": 2'))
    with pytest.raises(InputError, match="line 1 has the known level 0 here"):
        add_papers(work.database, file, "validity")


def decide_papers(work: Work, name: str, task: str, wrong: int = 0) -> None:
    """Decide the qualification set of a task, the first papers wrongly."""
    while (read := work.take(name, task)) is not None and read.kind == "qualification":
        known = work.row(read.row).known_level
        work.decide(name, read.token, (known + 1) % 3 if wrong > 0 else known)
        wrong -= 1


@pytest.mark.parametrize(("wrong", "state"), [(2, "qualified"), (3, "failed")])
def test_raters_qualify_with_80_percent_exact_on_three_levels(at_work: Any, wrong: int, state: str) -> None:
    work = with_papers(at_work(40, POLICY), "qualification", "bio-7", [0, 1, 2] * 3 + [1])
    assert work.take("anna", "phy-3").kind == "first"  # a task without a set
    decide_papers(work, "anna", "bio-7", wrong)
    assert work.standing("anna", "bio-7") == (state, 10 - wrong, 10)
    read = work.take("anna", "bio-7")
    assert (read is not None) == (state == "qualified")
    if read is None:
        with pytest.raises(TooLateError, match="qualification set is complete"):
            work.undo("anna")
        work.decide_standing("lee", "anna", "bio-7", "again")
        decide_papers(work, "anna", "bio-7")
        assert work.standing("anna", "bio-7") == ("qualified", 10, 10)
        assert work.take("anna", "bio-7").kind == "first"
    assert work.take("ben", "bio-7").kind == "qualification"
    assert work.take("lee", "bio-7").kind == "first"  # leaders need not qualify


def test_fast_decision_about_a_qualification_paper_does_not_count(at_work: Any) -> None:
    work = with_papers(at_work(40, POLICY), "qualification", "bio-7", [0, 1, 2])
    first = work.take("anna", "bio-7")
    work.decide("anna", first.token, work.row(first.row).known_level, wait_s=1.0)
    papers = []
    while (read := work.take("anna", "bio-7")) is not None and read.kind == "qualification":
        papers.append(read.row)
        work.decide("anna", read.token, work.row(read.row).known_level)
    assert len(papers) == 3
    assert papers[-1] == first.row
    assert work.standing("anna", "bio-7") == ("qualified", 3, 3)


def test_control_limit_spares_raters_at_naeps_mark_and_finds_those_far_below() -> None:
    """Of 1,000 made-up raters at the mark few are paused within 100 papers; 30 points lower most are."""
    policy = DeskPolicy(control=20)
    assert [policy.pass_mark(levels) for levels in (2, 3, 4, 5, 6, 9)] == [0.9, 0.8, 0.7, 0.7, 0.7, 0.7]
    draw = random.Random(7)
    for levels in (2, 3, 5):
        mark = policy.pass_mark(levels)
        least = policy.control_limit(levels, 20) * 20
        paused = {}
        for share in (mark, mark - 0.3):
            runs = [[draw.random() < share for _ in range(100)] for _ in range(1000)]
            paused[share] = sum(any(sum(run[n - 20 : n]) < least for n in range(20, 101)) for run in runs) / 1000
        assert paused[mark] < 0.1
        assert paused[mark - 0.3] > 0.85


def test_qualification_paper_can_be_undone_and_put_aside_before_the_last(at_work: Any) -> None:
    work = with_papers(at_work(40, POLICY), "qualification", "geo-2", [0, 1])
    first = work.take("anna", "geo-2")
    work.decide("anna", first.token, 2)
    assert work.undo("anna") == first.id
    read = work.take("anna", "geo-2")
    assert read.id == first.id
    work.put_aside("anna", read.token)
    work.decide("anna", work.take("anna", "geo-2").token, 1)
    assert work.take("anna", "geo-2") is None  # the other one waits on the first page
    work.take_up("anna", read.token)
    work.decide("anna", work.take("anna", "geo-2").token, 0)
    assert work.take("anna", "geo-2").kind == "first"
    assert work.standing("anna", "geo-2") == ("qualified", 2, 2)


def test_qualification_papers_leave_no_trace_in_exports(at_work: Any) -> None:
    from scoremux_desk import exports

    work = with_papers(at_work(40, POLICY), "qualification", "bio-7", [0, 1])
    decide_papers(work, "anna", "bio-7")
    folder = work.programme.folder
    assert exports.export_final(work.database, folder / "final.csv") == 40
    exports.export_labelled(work.database, folder / "labelled.csv")
    assert "qualification" not in (folder / "final.csv").read_text() + (folder / "labelled.csv").read_text()


def test_raters_read_what_they_are_assigned_until_their_quota(at_work: Any) -> None:
    work = at_work(80, DeskPolicy(groups=False, validity=1.0))
    work.assign_work("lee", "anna", "geo-*\nbio-7 3\n")
    kinds: Counter[tuple[str, str]] = Counter()
    while (read := work.take("anna", draw=0.5)) is not None:
        kinds[read.task, read.kind] += 1
        work.decide("anna", read.token)
    assert sum(n for (task, _), n in kinds.items() if task == "bio-7") == 3
    assert kinds["bio-7", "validity"] == 1  # counts as every other paper
    assert {task for task, _ in kinds} == {"bio-7", "geo-2"}
    assert work.take("anna", "phy-3") is None
    work.assign_work("lee", "anna", "")
    assert work.take("anna", "phy-3") is not None
    for quota in ("many", "3000000000", "9" * 5000, "-1"):
        with pytest.raises(ReviewError, match="not a task or a pattern, and a number"):
            work.assign_work("lee", "anna", f"bio-7 {quota}")


def test_members_of_a_pool_share_its_tasks_and_each_has_its_quota(at_work: Any) -> None:
    work = at_work(80, DeskPolicy(groups=False))
    work.assign_work("lee", "anna", "phy-3 1")
    work.change_pool("biology", "bio-* 3", "anna", "ben")
    tasks: dict[str, Counter[str]] = {"anna": Counter(), "ben": Counter()}
    for name, counts in tasks.items():
        while (read := work.take(name)) is not None:
            counts[read.task] += 1
            work.decide(name, read.token)
    assert tasks == {"anna": {"phy-3": 1, "bio-7": 3}, "ben": {"bio-7": 3}}
    work.change_pool("biology", "geo-2", "ben")
    assert work.take("anna") is None
    read = work.take("ben")
    assert read.task == "geo-2"
    work.change_pool("biology", "phy-3", "ben")
    change_person(work.database, "ben", "dana", active=False)
    work.change_pool("biology", "phy-3", "anna")
    change_person(work.database, "ben", "dana", active=True)
    assert work.take("ben", "bio-7") is None  # still a member
    work.change_pool("biology", "")
    assert work.take("ben", "bio-7") is not None  # without an assignment: all tasks
    for name in ("", "y\n", " z"):
        with pytest.raises(ReviewError, match="a pool's name"):
            work.change_pool(name, "", "ben")
    for lines, member in (("bio-7 many", "ben"), ("bio-7", "eve")):
        with pytest.raises(ReviewError):
            work.change_pool("x", lines, member)
    with pytest.raises(ReviewError, match="needs tasks"):  # its members would read all tasks
        work.change_pool("x", "\n", "ben")
    work.verify()


def test_leaders_see_questions_and_stopped_raters_and_pools_with_closed_accounts(at_work: Any) -> None:
    work = with_papers(at_work(80, DeskPolicy(groups=False)), "qualification", "phy-3", [1, 1])
    decide_papers(work, "anna", "phy-3", wrong=2)
    for name in ("anna", "ben"):
        work.put_aside(name, work.take(name, "bio-7").token, f"a question of {name}")
    browser = work.programme.client("lee")
    asked = browser.get("/questions").text
    assert "a question of anna" in asked and "Questions (2)" in asked and "Raters (1)" in asked
    work.change_pool("all", "bio-7", "anna", "ben")
    change_person(work.database, "anna", "dana", active=False)
    assert re.search(r'name="members"[^>]*>ben\n</textarea>.*and 1 whose', browser.get("/raters").text, re.DOTALL)
    browser.post("/raters/pool", {"name": "all", "assignments": "bio-*", "members": ""})
    assert "and 1 whose accounts are closed" in browser.page
    for fields in ({"name": "all", "members": "anna"}, {"name": "all", "assignments": "geo-2", "new": "1"}):
        assert browser.post("/raters/pool", fields).status_code == 400
        browser.get("/raters")
    work.verify()


def test_validity_papers_under_the_control_limit_pause_a_rater(at_work: Any) -> None:
    policy = DeskPolicy(groups=False, validity=1.0, control=20, undo_s=100)
    rows = [row for row in scored_rows(240) if row["task"] == "bio-7"]
    work = with_papers(at_work(rows=rows, policy=policy), "validity", "bio-7", [1] * 30)
    limit = policy.control_limit(3, 20)
    assert limit == pytest.approx(0.8 - 3 * (0.8 * 0.2 / 20) ** 0.5)  # 10.6 of 20
    for name, right in (("anna", 11), ("ben", 10)):
        for n in range(20):
            read = work.take(name, "bio-7", draw=0.0)
            assert read.kind == "validity"
            work.decide(name, read.token, 1 if n < right else 0)
        assert work.take(name, "bio-7").kind == "first"  # the last ones can still be undone
    aside = work.take("ben", "bio-7")
    work.put_aside("ben", aside.token)
    work.wait(101)
    assert work.take("anna", "bio-7") is not None
    assert work.take("ben", "bio-7") is None
    assert work.standing("ben", "bio-7") == ("paused", 10, 20)
    with pytest.raises(LeaseLostError):
        work.take_up("ben", aside.token)
    work.decide_standing("lee", "ben", "bio-7", "qualified")
    assert work.take("ben", "bio-7") is not None  # earlier papers no longer count


def test_leader_pauses_a_rater_at_once(at_work: Any) -> None:
    work = at_work(40)
    read = work.take("anna", "bio-7")
    work.decide_standing("lee", "anna", "bio-7", "paused")
    with pytest.raises(LeaseLostError):
        work.decide("anna", read.token)
    assert work.take("anna", "bio-7") is None
    assert work.take("anna").task != "bio-7"


def test_leaders_read_again_what_raters_decided(at_work: Any) -> None:
    work = at_work(240, DeskPolicy(groups=False, second_reads=0.3))
    for n in range(60):
        read = work.take("anna", "bio-7" if n % 2 else "phy-3")
        work.decide("anna", read.token, n % 3, wait_s=2000)
    browser, shown = work.programme.client("lee"), []
    path = "/rows?task=bio-7&rater=" + str(work.programme.people["anna"])
    while path:
        page = browser.get(path).text
        shown += re.findall(r'id="decision-(\d+)"', page)
        path = "".join(re.findall(r'href="(/rows\?[^"]*before=[^"]*)"', page)).replace("&amp;", "&")
    decided = work.execute("SELECT d.id, d.level, d.at, r.state FROM decisions d JOIN rows r ON r.id = d.row"
                           " WHERE d.task = 'bio-7' ORDER BY d.id DESC")  # fmt: skip
    visible = [d for d in decided if d.state != "second"]  # who reads them may be their next reader
    assert len(decided) > len(visible) > 15
    assert shown == [str(d.id) for d in visible]
    page = browser.get("/rows?task=bio-7&level=2&rater=").text
    assert page.count('id="decision-') == min(25, sum(d.level == 2 for d in visible))
    day = datetime.fromtimestamp(visible[-1].at, timezone.utc).date()
    page = browser.get(f"/rows?task=bio-7&since={day}&until={day}&level=").text
    same_day = [d for d in visible if datetime.fromtimestamp(d.at, timezone.utc).date() == day]
    assert page.count('id="decision-') == min(25, len(same_day))
    for asked in ("since=yesterday", "rater=anna", f"before={10**30}"):
        assert browser.get(f"/rows?{asked}").status_code == 400
    work.decide("ben", work.take("ben", "geo-2").token, None, code="R", wait_s=1)
    assert browser.get("/rows?level=R").text.count('id="decision-') <= 1
    assert "too fast" in browser.get("/rows?fast=1&rater=" + str(work.programme.people["ben"])).text


def test_severity_of_made_up_raters(at_work: Any) -> None:
    levels = [
        SimpleNamespace(
            row=n, round=1, kind="validity", task="bio-7", known_level=n % 3, at=1.8e9 + n, rater=name,
            level=max(0, n % 3 - n % 2) if name == "ben" else n % 3,
        )
        for name in ("anna", "ben") for n in range(60)
    ]  # fmt: skip
    compared = figures.pairs(levels, "validity", rater="ben")
    (line,) = figures.agreement(compared, "rater")
    assert line.figures["severity"].value == pytest.approx(-1 / 3)
    assert line.figures["severity"].low < -1 / 3 < line.figures["severity"].high < 0
    work = at_work(40)
    page = work.programme.client("lee").get("/agreement?task=bio-7&rater=anna&by=rater")
    assert page.status_code == 200


def test_a_number_that_rounds_to_zero_has_no_minus() -> None:
    numbers = (-0.004, -0.0, -0.006, 0.004)
    assert [figure(number) for number in numbers] == ["0.00", "0.00", "-0.01", "0.00"]
    assert [rounded(number, 3, "+") for number in (-0.0004, -0.0006)] == ["+0.000", "-0.001"]
