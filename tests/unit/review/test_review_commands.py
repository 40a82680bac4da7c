"""The review desk's subcommands."""

import sqlite3
from pathlib import Path

import pytest

from desks import run_review, scored_rows, write_alerts, write_jsonl
from making import ROOT
from scoremux_client.errors import InputError, ScoremuxError
from scoremux_desk import commands
from scoremux_desk.database import accounts
from scoremux_desk.database.connection import Database

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
    files = [tmp_path / name for name in ("final.csv", "labelled.csv")]
    printed = run_review("export", "--out", files[0], "--labelled", files[1], *where)
    assert printed.count("rows written to") == 2
    assert [len(file.read_text().splitlines()) for file in files] == [41, 2]


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    Database(str(tmp_path / "reviews.db"), create=True).close()
    where = ("--database", tmp_path / "reviews.db")
    for arguments, message in (
        (("export",), "nothing to write"),
        (("verify", "--noted", "12"), "NUMBER:DIGEST"),
        (("open", "--address", "0.0.0.0"), "give --public-url"),
        (("open", "--public-url", "http://desk.example.org"), "no encryption"),
        (("open", "--user-header", "X-Forwarded-Email"), "needs --public-url"),
    ):
        with pytest.raises(InputError, match=message):
            run_review(*arguments, *where)


@pytest.mark.parametrize(
    "command",
    [("verify",), ("export", "--out", "final.csv"), ("erase", "--id", "r1"), ("erasures",), ("backup", "copy.db"),
     ("users", "change", "anna", "--role", "leader")],
)  # fmt: skip
@pytest.mark.parametrize("content", [None, b""], ids=["no file", "an empty file"])
def test_missing_database_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], content: bytes | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("typo.db").write_bytes(content)
    with pytest.raises(InputError, match=r"typo\.db holds no desk"):
        run_review(*command, "--database", "typo.db")
    assert not Path("copy.db").exists()
    assert content is not None or not Path("typo.db").exists()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("add", "nowhere.jsonl", "scored.jsonl"), "No such file"),
        (("add", "bad.jsonl"), "row 2"),
        (("open", "--policy", "bad.toml"), "second"),
        (("open", "--tasks", "."), "neither a store"),
        (("add", "--validity", "bad.jsonl"), "row 2: the columns"),
        (("users", "add", "anna", "--role", "king"), "unknown role"),
        (("users", "add", "anna"), "at least 10 characters"),
    ],
)
def test_refused_command_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("scored.jsonl"), scored_rows(4))
    write_jsonl(Path("bad.jsonl"), [scored_rows(1)[0] | {"level": 0}, {"id": "no task"}])
    Path("bad.toml").write_text("[review]\nsecond = 1\n")
    with pytest.raises(ScoremuxError, match=message):
        run_review(*command, "--database", "reviews.db", text="short\n")
    assert not list(tmp_path.glob("reviews.db*"))


def test_refused_file_leaves_a_desk_with_the_rows_before_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "scored.jsonl", scored_rows(4))
    where = ("--database", tmp_path / "reviews.db")
    for files in (("scored.jsonl", "nowhere.jsonl"), ("nowhere.jsonl",)):  # a new desk, and one that exists
        with pytest.raises(InputError, match="No such file"):
            run_review("add", *(tmp_path / file for file in files), *where)
    assert "4 rows, 4 known already" in run_review("add", tmp_path / "scored.jsonl", *where)
    assert "intact" in run_review("verify", *where)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE of_another_program (x)")
    connection.close()
    with pytest.raises(InputError, match="No such file"):
        run_review("add", tmp_path / "nowhere.jsonl", "--database", tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "other.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("of_another_program",)]
    connection.close()


def test_first_password_is_printed_on_a_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Database(str(tmp_path / "reviews.db"), create=True)
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
