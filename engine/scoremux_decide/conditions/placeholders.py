"""Whether a response is only a mark or a word in the place of an answer, such as a dash."""

import re

from scoremux_decide.conditions.folding import words
from scoremux_decide.conditions.phrases import Line, built_in, joined, vocabulary

_BESIDE = vocabulary("beside a placeholder")
_MARKUP = re.compile(r"</?[a-z][^<>]{0,80}>|&(?:nbsp|zwnj|zwj|shy|ensp|emsp|#\d{1,6});")
_PAIRS = frozenset({"()", "[]", "{}", "<>", '""', "''", "“”", "„“", "«»", "‘’", "„”", "(/)", "[-]", "(-)"})
_LISTED = re.compile(r"\W*(?:\d{1,2}|[a-d])[.):]\W*|\W*x{1,2}\W*")
_MOST_SIGNS = 200
_MOST_WORDS, _MOST_BESIDE, _MOST_ALONE = 8, 3, 2
_FEW = 5
_LINES = frozenset("._-?!…*,–—‐=·•~/")


def is_placeholder(folded: str) -> bool:
    """Return whether a folded text only marks the place of an answer: one sign, once or often, a number, or a word."""
    if len(folded) > _MOST_SIGNS:
        return False
    signs = "".join(_MARKUP.sub(" ", folded).split())
    if not signs:
        return True
    if not any(map(str.isalnum, signs)):
        repeated = len(set(signs)) == 1 and signs[0] in (_MARKS if len(signs) <= _FEW else _LINES)
        return repeated or signs in _PAIRS
    if _LISTED.fullmatch(folded):
        return not folded.strip().isalnum() or folded.strip() in ("x", "xx")
    listed = words(folded)
    if len(listed) > _MOST_WORDS:
        return False
    line = Line(joined(listed).split())
    if len(listed) <= _MOST_ALONE and built_in("placeholder alone").rest(line) == []:
        return True
    rest = built_in("placeholder").rest(line)
    return rest is not None and len(rest) <= _MOST_BESIDE and _BESIDE.issuperset(rest)


_MARKS = frozenset("!\"#$%&'()*+,-./:;=?@[]^_`{|}~…–—•·“”„«»¿¡×÷<>\\°§¬‐‑―−")
