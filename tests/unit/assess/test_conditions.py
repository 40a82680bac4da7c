"""Condition codes: made-up non-attempts get them, genuine answers do not."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache

import pytest

from making import ROOT
from non_attempts import COUNT, MAKERS, QUESTIONS, make
from saf import DATA, needs_data, read_rows
from scoremux_assess.decisions.conditions.finder import Finder
from scoremux_assess.decisions.conditions.folding import fold
from scoremux_assess.decisions.conditions.rules import Conditions
from scoremux_assess.decisions.decision import Decision
from scoremux_assess.decisions.policy import read_policy
from scoremux_assess.decisions.records import parse_record

POLICY = ROOT / "examples" / "policy.toml"


@lru_cache(maxsize=1)
def conditions() -> Conditions:
    return read_policy(POLICY).conditions


@lru_cache(maxsize=1)
def finders() -> dict[str, Finder]:
    return {language: Finder(conditions(), texts, [language]) for language, texts in QUESTIONS.items()}


@pytest.mark.parametrize("code", MAKERS)
def test_made_up_non_attempts_get_their_code(code: str) -> None:
    suite = [one for one in make() if one.code == code]
    assert len(suite) == COUNT
    missed = [
        (ascii(one.text), found.code if found else None)
        for one in suite
        if (found := finders()[one.language].find(one.text)) is None or found.code != code
    ]
    assert len(missed) <= 0.05 * COUNT, missed[:20]


@needs_data
def test_genuine_answers_get_no_code() -> None:
    tasks = {task["task_id"]: task for task in json.loads((DATA / "tasks.json").read_text(encoding="utf-8"))}
    own = {
        name: Finder(conditions(), [task["question"], *task["reference_answers"]], [task["language"]])
        for name, task in tasks.items()
    }
    rows = [row for split in ("train", "test") for row in read_rows(split)]
    false = {row.id: found.code for row in rows if row.text.strip() and (found := own[row.task].find(row.text))}
    assert len(rows) == 4231
    assert len(false) <= 0.005 * len(rows), Counter(false.values())


ATTEMPTS = (
    "I don't know the name, but it hands out addresses to the hosts on the network.",
    "TCP resends lost packets.",
    "UDP is faster, TCP is safer because it waits for an acknowledgement of each packet.",
    "H2O + CO2 -> C6H12O6 + O2",
    "P(X>=3) = 1 - P(X=0) - P(X=1) = 0.95",
    "for i in range(10): print(i)",
    "no, it does not",
)


@pytest.mark.parametrize("text", ATTEMPTS)
def test_attempts_are_left_alone(text: str) -> None:
    assert finders()["en"].find(text) is None


def test_what_a_reader_sees_decides() -> None:
    assert fold("Ｗａ\u200btеr\u00a0— DON’T Ärger") == "water — dont arger"
    assert fold("\u3164\u2800\ufeff\u00ad").strip() == ""


def test_a_task_accepts_the_languages_that_the_policy_names() -> None:
    spanish = "El agua se calienta y después se evapora porque recibe energía del sol"
    assert Finder(conditions(), (), ["en"]).find(spanish) is not None
    assert Finder(conditions(), (), ["en", "es"]).find(spanish) is None
    assert Finder(conditions(), (), []).find(spanish) is None


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"blank": {"action": "drop"}}, "blank: action: must be one of code, flag"),
        ({"blank": {}}, "action is missing"),
        ({"spam": {"action": "code"}}, "unknown key spam"),
        ({"copied": {"action": "flag", "run": 6, "share": 1.5}}, "share: must be a number from 0 to 1"),
        ({"insufficient": {"action": "flag", "words": 2, "letters": 3}}, "unknown key letters"),
        ({"refusal": {"action": "code", "extra_words": 1, "phrases": ["no"]}}, "phrases: must be a table"),
    ],
)
def test_a_wrong_rule_is_named(rules: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_record(Conditions, rules)


def test_rules_survive_json() -> None:
    decision = Decision("p" * 64, conditions())
    assert Decision.parse(decision.to_json(), "decision.json").conditions == conditions()
