"""Rules that give a response a condition code, which depends on the response and its task's texts alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Annotated, ClassVar

from pydantic import AfterValidator, StrictBool

from scoremux_decide.conditions.copies import is_altered, is_answer, is_restated, is_run
from scoremux_decide.conditions.foreign import in_other_script, is_foreign
from scoremux_decide.conditions.letters import MOST_LETTERS, known_share, languages
from scoremux_decide.conditions.phrases import (
    LANGUAGES,
    Line,
    Phrases,
    built_in,
    patterns_of,
    plain,
    spare_words,
    vocabulary,
)
from scoremux_decide.conditions.placeholders import is_placeholder
from scoremux_decide.conditions.profanity import Profanity
from scoremux_decide.conditions.response import ResponseText
from scoremux_decide.conditions.source_text import RUN
from scoremux_decide.records import CheckedRecord, number, one_of, whole

CODE, FLAG = "code", "flag"

_LETTERS_TO_COPY, _MOSTLY, _BESIDE_SHORT, _BESIDE_ADDRESS = 40, 0.7, 4, 2
"""Letters of a copied part; share of letters that show keyboard mash; words beside a short pattern, and to a scorer.

Chosen on the development responses of tests/data/conditions, as all thresholds of conditions are.
"""
_REFERENCE = 2
"""How many times as long a run of the reference must be as one of the question: short references are said alike."""
_REQUESTS = vocabulary("requests")
"""Words of a request; a response that refuses asks for help with one of them."""
_WHO_REFUSES = (vocabulary("me") | vocabulary("school")) - {"ill"}  # of "I'll", but also: "the king was ill"
"""Words of which a refusal has one if it has a subject: a first person, or a word of school."""
_SUBJECTS = vocabulary("subjects of things")


def _with_lists(languages: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := set(languages) - set(LANGUAGES):
        raise ValueError(f"has no list for {min(wrong)[:20]}; there are lists for {', '.join(LANGUAGES)}")
    return languages


Lists = Annotated[tuple[str, ...], AfterValidator(_with_lists)]
"""Languages that have built-in lists."""


def _patterns_of(phrases: Mapping[str, Sequence[str]]) -> list[str]:
    return [*filter(None, (plain(phrase) for listed in phrases.values() for phrase in listed))]


@dataclass(frozen=True)
class Rule(CheckedRecord):
    """A rule with its thresholds; the example policy explains them. action: `code` or `flag`."""

    code: ClassVar[str]
    action: Annotated[str, one_of(CODE, FLAG)]

    def applies(self, response: ResponseText) -> bool:
        """Return whether a response has the condition."""
        raise NotImplementedError


@dataclass(frozen=True)
class BlankRule(Rule):
    """Nothing that a reader would see."""

    code = "B"

    def applies(self, response: ResponseText) -> bool:
        return not response.folded.strip()


@dataclass(frozen=True)
class PlaceholderRule(Rule):
    """A mark or a word in the place of an answer, such as "-" or "left blank"; empty markup."""

    code = "B"

    def applies(self, response: ResponseText) -> bool:
        return is_placeholder(response.folded)


@dataclass(frozen=True)
class PhrasesRule(Rule):
    """Phrases of the built-in lists of some languages (`lists`), and those of the policy (`phrases`)."""

    name: ClassVar[str]
    lists: Lists = ()
    phrases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def patterns(self) -> Phrases:
        return Phrases([*_patterns_of(self.phrases), *patterns_of(self.name, self.lists)])

    @cached_property
    def policy_phrases(self) -> Phrases:
        return Phrases(_patterns_of(self.phrases))

    def nearly_alone(self, response: ResponseText, others: int) -> bool:
        """Return whether a short pattern has few words beside it; others: how many may be such as mean something."""
        short_patterns = built_in(f"{self.name} alone", self.lists)
        for reading in response.short_readings:
            rest = short_patterns.rest(reading)
            if rest is not None and len(rest) <= _BESIDE_SHORT:
                few = sum(word not in spare_words() for word in rest) <= others
                return few and self.counts(short_patterns, reading)
        return False

    def counts(self, patterns: Phrases, reading: Line) -> bool:  # noqa: ARG002
        """Return whether the first pattern of a reading says something about its writer."""
        return True


@dataclass(frozen=True)
class ProfanityRule(Rule):
    """Profanity, wherever it is in the response. lists: languages whose words count in every task."""

    code = "P"
    lists: Lists = ()

    def applies(self, response: ResponseText) -> bool:
        # A word of one language may be a plain word of another, such as the German word for thick.
        task_lists = tuple(code for code in self.lists if code in response.task.languages)
        profanity = Profanity.of(task_lists or self.lists)
        return any(map(profanity.in_words, response.readings)) or profanity.hidden_in(response.folded)


@dataclass(frozen=True)
class AddressedRule(PhrasesRule):
    """Words for the scorer: wherever they are in the response, or, where they are less plain, with little beside them.

    Letters and dialogues that a task asks for have such words too; there the built-in lists do not count, but the
    policy's own phrases do.
    """

    code, name = "A", "addressed"

    def applies(self, response: ResponseText) -> bool:
        if response.task.asks_for_letter:
            return any(map(self.policy_phrases.in_line, response.readings))
        return any(map(self.patterns.in_line, response.readings)) or self.nearly_alone(response, _BESIDE_ADDRESS)


@dataclass(frozen=True)
class AloneRule(PhrasesRule):
    """Phrases beside at most `extra_words` others, not counting those of the question and such as mean little."""

    question_is_spare: ClassVar[bool]
    extra_words: Annotated[int, whole(0, 100)] = 2

    def applies(self, response: ResponseText) -> bool:
        return self.alone(self.patterns, response) or self.nearly_alone(response, 0)

    def alone(self, patterns: Phrases, response: ResponseText) -> bool:
        """Return whether a response has one of the patterns, beside few words that mean something."""
        spare, question = spare_words(), response.task.question.vocabulary if self.question_is_spare else ()
        for reading in response.short_readings:
            rest = patterns.rest(reading)
            if rest is None or not self.counts(patterns, reading):
                continue
            if sum(word not in spare and word not in question for word in rest) <= self.extra_words:
                return True
        return False


@dataclass(frozen=True)
class HelpRule(AloneRule):
    """A request for help; or a question about the task, unless it is why the response refuses."""

    code, name, question_is_spare = "H", "help", False

    def applies(self, response: ResponseText) -> bool:
        # Patterns that turn a question into a refusal: "I don't know what to write".
        refuses = any(map(built_in("refusal", self.lists).in_line, response.readings))
        if refuses and _REQUESTS.isdisjoint(response.readings[0].words):
            return False
        return super().applies(response) or self.alone(built_in("help question", self.lists), response)


@dataclass(frozen=True)
class RefusalRule(AloneRule):
    """A refusal; not a sentence about a thing or about others, such as "the bulb is not in the circuit"."""

    code, name, question_is_spare = "R", "refusal", True

    def counts(self, patterns: Phrases, reading: Line) -> bool:
        if not _WHO_REFUSES.isdisjoint(reading.different):
            return True
        start, _ = next(patterns.places(reading))
        return all(word in spare_words() and word not in _SUBJECTS for word in reading.words[:start])


@dataclass(frozen=True)
class CopiedRule(Rule):
    """Taken from the task's texts: a run of `run` words and a `share` of the words in shared runs; with `altered`, also
    what repeats the question or the reference with some words changed."""

    code = "C"
    run: Annotated[int, whole(RUN, 1000)]
    share: Annotated[float, number(0, 1)]
    altered: StrictBool = False

    def applies(self, response: ResponseText) -> bool:
        words, question, reference = response.words, response.task.question, response.task.reference
        joined = "".join(words)
        is_part = len(joined) >= _LETTERS_TO_COPY and (joined in question.letters or joined in reference.letters)
        if is_part or is_run(words, reference, _REFERENCE * self.run, self.share):
            return True
        if is_run(words, question, self.run, self.share) or (self.altered and is_restated(words, question)):
            return not is_answer(words, reference)
        return self.altered and is_altered(words, reference)


@dataclass(frozen=True)
class UninterpretableRule(Rule):
    """No words: of at least `letters` letter trigrams, less than a `share` is known to some language."""

    code = "U"
    letters: Annotated[int, whole(1, 10_000)]
    share: Annotated[float, number(0, 1)]

    def applies(self, response: ResponseText) -> bool:
        if not response.words:
            return bool(response.folded.strip())
        if response.clearly_accepted:
            return False
        trigrams = response.trigrams
        # Letters of other scripts are the business of `language`, numbers and signs are answers to some tasks.
        visible_signs = len(response.folded) - response.folded.count(" ")
        if len(trigrams) < self.letters or len(trigrams) < _MOSTLY * min(visible_signs, MOST_LETTERS):
            return False
        return all(known_share(trigrams, codes) < self.share for codes in (response.task.languages, languages()))


@dataclass(frozen=True)
class LanguageRule(Rule):
    """Of at least `letters` letters, and with a `probability` in a language that is not accepted; with `short`, also in
    another script, or in words that another language has and the accepted ones do not, however few."""

    code = "L"
    letters: Annotated[int, whole(1, 10_000)]
    probability: Annotated[float, number(0, 1)]
    languages: tuple[str, ...] = ()
    short: StrictBool = False

    def applies(self, response: ResponseText) -> bool:
        accepted = response.task.languages
        if not accepted:
            return False
        if self.short and in_other_script(response.visible, accepted):
            return True
        if response.clearly_accepted:
            return False
        if self.short and is_foreign(response):
            return True
        if sum(map(str.isalpha, response.folded)) < self.letters:
            return False
        code, probability = next(iter(response.likely_languages.items()))
        return code not in accepted and probability >= self.probability


@dataclass(frozen=True)
class InsufficientRule(Rule):
    """Fewer different words than `words`; in a task whose reference has fewer than `short_reference`, such words as
    say nothing alone."""

    code = "I"
    words: Annotated[int, whole(1, 1000)]
    short_reference: Annotated[int, whole(0, 1000)] = 0

    def applies(self, response: ResponseText) -> bool:
        different = set(response.words)
        if len(different) >= self.words:
            return False
        in_short_task = 0 < len(response.task.reference.words) < self.short_reference
        return not in_short_task or different <= spare_words() - vocabulary("short answers")


@dataclass(frozen=True)
class Conditions(CheckedRecord):
    """The rules of a policy, in the order in which they are tried; None: not tried."""

    blank: BlankRule | None = None
    placeholder: PlaceholderRule | None = None
    profanity: ProfanityRule | None = None
    addressed: AddressedRule | None = None
    copied: CopiedRule | None = None
    help: HelpRule | None = None
    refusal: RefusalRule | None = None
    uninterpretable: UninterpretableRule | None = None
    language: LanguageRule | None = None
    insufficient: InsufficientRule | None = None

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(rule for part in fields(self) if (rule := getattr(self, part.name)) is not None)
