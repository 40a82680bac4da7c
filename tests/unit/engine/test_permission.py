"""Grants: what a signature covers, what is refused, and which tasks a row may name."""

from __future__ import annotations

import fnmatch
import hmac
import json
import random
import re
import time
from pathlib import Path

import pytest

from scoremux_client import Status, contract
from scoremux_engine.engine import Engine
from scoremux_engine.errors import EngineError, GrantError
from scoremux_engine.scoring.permission import HEADER, MOST_BYTES, Grant, Permissions, key_id, read_key

KEY, OTHER = b"k" * 32, b"o" * 32
NOW = 1_800_000_000
GRANT = Grant("grader", NOW + 60, ("en-*", "de-1"), 4)


def parameters(*pairs: tuple[str, object]) -> str:
    """JSON in which a key may come twice."""
    return "{" + ",".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs) + "}"


@pytest.fixture
def permissions() -> Permissions:
    return Permissions(KEY, lambda: NOW)


@pytest.mark.parametrize("name", [HEADER, "Scoremux-Grant", "SCOREMUX-GRANT"])
def test_a_signed_grant_is_found_however_its_header_is_spelt(permissions: Permissions, name: str) -> None:
    signed = GRANT.signed(KEY)
    assert permissions.of(parameters((name, signed), ("x", 1))) == GRANT
    assert signed.isprintable() and " " not in signed and len(signed) < 120


@pytest.mark.parametrize("second", [HEADER, "Scoremux-Grant"])
def test_a_request_with_two_grants_is_refused(permissions: Permissions, second: str) -> None:
    signed = GRANT.signed(KEY)
    for pair in ((second, signed), (second, ""), (second, 1)):
        for pairs in (((HEADER, signed), pair), (pair, (HEADER, signed))):
            with pytest.raises(GrantError, match="more than one grant"):
                permissions.of(parameters(*pairs))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        *(
            (text, "has no grant")
            for text in ("", "{}", '{"x": 1}', '{"scoremux-grants": "1"}', '{"x-scoremux-grant": 1}')
        ),
        *((parameters((HEADER, value)), "not a string") for value in (None, 1, True, ["x"], {"x": "y"})),
        *((text, "cannot be read") for text in ("{", "[1]", "1", "null", '"x"', "[" * 100_000)),
    ],
    ids=lambda value: value[:30],
)
def test_a_request_without_a_readable_grant_is_refused(permissions: Permissions, text: str, sentence: str) -> None:
    with pytest.raises(GrantError, match=sentence):
        permissions.of(text)


def test_every_changed_character_breaks_a_grant(permissions: Permissions) -> None:
    signed = GRANT.signed(KEY)
    draw = random.Random(5)
    changed = {signed[:place] + letter + signed[place + 1 :] for place in range(len(signed)) for letter in "0*:,aé\0"}
    changed |= {signed[:place] + signed[place + 1 :] for place in range(len(signed))}
    changed |= {signed[:place] + draw.choice("a0:,*") + signed[place:] for place in range(len(signed) + 1)}
    changed |= {signed.upper(), signed + "\n", " " + signed, "", ":", "\ud800", "x" * 10_000, GRANT.signed(OTHER)}
    for text in changed - {signed}:
        with pytest.raises(GrantError, match="not signed"):
            permissions.of(parameters((HEADER, text)))


@pytest.mark.parametrize(("number", "more"), [("1", ""), ("2", "1:0:")])
def test_grant_of_an_older_format_is_refused_with_its_reason(permissions: Permissions, number: str, more: str) -> None:
    claims = f"{number}:grader:{NOW + 60}:{more}*"
    signed = f"{claims}:{hmac.digest(KEY, claims.encode(), 'sha256').hex()}"
    with pytest.raises(GrantError, match=f"format {number}, not 3: run the same version of front door and server"):
        permissions.of(parameters((HEADER, signed)))


@pytest.mark.parametrize("field", [2, 3])
@pytest.mark.parametrize("value", ["-1", "+1", "", "NaN", "1e3", "1_0", "0x1", " 1", "1.0", "9" * 13, "１", "1\n"])
def test_odd_number_in_a_signed_grant_is_refused(permissions: Permissions, field: int, value: str) -> None:
    parts = ["3", "grader", str(NOW + 60), "1", "*"]
    parts[field] = value
    claims = ":".join(parts)
    with pytest.raises(GrantError):
        permissions.of(parameters((HEADER, f"{claims}:{hmac.digest(KEY, claims.encode(), 'sha256').hex()}")))


def test_a_grant_ends_when_it_says_though_it_is_remembered() -> None:
    now = [float(NOW)]
    permissions = Permissions(KEY, lambda: now[0])
    text = parameters((HEADER, GRANT.signed(KEY)))
    permissions.of(text)
    now[0] = NOW + 59.9
    permissions.of(text)
    now[0] = NOW + 60
    with pytest.raises(GrantError, match="expired"):
        permissions.of(text)


@pytest.mark.parametrize(
    "grant",
    [
        Grant("a b", NOW, ("*",)),
        Grant("a:b", NOW, ("*",)),
        Grant("", NOW, ("*",)),
        Grant("a", -1, ("*",)),
        Grant("a", NOW, ("*",), 0),
        Grant("a", NOW, ("*",), 101),
        Grant("a", NOW, ()),
        Grant("a", NOW, ("a,b",)),
        Grant("a", NOW, ("a[1]",)),
        Grant("a", NOW, ("é",)),
        Grant("a", NOW, ("a" * 129,)),
        Grant("a", NOW, ("a" * 128,) * 40),
    ],
)
def test_a_grant_that_could_be_read_otherwise_is_never_signed(grant: Grant) -> None:
    with pytest.raises(GrantError, match=f"malformed, or longer than {MOST_BYTES}"):
        grant.signed(KEY)


def test_patterns_are_those_of_a_shell() -> None:
    draw = random.Random(3)
    for _ in range(2000):
        patterns = ["".join(draw.choices("ab*?.-", k=draw.randint(1, 6))) for _ in range(draw.randint(1, 3))]
        task = "".join(draw.choices("ab.-", k=draw.randint(1, 7)))
        expected = any(fnmatch.fnmatchcase(task, pattern) for pattern in patterns)
        assert Grant("a", NOW, tuple(patterns)).allows(task) == expected, (patterns, task)


def test_no_pattern_takes_long() -> None:
    grant = Grant("a", NOW, tuple("*a" * 60 + f"*b{number}" for number in range(25)))
    grant.allows("a")  # compiles the patterns
    started = time.process_time()
    assert not any(grant.allows("a" * 128) for _ in range(512))
    assert time.process_time() - started < 2


def test_a_key_is_read_once_and_named_without_being_shown(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\n" + KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY
    assert key_id(KEY) == key_id(KEY) != key_id(OTHER) and re.fullmatch("[0-9a-f]{16}", key_id(KEY))
    (tmp_path / "short").write_bytes(b"k" * 31)
    for name, sentence in (("short", "has 31 bytes; it takes 32 at least"), ("none", "cannot be read: No such file")):
        with pytest.raises(GrantError, match=sentence):
            read_key(tmp_path / name)


def test_rows_of_forbidden_tasks_are_told_apart_and_the_others_are_scored(small_repository: Path) -> None:
    engine = Engine.open(small_repository)
    tasks = ["t-1", "t-2", "t-9", "no task", "t-2@" + "0" * 64, "t-1@" + "0" * 64, b"t-2", b"\xff", "t-2"]
    texts = ["a router"] * len(tasks)
    one, every = Grant("one", NOW, ("t-1",)).allows, None
    columns = engine.score_columns(texts, tasks, [one] * 8 + [every])
    assert [status.decode() for status in columns[contract.STATUS.name][:, 0]] == [
        Status.OK,
        Status.FORBIDDEN_TASK,
        Status.FORBIDDEN_TASK,  # whether there is such a task is not told
        Status.INVALID_TASK,
        Status.FORBIDDEN_TASK,
        Status.UNKNOWN_TASK,
        Status.FORBIDDEN_TASK,
        Status.INVALID_TASK,
        Status.OK,
    ]
    alone = engine.score_columns(["a router"], ["t-1"])
    assert (columns["PROBABILITIES"][0] == alone["PROBABILITIES"][0])[:5].all()
    assert columns["LEVEL"][1, 0] == -1 and columns["VERSION"][1, 0] == b""


def test_permissions_for_fewer_rows_than_there_are_allow_nothing(small_repository: Path) -> None:
    engine = Engine.open(small_repository)
    for allowed in ([], [lambda _: True]):
        with pytest.raises((ValueError, EngineError)):
            engine.score_columns(["a", "b"], ["t-1", "t-2"], allowed)
