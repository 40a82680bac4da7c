"""Erasure by id and by age from the desk, what jobs wrote, and the audit log; and backups."""

import json
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from desks import PASSWORD, Work, run_review, scored_rows, write_alerts, write_jsonl
from making import ROOT
from scoremux_client.audit_lines import text_digest
from scoremux_client.errors import InputError, ScoremuxError
from scoremux_desk.desk_policy import DeskPolicy
from scoremux_desk.erasure import ErasureRequest, erase, erase_digests
from scoremux_desk.reading.alerts import add_alerts, handle_alert
from scoremux_desk.reading.intake import add_scored

DAY_S = 86_400.0


def states(work: Work) -> dict[str, int]:
    return {row.state: row.n for row in work.execute("SELECT state, count(*) AS n FROM rows GROUP BY state")}


def test_rows_of_an_age_go_and_newer_ones_of_the_same_student_stay(at_work: Any, tmp_path: Path) -> None:
    work = at_work(20)
    work.wait(400 * DAY_S)
    newer = [{**row, "source": "second.jsonl", "task": "phy-3", "level": 0} for row in scored_rows(8)]
    write_jsonl(tmp_path / "second.jsonl", newer)
    add_scored(work.database, tmp_path / "second.jsonl")
    before = datetime.fromtimestamp(1.8e9 + DAY_S, timezone.utc)
    assert erase(work.database, ErasureRequest(before=before), "dana").rows == states(work)["erased"] == 20
    assert states(work)["validity"] == 1  # known levels have no age
    assert erase(work.database, ErasureRequest(before=before), "dana").rows == 0
    while (read := work.take("anna")) is not None:
        assert work.row(read.row).source == "second.jsonl"
        work.decide("anna", read.token, 0)


def test_erasures_at_once_erase_each_row_once(at_work: Any) -> None:
    work = at_work(60)
    requests = [ErasureRequest([f"r{n}" for n in range(start, 60, 3)]) for start in range(3)]
    with ThreadPoolExecutor(3) as pool:
        erased = list(pool.map(lambda request: erase(work.database, request, "dana"), requests))
    assert [each.rows for each in erased] == [20] * 3
    work.verify()


def test_response_with_an_open_alert_is_not_erased(at_work: Any, tmp_path: Path) -> None:
    work = at_work(8)
    write_alerts(tmp_path / "scored.jsonl.alerts", scored_rows(1))
    add_alerts(work.database, tmp_path / "scored.jsonl", "test")
    request = ErasureRequest(["r0", "r1"])
    with pytest.raises(InputError, match="1 of these responses have an alert that nobody has handled"):
        erase(work.database, request, "dana")
    assert "erased" not in states(work)
    work.act(handle_alert, "lee", 1)
    assert erase(work.database, request, "dana").rows == 2


def test_member_and_lead_of_a_group_that_is_read_now(at_work: Any) -> None:
    for gone in ("r0", "copy1"):
        policy = DeskPolicy(groups=True)
        rows = [{**scored_rows(1)[0], "id": name, "line": n} for n, name in enumerate(("r0", "copy1", "copy2"))]
        work = at_work(policy=policy, rows=rows)
        read = work.take("anna", "bio-7")
        assert len(work.members(read)) == 2
        erase(work.database, ErasureRequest([gone]), "dana")
        again = work.take("anna", "bio-7")
        assert len(work.members(again)) == 1
        work.decide("anna", again.token, 1, also=[work.members(again)[0].token])
        shutil.rmtree(work.programme.folder)
        work.programme.folder.mkdir()


def test_student_who_comes_back_is_a_new_row_and_can_be_erased_again(at_work: Any, tmp_path: Path) -> None:
    work = at_work(6)
    for number in range(1, 3):
        assert erase(work.database, ErasureRequest(["r2"]), "dana").rows == 1
        write_jsonl(tmp_path / f"back{number}.jsonl", [{**scored_rows(3)[2], "source": f"back{number}.jsonl"}])
        add_scored(work.database, tmp_path / f"back{number}.jsonl")
        assert states(work)["erased"] == number
        (row,) = work.execute("SELECT count(*) AS n FROM rows WHERE name = 'r2'")
        assert row.n == 1
        work.verify()


@pytest.mark.parametrize(("name", "key"), [("audit.jsonl", None), ("keyed.jsonl", b"a key that nobody guesses")])
def test_digests_leave_an_audit_log_by_text_and_by_age(tmp_path: Path, name: str, key: bytes | None) -> None:
    path = Path(shutil.copy(ROOT / "tests/upgrade/format-1/audit" / name, tmp_path))
    rotated = Path(shutil.copy(path, tmp_path / f"{name}.20260101T000000.000000Z"))
    if key:
        with pytest.raises(InputError, match="have a key; give it with --audit-key-file"):
            erase_digests(path, {text_digest(b"the router", None)})
    gone = text_digest(b"the router", key)
    assert erase_digests(path, {gone}) == 2
    assert erase_digests(path, {gone}) == 0
    for file in (path, rotated):
        assert gone not in file.read_text()
        assert [len(line) for line in file.read_text().splitlines()] == [
            len(line) for line in (ROOT / "tests/upgrade/format-1/audit" / name).read_text().splitlines()
        ]
    lines = len(path.read_text().splitlines())
    times = [
        datetime.fromisoformat(json.loads(line)["time"].replace("Z", "+00:00"))
        for line in path.read_text().splitlines()
    ]
    for hours in (-11, 13):  # the same moment in other places
        assert erase_digests(path, (), min(times).astimezone(timezone(timedelta(hours=hours)))) == 0
    assert erase_digests(path, (), datetime(2026, 12, 1, tzinfo=timezone.utc)) == 2 * (lines - 1)
    assert {json.loads(line)["digest"].rpartition(":")[2] for line in path.read_text().splitlines()} == {"0" * 64}


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")], ids=["with spaces", "in another order"])
def test_audit_log_that_another_program_wrote_is_refused(tmp_path: Path, separators: tuple[str, str]) -> None:
    path, written = tmp_path / "shipped.jsonl", (ROOT / "tests/upgrade/format-1/audit/audit.jsonl").read_bytes()
    lines = [json.dumps(json.loads(line), sort_keys=True, separators=separators) for line in written.splitlines()]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"shipped\.jsonl, line 1"):
        erase_digests(path, {text_digest(b"the router", None)})
    half = written + written[:90]  # of a server that is writing its next line
    path.write_bytes(half)
    assert erase_digests(path, {text_digest(b"the router", None)}) == 1
    assert path.read_bytes()[len(written) :] == written[:90]


def test_files_of_jobs_lose_the_rows(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "scored.jsonl", scored_rows(12))
    run_review("add", tmp_path / "scored.jsonl", "--database", tmp_path / "reviews.db")
    parts = [tmp_path / "batches/batch_1/scores/part-000000.parquet", tmp_path / "scored/part-000003.parquet"]
    for part in parts:
        part.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(scored_rows(6)), part)
    write_alerts(tmp_path / "scored/_alerts", scored_rows(3))
    outputs = ("--outputs", tmp_path / "batches", "--outputs", tmp_path / "scored")
    printed = run_review(
        "erase", "--id", "r1", "--id", "r2", "--id", "r9", *outputs, "--database", tmp_path / "reviews.db"
    )
    assert "the desk: 3 rows erased" in printed and "outputs: 6 rows erased" in printed
    for part in parts:
        assert pq.read_table(part).to_pylist() == [row for row in scored_rows(6) if row["id"] not in ("r1", "r2")]
    [alert] = (tmp_path / "scored/_alerts/part-000000.jsonl").read_text().splitlines()
    assert json.loads(alert)["id"] == "r0"
    parts[0].write_bytes(b"x")
    with pytest.raises(InputError, match="is no part of a job"):
        run_review("erase", "--id", "r3", *outputs, "--database", tmp_path / "reviews.db")


def test_erasures_are_listed_and_a_backup_is_a_desk(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "scored.jsonl", scored_rows(12))
    where = ("--database", tmp_path / "reviews.db")
    run_review("add", tmp_path / "scored.jsonl", *where)
    run_review("users", "add", "anna", *where, text=f"{PASSWORD}\n")
    (tmp_path / "ids.txt").write_text("r3\r\n\nr4\nr1\u2028r2\n", encoding="utf-8", newline="")
    printed = run_review("erase", "--ids", tmp_path / "ids.txt", "--id", "r5",
                  "--by", "dana\x1b[2J", *where)  # fmt: skip
    assert "the desk: 3 rows erased" in printed
    listed = run_review("erasures", *where)
    assert all(word in listed for word in ("dana�[2J", "4 ids")) and "\x1b" not in listed
    for options, message in (
        ((), "give --ids, --id or --before"),
        (("--before", "soon"), "a day or time such as"),
        (("--before", "0001-01-01T00:00+14:00"), "a day or time such as"),
        (("--id", "\udcff"), "not UTF-8; nothing was changed"),
        (("--id", "r1", "--by", "\udcff"), "not UTF-8; nothing was changed"),
    ):
        with pytest.raises(ScoremuxError, match=message):
            run_review("erase", *options, *where)
    head = run_review("backup", tmp_path / "backup.db", *where).splitlines()[-1]
    assert run_review("verify", *where).splitlines()[-1] == head
    assert run_review("verify", "--noted", head, "--database", tmp_path / "backup.db").splitlines()[-1] == head
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="exists; name a new file"):
        run_review("backup", tmp_path / "backup.db", *where)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most_bytes in (8192, 65536):  # the disk is full at once, or in the middle
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limit[1]))
        try:
            with pytest.raises(ScoremuxError, match="the database says"):
                run_review("backup", tmp_path / "full.db", *where)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert not list(tmp_path.glob("full.db*"))
