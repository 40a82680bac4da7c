"""Rules that give a response a condition code. What they say depends on the response and its task's texts alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from scoremux_assess.decisions.checked_table import Table
from scoremux_assess.decisions.conditions.folding import fold, visible, words
from scoremux_assess.decisions.conditions.language import Identify, identify
from scoremux_assess.decisions.conditions.letters import MOST_LETTERS, common_share, known_share, languages, trigrams_of

CODE, FLAG = "code", "flag"
BLANK, INSUFFICIENT, COPIED, LANGUAGE, UNINTERPRETABLE, REFUSAL = "B", "I", "C", "L", "U", "R"
NAMES = {
    "blank": BLANK,
    "refusal": REFUSAL,
    "copied": COPIED,
    "uninterpretable": UNINTERPRETABLE,
    "language": LANGUAGE,
    "insufficient": INSUFFICIENT,
}
"""Name of a rule in a policy → its code, in the order in which they are tried."""

_COMMON_ENOUGH, _FEW_COMMON = 0.2, 3
_RUN = 3  # words of the runs that are looked for in the task's texts
_LETTERS_TO_COPY = 40
_MOSTLY = 0.7
_MOST_WORDS_OF_REFUSAL = 20
_SPARE_WORDS = frozenset(
    words(
        "sorry really just simply honestly uh um hm hmm lol haha ok okay well the answer to this that it question "
        "about at all leider echt einfach ehrlich gesagt die antwort auf diese frage das es darauf dazu hier gar mal"
    )
)
"""Words that may stand beside a refusal without making it an attempt."""


@dataclass(frozen=True)
class Rule:
    """One rule's thresholds; see the example policy for what they mean. action: `code` or `flag`."""

    action: str
    words: int = 0
    run: int = 0
    share: float = 0.0
    letters: int = 0
    probability: float = 0.0
    languages: tuple[str, ...] = ()
    extra_words: int = 0
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_KEYS: dict[str, tuple[str, ...]] = {
    "blank": (),
    "insufficient": ("words",),
    "copied": ("run", "share"),
    "language": ("letters", "probability", "languages"),
    "uninterpretable": ("letters", "share"),
    "refusal": ("extra_words", "phrases"),
}


@dataclass(frozen=True)
class Found:
    """A response's condition. coded: whether the code takes the place of a score."""

    code: str
    coded: bool


@dataclass(frozen=True)
class Conditions:
    """The rules of a policy, by name; those that are absent are not tried."""

    rules: Mapping[str, Rule]

    @classmethod
    def of(cls, table: Table) -> Conditions:
        """Read the rules of a policy or a `decision.json`. Raises InputError naming the key that is wrong."""
        rules = {}
        for name in NAMES:
            if (own := table.table(name)) is not None:
                rules[name] = _rule(own, _KEYS[name])
        table.refuse_others()
        return cls(rules)

    def as_json(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {name: _as_json(rule, _KEYS[name]) for name, rule in self.rules.items()}


class Finder:
    """Finds the condition of responses to one task.

    Args:
        conditions: The rules.
        texts: The task's own texts, which a response may be copied from.
        languages: Languages that its responses may be in, unless the rule names them; without any, none is refused.
        identify: What tells a text's language.
    """

    def __init__(
        self,
        conditions: Conditions,
        texts: Sequence[str] = (),
        languages: Sequence[str] = (),
        identify: Identify = identify,
    ) -> None:
        self._rules = conditions.rules
        self._identify = identify
        own = conditions.rules.get("language")
        accepted = (own.languages if own else ()) or languages
        self.languages = tuple(code.lower().partition("-")[0] for code in accepted if code)
        said = [words(fold(text)) for text in texts]
        self._own_letters = ["".join(one) for one in said]
        self._own_runs = frozenset(run for one in said for run in _runs(one))
        refusal = conditions.rules.get("refusal")
        phrases = [tuple(words(fold(p))) for own in refusal.phrases.values() for p in own] if refusal else []
        self._phrases: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted({p for p in phrases if p}, key=lambda p: (-len(p), p)):
            self._phrases.setdefault(phrase[0], []).append(phrase)

    @property
    def identifies(self) -> bool:
        """Whether a response's language matters."""
        return "language" in self._rules and bool(self.languages)

    def find(self, text: str) -> Found | None:
        """Return the condition of a response, None for one without."""
        response = _Response(text)
        for name, rule in self._rules.items():
            if getattr(self, f"_{name}")(response, rule):
                return Found(NAMES[name], rule.action == CODE)
        return None

    def _blank(self, response: _Response, _: Rule) -> bool:
        return not response.folded.strip()

    def _insufficient(self, response: _Response, rule: Rule) -> bool:
        return len(set(response.words)) < rule.words

    def _refusal(self, response: _Response, rule: Rule) -> bool:
        if len(response.words) > _MOST_WORDS_OF_REFUSAL:
            return False
        plain = response.plain_words
        for said in (response.words,) if plain is response.words else (response.words, plain):
            if self._phrases.keys().isdisjoint(said):
                continue
            left = list(_without(said, self._phrases))
            if len(left) < len(said) and sum(word not in _SPARE_WORDS for word in left) <= rule.extra_words:
                return True
        return False

    def _uninterpretable(self, response: _Response, rule: Rule) -> bool:
        if not response.words:
            return bool(response.folded.strip())
        if self._is_plainly_accepted(response):
            return False
        trigrams = response.trigrams
        # Letters of other scripts are the business of `language`, numbers and signs are answers to some tasks.
        visible_signs = len(response.folded) - response.folded.count(" ")
        if len(trigrams) < rule.letters or len(trigrams) < _MOSTLY * min(visible_signs, MOST_LETTERS):
            return False
        if known_share(trigrams, self.languages) >= rule.share:
            return False
        return known_share(trigrams, languages()) < rule.share

    def _copied(self, response: _Response, rule: Rule) -> bool:
        said = response.words
        joined = "".join(said)
        if len(joined) >= _LETTERS_TO_COPY and any(joined in letters for letters in self._own_letters):
            return True
        if len(said) < rule.run:
            return False
        covered, longest = _coverage(said, self._own_runs)
        return longest >= rule.run and covered >= rule.share * len(said)

    def _language(self, response: _Response, rule: Rule) -> bool:
        if not self.languages or sum(map(str.isalpha, response.folded)) < rule.letters:
            return False
        if self._is_plainly_accepted(response):
            return False
        code, probability = self._identify(visible(response.text))
        return code not in self.languages and probability >= rule.probability

    def _is_plainly_accepted(self, response: _Response) -> bool:
        """Whether many of its words are among the commonest of an accepted language: no more need be known."""
        if response.plainly_accepted is None:
            said = response.words
            enough = len(said) >= _FEW_COMMON and common_share(said, self.languages) >= _COMMON_ENOUGH
            response.plainly_accepted = enough
        return response.plainly_accepted


class _Response:
    """A response, with what is made of it when a rule needs it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded = fold(text)
        self.plainly_accepted: bool | None = None

    @cached_property
    def words(self) -> list[str]:
        return words(self.folded)

    @cached_property
    def plain_words(self) -> list[str]:
        """The words with digits as the letters they pass for, and without letters said thrice and more."""
        plain = _REPEATED.sub(r"\1", self.folded.translate(_DIGITS))
        return self.words if plain == self.folded else words(plain)

    @cached_property
    def trigrams(self) -> list[str]:
        return trigrams_of(self.words)


_DIGITS = str.maketrans("013457@$", "oieastas")
_REPEATED = re.compile(r"([a-z])\1{2,}")


def _runs(said: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return zip(*(said[i:] for i in range(_RUN)), strict=False)


def _coverage(said: Sequence[str], own: frozenset[tuple[str, ...]]) -> tuple[int, int]:
    """Return how many words lie in runs of the task's texts, and the longest unbroken stretch of such words."""
    covered = longest = stretch = end = 0
    for place, run in enumerate(_runs(said)):
        if run in own:
            covered += place + _RUN - max(end, place)
            stretch = stretch + 1 if end == place + _RUN - 1 else _RUN
            longest, end = max(longest, stretch), place + _RUN
    return covered, longest


def _without(said: Sequence[str], phrases: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[str]:
    """Yield the words that are part of no phrase. phrases: by their first words, the longest first."""
    place = 0
    while place < len(said):
        phrase = next((p for p in phrases.get(said[place], ()) if tuple(said[place : place + len(p)]) == p), None)
        if phrase is None:
            yield said[place]
        place += len(phrase or " ")


def _rule(table: Table, keys: Sequence[str]) -> Rule:
    values: dict[str, Any] = {"action": table.choice("action", (CODE, FLAG))}
    readers: dict[str, Callable[[], Any]] = {
        "words": lambda: table.whole("words", 1, 1000),
        "run": lambda: table.whole("run", _RUN, 1000),
        "extra_words": lambda: table.whole("extra_words", 0, 100),
        "letters": lambda: table.whole("letters", 1, 10_000),
        "share": lambda: table.share("share"),
        "probability": lambda: table.share("probability"),
        "languages": lambda: table.texts("languages", ()),
        "phrases": lambda: table.lists("phrases"),
    }
    for key in keys:
        values[key] = readers[key]()
    table.refuse_others()
    return Rule(**values)


def _as_json(rule: Rule, keys: Sequence[str]) -> dict[str, Any]:
    return {one.name: getattr(rule, one.name) for one in fields(rule) if one.name == "action" or one.name in keys}
