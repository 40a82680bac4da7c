"""Condition codes: made-up non-attempts get them, genuine answers do not."""

import json
from collections import Counter
from dataclasses import replace
from functools import lru_cache

import pytest

from making import ROOT
from saf import DATA, needs_data
from scoremux_client.contract import CONDITION_CODES
from scoremux_decide.conditions.condition_rules import Conditions
from scoremux_decide.conditions.finder import Finder
from scoremux_decide.conditions.folding import fold
from scoremux_decide.policy import read_policy
from scoremux_decide.records import parse_record

POLICY = ROOT / "examples" / "policy.toml"


@lru_cache(maxsize=1)
def conditions() -> Conditions:
    return read_policy(POLICY).conditions


MADE_UP = json.loads((ROOT / "tests/data/conditions/made_up.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("code", MADE_UP["texts"])
def test_made_up_non_attempts_get_their_code(code: str) -> None:
    missed, count = [], 0
    for language, texts in MADE_UP["texts"][code].items():
        finder = Finder(conditions(), *MADE_UP["tasks"][language], [language])
        found = [(ascii(text), finder.find(text)) for text in texts]
        missed += [(text, one and one.code) for text, one in found if one is None or one.code != code]
        count += len(texts)
    assert count == 300 and len(missed) <= 0.05 * count, missed[:20]


WRITTEN = ROOT / "tests" / "data" / "conditions"
BAR = 0.9
"""Least share of the held-out responses with a code that get it."""
REACHED = {("A", "de"): 0.81, ("A", "en"): 0.88, ("U", "de"): 0.42, ("U", "en"): 0.33}
"""Where rules alone miss the bar, what they reach: an adapter finds more (`examples/conditions`)."""


@pytest.mark.parametrize("language", ["de", "en"])
def test_responses_of_known_condition_get_their_code(language: str) -> None:
    rows = [json.loads(line) for line in (WRITTEN / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()]
    hits, count = Counter[str](), Counter[str]()
    for row in rows:
        if row["split"] != "held_out":
            continue
        rules = conditions()
        if "least_words" in row:
            assert rules.insufficient is not None
            insufficient = replace(rules.insufficient, words=row["least_words"], short_reference=0)
            rules = replace(rules, insufficient=insufficient)
        found = Finder(rules, row["question"], row["reference"], [language]).find(row["text"])
        code = found.code if found else ""
        count[row["code"]] += 1
        hits[row["code"]] += code == row["code"] or bool(row["code"] and code and code in row.get("also", ""))
    shares = {code: hits[code] / count[code] for code in count}
    assert shares.pop("") >= 0.98
    assert set(shares) == set(CONDITION_CODES)
    assert min(count.values()) >= 100
    missed = {code: share for code, share in shares.items() if share < REACHED.get((code, language), BAR)}
    assert not missed


KEYS = (("A", "de"), ("A", "en"), ("U", "de"), ("U", "en"), ("", "de"), ("", "en"))
SECOND_WRITER = dict(zip(KEYS, (0.49, 0.59, 0.41, 0.42, 0.99, 0.96), strict=True))
"""Shares of right codes among cases of a writer whose cases are not in the lists."""


def test_cases_of_a_second_writer_get_their_code_as_often_as_measured() -> None:
    hits, count = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for line in (WRITTEN / "second_writer.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found = Finder(conditions(), row["question"], row["reference"], [row["language"]]).find(row["text"])
        key = row["code"], row["language"]
        count[key] += 1
        hits[key] += (found.code if found else "") == row["code"]
    assert count.keys() == SECOND_WRITER.keys()
    assert min(count.values()) >= 130
    missed = {key: hits[key] / count[key] for key in count if hits[key] < SECOND_WRITER[key] * count[key]}
    assert not missed


@needs_data
@pytest.mark.parametrize("corpus", ["saf", "scientsbank"])
def test_genuine_answers_get_no_code(corpus: str) -> None:
    folder = DATA.parent / corpus
    tasks = {task["task_id"]: task for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))}
    finders = {
        name: Finder(conditions(), task["question"], " ".join(task["reference_answers"]), [task["language"]])
        for name, task in tasks.items()
    }
    parts = [(folder / f"{split}.jsonl").read_text("utf-8").splitlines() for split in ("train", "test")]
    rows = [json.loads(line) for part in parts for line in part]
    false, full, best = Counter[str](), 0, 0
    for row in rows:
        levels = tasks[row["task_id"]]["levels"]
        is_best = row["level"] == (levels - 1 if isinstance(levels, int) else max(levels))
        best += is_best
        found = finders[row["task_id"]].find(row["text"])
        # "No submission." and "I do not know." are none.
        if found is not None and (is_best or found.code not in "BR"):
            false[found.code] += 1
            full += is_best
    print(f"{corpus}: false codes on full-score answers {full} of {best:,} = {full / best:.2%}; all {dict(false)}")
    assert sum(false.values()) <= 0.005 * len(rows), false
    assert full <= 0.002 * best


@pytest.mark.parametrize("language", ["de", "en"])
def test_sentences_about_things_are_no_refusals(language: str) -> None:
    lines = (WRITTEN / "things.jsonl").read_text(encoding="utf-8").splitlines()
    found = [
        code.code if (code := finder.find(text)) else ""
        for row in map(json.loads, lines)
        if row["language"] == language
        for finder in [Finder(conditions(), row["question"], row["reference"], [language])]
        for text in row["texts"]
    ]
    print(f"{language}: {Counter(found)}")
    assert len(found) > 180
    assert found.count("R") <= 0.03 * len(found)


def test_a_refusal_may_name_what_it_is_about_and_a_word_be_plain_in_another_language() -> None:
    finder = Finder(conditions(), "Why does bulb A stay lit when switch Y is opened?", "It is in another path.", ["en"])
    for text in ("I don't know switch Y", "the question is too hard", "we never learned bulbs", "no idea about bulb A"):
        found = finder.find(text)
        assert found is not None and found.code == "R", text
    assert finder.find("Switch Y is not in the path of bulb A.") is None
    assert Finder(conditions(), "", "", ["de"]).find("Das Brett ist dick und hell.") is None
    for language, text in (
        ("en", "this is sh*t"),
        ("de", "so eine Scheiße"),
        ("de", "what the fuck"),
        ("en", "f u c k"),
    ):
        found = Finder(conditions(), "", "", [language]).find(text)
        assert found is not None and found.code == "P", text


ATTEMPTS = (
    "The melting point gets a mark on the scale, and the score of each team is full of points.",
    "You can help the plant if you give it light.",
    "The reader does not know why he is sad.",
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
    assert Finder(conditions(), *MADE_UP["tasks"]["en"], ["en"]).find(text) is None


def test_what_a_reader_sees_decides_in_the_languages_of_the_policy() -> None:
    assert fold("Ｗａ\u200btеr\u00a0— DON’T Ärger") == "water — dont arger"
    assert fold("\u3164\u2800\ufeff\u00ad").strip() == ""
    spanish = "El agua se calienta y después se evapora porque recibe energía del sol"
    assert Finder(conditions(), "", "", ["en"]).find(spanish) is not None
    assert Finder(conditions(), "", "", ["en", "es"]).find(spanish) is None
    assert Finder(conditions(), "", "", []).find(spanish) is None


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"blank": {"action": "drop"}}, "blank.action: String should match pattern"),
        ({"blank": {}}, "blank.action: Field required"),
        ({"spam": {"action": "code"}}, "spam: unknown key"),
        ({"copied": {"action": "flag", "run": 6, "share": 1.5}}, "copied.share: .*less than or equal to 1"),
        ({"insufficient": {"action": "flag", "words": 2, "letters": 3}}, "insufficient.letters: unknown key"),
        (
            {"refusal": {"action": "code", "extra_words": 1, "phrases": ["no"]}},
            "refusal.phrases: Input should be a valid dictionary",
        ),
        ({"help": {"action": "flag", "lists": ["xx"]}}, "help.lists: has no list for xx"),
    ],
)
def test_a_wrong_rule_is_named(rules: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_record(Conditions, rules)


def test_a_policy_adds_phrases_and_a_letter_that_the_task_asks_for_is_an_answer() -> None:
    rules = parse_record(Conditions, {"refusal": {"action": "flag", "phrases": {"es": ["no lo sé"]}}})
    found = Finder(rules).find("¡No lo se!")
    assert found is not None and found.code == "R"
    assert Finder(rules).find("I don't know") is None
    letter = (
        "Dear Mrs Hill, thank you for your letter. We are sorry that the zip broke after a week. Please send "
        "the coat back to our shop, and we will repair it or give you a new one. Kind regards"
    )
    task = "A customer wrote that her zip broke. Write an answer.", "Apologise, offer a repair or a new coat."
    lists = {"action": "flag", "lists": ["en"]}
    assert Finder(parse_record(Conditions, {"addressed": lists}), *task, ["en"]).find(letter) is None
    named = parse_record(Conditions, {"addressed": {**lists, "phrases": {"en": ["kind regards"]}}})
    found = [Finder(named, *task, ["en"]).find(text) for text in (letter, "Dear Mrs Hill, please give me a good mark")]
    assert [one and one.code for one in found] == ["A", None]
