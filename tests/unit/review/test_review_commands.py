"""The review desk's subcommands."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from desks import run_review, scored_rows, write_alerts, write_jsonl
from making import ROOT
from scoremux_client.errors import InputError
from scoremux_review import commands
from scoremux_review.database import accounts
from scoremux_review.database.connection import Database

TASKS = ROOT / "examples" / "saf" / "adapters"


def test_scored_files_go_from_add_to_export(tmp_path: Path) -> None:
    rows = scored_rows(40)
    write_jsonl(tmp_path / "scored.jsonl", rows)
    write_alerts(tmp_path / "scored.jsonl.alerts", rows[:2])
    write_jsonl(tmp_path / "known.jsonl", [{"task": "bio-7", "text": "It absorbs red.", "level": 1}])
    (tmp_path / "policy.toml").write_text("[review]\nsecond_reads = 0.5\n")
    where = ("--database", tmp_path / "reviews.db")
    papers = ("--validity", tmp_path / "known.jsonl", "--anchors", tmp_path / "known.jsonl")
    printed = run_review(
        "add", tmp_path / "scored.jsonl", "--tasks", TASKS, "--policy", tmp_path / "policy.toml", *papers, *where
    )
    for line in ("27 tasks", "1 anchor papers", "1 new validity papers", "40 rows, 0 known already", "2 new alerts"):
        assert line in printed
    assert "40 rows, 40 known already" in run_review("add", tmp_path / "scored.jsonl", *where)
    run_review("users", "add", "anna", *where, text="a long password\n")
    run_review("users", "change", "anna", "--role", "leader", *where)
    head = run_review("verify", *where).splitlines()[-1]
    run_review("verify", "--noted", head, *where)
    files = [tmp_path / name for name in ("final.csv", "labelled.csv", "lti.jsonl")]
    printed = run_review("export", "--out", files[0], "--labelled", files[1], "--lti", files[2], *where)
    assert printed.count("rows written to") == 3
    assert [len(file.read_text().splitlines()) for file in files] == [41, 2, 40]


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    where = ("--database", tmp_path / "reviews.db")
    for arguments, message in (
        (("export",), "nothing to write"),
        (("verify", "--noted", "12"), "NUMBER:DIGEST"),
        (("open", "--address", "0.0.0.0"), "give --public-url"),
        (("open", "--public-url", "http://desk.example.org"), "no encryption"),
        (("open", "--oidc-issuer", "https://id.example.org"), "needs --oidc-client"),
    ):
        with pytest.raises(InputError, match=message):
            run_review(*arguments, *where)


def test_verify_names_what_was_changed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "scored.jsonl", scored_rows(8))
    where = ("--database", tmp_path / "reviews.db")
    run_review("add", tmp_path / "scored.jsonl", *where)
    with sqlite3.connect(tmp_path / "reviews.db") as connection:
        connection.execute("UPDATE rows SET level = 2 - level WHERE id = 3")
    connection.close()
    with pytest.raises(Exception, match="row 3 is not what was added"):
        run_review("verify", *where)


def test_first_password_is_printed_on_a_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Database(str(tmp_path / "reviews.db"))
    commands._first_director(desk)
    printed = "".join(capsys.readouterr())
    path = Path(printed.partition("the password is in ")[2].partition(",")[0])
    try:
        password = path.read_text().strip()
        assert password not in printed
        assert path.stat().st_mode & 0o777 == 0o600
        assert accounts.sign_in(desk, "director", password, "127.0.0.1")
    finally:
        path.unlink()
        desk.close()
