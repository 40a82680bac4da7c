"""Texts folded to their visible letters: without invisible characters, look-alikes, widths, accents and case."""

import re
import unicodedata

_LOOKALIKES = {
    **dict(zip("абвгдеёзикмнопрстухьіїјѕԁԛԝһӏґ", "abbrdeezukmhonpctyxbiijsdqwhlr", strict=True)),
    **dict(zip("αβγδεζηθικλμνορσςτυφχω", "abydeznoikluvopoctuoxw", strict=True)),
    **dict(zip("ɑɡɩʏɴʀʟɪʜօհոցսłøđðıĸ", "agiynrlihohnguloddik", strict=True)),
    **{"ß": "ss", "æ": "ae", "œ": "oe"},
}
"""Letter → the Latin letters that it passes for."""

_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10))))
"""What shows nothing although its category is that of a letter, an accent or a symbol."""

_APOSTROPHES = "'’‘‛‚ʼʻʹˈ`´′‵"
_UNSPACED = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


class _Table(dict[int, str]):
    """The replacement of each character for `str.translate`, computed when the character is first met.

    latin: whether accents go, and look-alikes become Latin letters.
    """

    def __init__(self, *, latin: bool) -> None:
        super().__init__()
        self._latin = latin

    def __missing__(self, code: int) -> str:
        self[code] = replacement = self._find(chr(code))
        return replacement

    def _find(self, char: str) -> str:
        if char.isspace():
            return " "
        if char in _INVISIBLE or unicodedata.category(char) in ("Me", "Cc", "Cf", "Cs", "Co", "Cn"):
            return ""
        if not self._latin:
            return char
        if char in _APOSTROPHES or unicodedata.category(char) == "Mn":
            return ""
        return _LOOKALIKES.get(char, char)


_TO_LATIN, _VISIBLE = _Table(latin=True), _Table(latin=False)


def fold(text: str) -> str:
    """Return a text in small Latin letters without accents or invisible characters; look-alikes become Latin.

    >>> fold("Ｗａ\\u200btеr — don’t")
    'water — dont'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text).casefold()
    return text.lower().translate(_TO_LATIN)


def visible(text: str) -> str:
    """Return a text in its own letters, without invisible characters, wide or decorated forms."""
    return (text if text.isascii() else unicodedata.normalize("NFKC", text)).translate(_VISIBLE)


def words(folded: str) -> list[str]:
    """Return runs of letters and digits; where words are not set apart, as in Chinese, each letter."""
    return _WORDS.findall(folded)
