"""The canary's judgement on answers that no healthy server gives."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from answers import ok_columns
from scoremux_client import BusyError, RejectedError, UnavailableError, contract
from scoremux_client.rows import Columns
from scoremux_server.triton.canary import Canary, CanaryVerdict


class Recorded:
    """A transport that gives prepared answers; None keeps the caller waiting."""

    def __init__(self, answers: list[Columns | Exception | None]) -> None:
        self.answers = answers
        self.sent: list[list[bytes]] = []

    def submit(self, inputs: Columns, timeout_s: float | None) -> Future[Columns]:
        assert timeout_s is None
        self.sent.append(inputs[contract.TASK.name][:, 0].tolist())
        future: Future[Columns] = Future()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
        elif answer is not None:
            future.set_result(answer)
        return future

    def close(self) -> None:
        """Nothing is open."""


def columns(*rows: tuple[str, list[float], str]) -> Columns:
    """Return what a server answers: status, probabilities and version a row."""
    ok = np.array([status == "OK" for status, _, _ in rows])[:, None]
    probabilities = np.array([p for _, p, _ in rows], np.float32)
    return ok_columns([0] * len(rows)) | {
        "STATUS": np.array([[status.encode()] for status, _, _ in rows], dtype=object),
        "LEVEL": np.where(ok, 0, contract.NO_LEVEL).astype(np.int32),
        "PROBABILITIES": np.where(ok, probabilities, np.float32(0)),
        "VERSION": np.array([[version.encode()] for _, _, version in rows], dtype=object),
        "CONFIDENCE": np.full((len(rows), 1), contract.NO_CONFIDENCE, np.float32),
    }


FOUR = [("OK", [0.25, 0.75], "a" * 64), *[("OK", [0.5, 0.5], c * 64) for c in "bcd"]]
ONE = FOUR[:1]


def canary(store: Path, answers: list[Columns | Exception | None]) -> tuple[Canary, Recorded]:
    transport = Recorded(answers)
    return Canary("nowhere:1", store, lambda _: transport), transport


def ask(asked: Canary) -> tuple[CanaryVerdict, str]:
    asked.send()
    answer = asked.answer()
    assert answer is not None
    return answer.verdict, answer.cause


@pytest.fixture
def store(small_repository: Path) -> Path:
    return small_repository / "store"


def test_first_scored_task_becomes_the_canary(store: Path) -> None:
    asked, transport = canary(store, [columns(("UNKNOWN_TASK", [np.nan, np.nan], ""), *FOUR[1:]), columns(FOUR[1])])
    assert ask(asked) == ask(asked) == (CanaryVerdict.GOOD, "")
    assert transport.sent == [[b"t-1", b"t-2", b"t-3", b"t-4"], [b"t-2"]]


def test_changed_bit_is_wrong_and_stays_wrong_after_a_reconnection(store: Path) -> None:
    other = [("OK", [0.25, float(np.nextafter(np.float32(0.75), np.float32(1)))], "a" * 64)]
    asked, _ = canary(store, [columns(*FOUR), columns(*other), columns(*other), columns(*ONE)])
    assert ask(asked)[0] is CanaryVerdict.GOOD
    assert ask(asked) == (CanaryVerdict.WRONG, "the canary of t-1@aaaaaaaaaaaa has other bits than the first time")
    asked.forget()
    assert ask(asked)[0] is CanaryVerdict.WRONG
    assert ask(asked)[0] is CanaryVerdict.GOOD


def test_new_version_may_have_other_bits(store: Path) -> None:
    asked, _ = canary(store, [columns(*FOUR), columns(("OK", [0.1, 0.9], "e" * 64))])
    assert ask(asked)[0] is ask(asked)[0] is CanaryVerdict.GOOD


def test_remembered_versions_are_bounded_and_the_used_one_stays(store: Path) -> None:
    versions = [f"{number:064x}" for number in range(600)]
    used, good, other = "a" * 64, [0.25, 0.75], [0.75, 0.25]
    answers = [columns(*FOUR)]
    for version in versions:
        answers += [columns(("OK", good, version)), columns(("OK", good, used))]
    last = [columns(("OK", other, version)) for version in (used, versions[300], versions[-200])]
    asked, _ = canary(store, [*answers, *last])
    assert {ask(asked)[0] for _ in answers} == {CanaryVerdict.GOOD}
    assert [ask(asked)[0] for _ in last] == [CanaryVerdict.WRONG, CanaryVerdict.GOOD, CanaryVerdict.WRONG]


def test_canary_asks_all_tasks_again_when_its_own_is_gone(store: Path) -> None:
    lost = columns(("UNKNOWN_TASK", [np.nan, np.nan], ""))
    asked, transport = canary(store, [columns(*FOUR), lost, columns(*FOUR)])
    assert ask(asked)[0] is CanaryVerdict.GOOD
    assert ask(asked) == (CanaryVerdict.WRONG, "no canary was scored (UNKNOWN_TASK)")
    assert ask(asked)[0] is CanaryVerdict.GOOD
    assert [len(sent) for sent in transport.sent] == [4, 1, 4]


def test_refused_unreached_and_busy_canaries_are_told_apart(store: Path) -> None:
    errors = [RejectedError("the stub is not healthy"), UnavailableError("nobody there"), BusyError("it is full")]
    asked, _ = canary(store, [*errors])
    assert ask(asked) == (CanaryVerdict.REFUSED, "the stub is not healthy")
    assert ask(asked) == (CanaryVerdict.UNREACHED, "nobody there")
    assert ask(asked) == (CanaryVerdict.BUSY, "it is full")


def test_one_canary_is_in_flight_until_it_is_given_up(store: Path) -> None:
    asked, transport = canary(store, [None, columns(*FOUR)])
    asked.send()
    asked.send()
    assert asked.answer(0.05) is None
    assert asked.waiting_s >= 0.05
    assert len(transport.sent) == 1
    given_up = asked.answer(limit_s=0.01)
    assert given_up and given_up.verdict is CanaryVerdict.UNREACHED
    assert given_up.cause == "a canary has no answer after 0.01 s"
    assert asked.waiting_s == 0
    assert ask(asked)[0] is CanaryVerdict.GOOD


def test_canary_of_an_empty_store_asks_for_an_unknown_task(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1, "backbone": "%s", "tasks": {}}' % ("f" * 64))
    unknown = columns(("UNKNOWN_TASK", [np.nan, np.nan], ""))
    asked, transport = canary(tmp_path, [unknown, columns(*ONE)])
    assert ask(asked)[0] is CanaryVerdict.GOOD
    assert transport.sent == [[b"no-task-yet"]]


def test_unreadable_store_does_not_count_as_empty(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"backbone": tru')
    unknown = columns(("UNKNOWN_TASK", [np.nan, np.nan], ""))
    asked, transport = canary(tmp_path, [unknown])
    asked.send()
    answer = asked.answer()
    assert answer is not None and answer.verdict is CanaryVerdict.REFUSED
    assert "manifest.json is damaged" in answer.cause == answer.store_cause
    assert transport.sent == [[b"no-task-yet"]]


def test_unreadable_store_is_named_beside_a_good_canary(tmp_path: Path, store: Path) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes((store / "manifest.json").read_bytes())
    asked, _ = canary(tmp_path, [columns(*FOUR), columns(*ONE), columns(*ONE)])
    assert ask(asked) == (CanaryVerdict.GOOD, "")
    for text, told in (("{", True), (manifest.read_text(), False)):
        manifest.write_text(text)
        asked.send()
        answer = asked.answer()
        assert answer is not None and answer.good
        assert ("manifest.json is damaged" in answer.store_cause) is told


def test_manifest_of_another_backbone_is_named(own_repository: Path) -> None:
    store = own_repository / "store"
    asked, _ = canary(store, [])
    assert asked.look_at_store() == ""
    manifest = store / "manifest.json"
    before = manifest.read_text()
    changed = {**json.loads(before), "backbone": "f" * 64}
    manifest.write_text(json.dumps(changed))
    assert "now belongs to backbone ffffffffffff, but" in asked.look_at_store()
    manifest.write_text(before)
    assert asked.look_at_store() == ""
