"""Whether a response is in a language that its task does not accept, however short it is."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from scoremux_decide.conditions.response import ResponseText

# Thresholds were chosen on the development responses of tests/data/conditions.
_LEAST_LETTERS_JUDGED = 5
_MOST_ACCEPTED = 0.06
"""From this probability of the accepted languages together on, a response may be in one of them."""
_LIKELY, _LIKELY_WORD, _LIKELY_LETTERS = 0.33, 0.9, 0.18
"""Least probability of another language: of several words, of one word, of words with letters that show a language."""
_MOSTLY_OWN = 0.5

_LATIN = (
    "af az br bs ca ceb co cs cy da de en eo es et eu fi fil fo fr fy ga gd gl ha haw hr ht hu id ig is it jv la lb lt "
    "lv mg mi ms mt nb nl nn no oc pl pt qu rm ro rw sk sl sm sn so sq st su sv sw tl tr uz vi wo xh yo zu"
)
_SCRIPTS = {
    **dict.fromkeys(_LATIN.split(), frozenset({"LATIN"})),
    **dict.fromkeys(["be", "bg", "kk", "ky", "mk", "mn", "ru", "tg", "tt", "uk"], frozenset({"CYRILLIC"})),
    **dict.fromkeys(["ar", "fa", "ps", "sd", "ug", "ur"], frozenset({"ARABIC"})),
    **dict.fromkeys(["he", "yi"], frozenset({"HEBREW"})),
    **dict.fromkeys(["hi", "mr", "ne", "sa"], frozenset({"DEVANAGARI"})),
    "sr": frozenset({"CYRILLIC", "LATIN"}),
    "el": frozenset({"GREEK"}),
    "zh": frozenset({"CJK", "BOPOMOFO"}),
    "ja": frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}),
    "ko": frozenset({"HANGUL", "CJK"}),
    "th": frozenset({"THAI"}),
}
"""Language → the writing systems of its texts."""

_SYLLABIC = frozenset({"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "BOPOMOFO"})
_LEAST_LETTERS = 2
_MOSTLY = 0.5
_MOST_LETTERS = 2000


def is_foreign(response: ResponseText) -> bool:
    """Return whether the words of a response are those of another language, and not of an accepted one."""
    accepted = response.task.languages
    words = [word for word in response.words if word.isalpha()]
    if sum(map(len, words)) < _LEAST_LETTERS_JUDGED or len(words) < len(response.words):
        return False
    # Words of the task are terms, in whatever language they are.
    question, reference = response.task.question, response.task.reference
    new_words = [word for word in words if not question.has(word) and not reference.has(word)]
    if len(new_words) <= _MOSTLY_OWN * len(words):
        return False
    languages = response.likely_languages
    if sum(languages.get(code, 0.0) for code in accepted) > _MOST_ACCEPTED:
        return False
    likeliest, chance = next(iter(languages.items()))
    if likeliest in accepted:
        return False
    if len(set(words)) == 1:
        return chance >= _LIKELY_WORD
    letters = any(char.isalpha() and not char.isascii() and char.lower() not in "äöüß" for char in response.visible)
    return chance >= (_LIKELY_LETTERS if letters else _LIKELY)


def in_other_script(text: str, languages: Sequence[str]) -> bool:
    """Return whether most letters of a visible text are in words of writing systems that none of the languages has.

    A word that mixes writing systems is one of look-alikes, and a single letter such as λ a symbol.
    """
    if text.isascii():
        return False
    accepted = _accepted(tuple(languages))
    foreign = 0
    for word in text[:_MOST_LETTERS].split():
        if word.isascii():  # Latin letters are accepted everywhere
            continue
        scripts = [_script(char) for char in word if char.isalpha()]
        kinds = frozenset(scripts)
        one_kind = len(kinds) == 1 and len(scripts) >= _LEAST_LETTERS
        if kinds and kinds.isdisjoint(accepted) and (one_kind or kinds <= _SYLLABIC):
            foreign += len(scripts)
    return foreign > 0 and foreign > _MOSTLY * sum(map(str.isalpha, text[:_MOST_LETTERS]))


def _accepted(languages: tuple[str, ...]) -> frozenset[str]:
    if not languages or not all(code in _SCRIPTS for code in languages):
        return _SCRIPTS_OF_ALL
    # Latin letters are names and symbols in every language.
    return frozenset({"LATIN"}).union(*(_SCRIPTS[code] for code in languages))


_SCRIPTS_OF_ALL = frozenset[str]().union(*_SCRIPTS.values()) | {
    "BENGALI", "TAMIL", "TELUGU", "GUJARATI", "GURMUKHI", "KANNADA", "MALAYALAM", "SINHALA", "GEORGIAN", "ARMENIAN",
    "ETHIOPIC", "KHMER", "LAO", "MYANMAR", "TIBETAN",
}  # fmt: skip


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    return unicodedata.name(char, "").partition(" ")[0].partition("-")[0]
