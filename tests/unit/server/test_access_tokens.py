"""Tokens: shown once, kept as digests, changed by one writer at a time."""

import hashlib
import json
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from scoremux_engine.scoring.permission import MOST_BYTES, WATCHER, Grant
from scoremux_server.errors import SetupError
from scoremux_server.front_door.access_tokens import AccessTokenFile
from serving import run_here


def test_only_the_digest_of_a_token_is_kept(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "new" / "tokens.json")
    secret = tokens.add("grader", ["en-*", "de-1"], 1000, 30, weight=3)
    (token,) = tokens.read()
    assert len(secret) > 43 and secret not in tokens.path.read_text()
    assert token.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert (token.ends - token.created).days == 30
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert token.map_line() == f"{token.sha256} 1000:grader:{token.ends.timestamp():.0f}:3:en-*,de-1"
    assert tokens.add("other", ["de-*", "*"], 0, 1) != secret
    stored = json.loads(tokens.path.read_text())
    for token in stored["tokens"]:  # as files from before there were weights
        del token["weight"]
    tokens.path.write_text(json.dumps(stored))
    assert [token.weight for token in tokens.read()] == [1] * 2


def test_longest_patterns_of_a_token_fit_into_a_grant(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    patterns = [f"{number:03}" + "*" * 125 for number in range(23)]
    tokens.add("n" * 64, patterns, 1_000_000, 3650)
    (token,) = tokens.read()
    assert len(Grant(token.name, 10**11, token.tasks, 100).signed(b"k" * 32)) < MOST_BYTES
    with pytest.raises(SetupError, match="tasks: 3095 bytes of patterns are more than 3072: use fewer patterns"):
        tokens.add("more", [*patterns, "*" * 128], 0, 1)


def test_missing_token_file_does_not_count_as_empty(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "none" / "tokens.json")
    for use in (tokens.read, lambda: tokens.revoke("a")):
        with pytest.raises(SetupError, match=r"none/tokens\.json is missing: put it back, or make one with `scoremux"):
            use()
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty.json").write_text('{"format": 1, "tokens": []}')
    assert AccessTokenFile(tmp_path / "empty.json").read() == ()


@pytest.mark.parametrize(
    ("name", "tasks", "rate", "sentence"),
    [
        ("a b", ["*"], 0, "name: "),
        ("a:b", ["*"], 0, "name: "),
        (WATCHER, ["*"], 0, "name: "),
        ("a", [], 0, "tasks: "),
        ("a", ["en,de"], 0, "tasks: "),
        ("a", ["en-[1]"], 0, "tasks: "),
        ("a", ["a" * 129], 0, "tasks: "),
        ("a", ["*\n"], 0, "tasks: "),
        ("a", ["*"], -1, "rate: "),
        ("known", ["*"], 0, "has a token known already"),
    ],
)
def test_wrong_value_of_a_token_is_named(tmp_path: Path, name: str, tasks: list[str], rate: int, sentence: str) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    tokens.add("known", ["*"], 0, 1)
    before = tokens.path.read_bytes()
    with pytest.raises(SetupError, match=sentence):
        tokens.add(name, tasks, rate, 1)
    assert tokens.path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *((text, "cannot be read: ") for text in ("", "[]", '{"format": 1}', '{"format": 1, "tokens": [], "more": 1}')),
        ('{"format": 1, "tokens": [{"name": "x"}]}', "cannot be read: "),
        ('{"tokens": []}', "is not of format 1: make new tokens with `scoremux tokens add`"),
        ('{"format": 2, "tokens": []}', "is not of format 1: "),
    ],
)
def test_file_that_is_damaged_or_of_another_format_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(SetupError, match=rf"tokens\.json {sentence}"):
        AccessTokenFile(tmp_path / "tokens.json").read()


def test_writers_of_tokens_take_turns(tmp_path: Path) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    threads = [threading.Thread(target=tokens.add, args=(f"t{n}", ["*"], 0, 1)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.read()) == 12
    tokens.revoke("t3")
    assert {token.name for token in tokens.read()} == {f"t{n}" for n in range(12)} - {"t3"}


def test_token_commands_print_a_token_once(tmp_path: Path) -> None:
    file = str(tmp_path / "tokens.json")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return run_here("tokens", *words, "--tokens", file)

    made = run("add", "grader", "--tasks", "en-*", "--tasks", "de-*", "--rate", "1000")
    secret = made.stdout.strip()
    assert made.returncode == 0 and secret.startswith("smx_") and secret not in made.stderr
    shown = run("list").stdout
    assert all(words in shown for words in ("grader", "en-* de-*", "1000", "1 tokens")) and secret not in shown
    assert run("revoke", "grader").returncode == 0
    assert "0 tokens" in run("list").stdout
    refused = run("revoke", "grader")
    assert (refused.returncode, "has no token grader" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        *((f"{command} /nonexist/x.json", "is missing: put it back, or make one") for command in ("revoke x", "list")),
        ("add x --tasks * /proc/zz/t.json", "cannot be written: No such file"),
        ("add x --tasks * /proc/t.json", "cannot be written: "),
        ("add x --tasks * /dev/null/t.json", "cannot be written: File exists"),
        ("revoke x /dev/null/t.json", "cannot be read: "),
        ("list /proc", "cannot be read: "),
    ],
)
def test_unusable_token_file_is_one_sentence(words: str, sentence: str) -> None:
    *command, file = words.split()
    failed = run_here("tokens", *command, "--tokens", file)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.startswith(f"scoremux: {file} {sentence}") and failed.stderr.count("\n") == 1


def test_token_file_keeps_its_owner_and_its_mode(tmp_path: Path) -> None:
    """A door that runs as somebody else must go on reading it."""
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    tokens.add("a", ["*"], 0, 1)
    tokens.path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(tokens.path, 65534, 65533)
    before = tokens.path.stat()
    for change in (lambda: tokens.add("b", ["*"], 0, 1), lambda: tokens.revoke("a")):
        change()
        after = tokens.path.stat()
        assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tokens.json.lock", "tokens.json"]


@pytest.mark.parametrize(("forbidden", "mode"), [("owner", 0o640), ("all", 0o600)])
def test_unkept_group_gives_no_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: str, mode: int
) -> None:
    tokens = AccessTokenFile(tmp_path / "tokens.json")
    tokens.add("a", ["*"], 0, 1)
    tokens.path.chmod(0o640)

    def chown(_path: Path, owner: int, _group: int) -> None:
        if forbidden == "all" or owner >= 0:
            raise PermissionError

    monkeypatch.setattr(os, "chown", chown)
    tokens.revoke("a")
    assert stat.S_IMODE(tokens.path.stat().st_mode) == mode
