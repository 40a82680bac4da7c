"""Long texts without their middle: the tokens that the backbone sees stay those of the whole text.

A boundary lies between an ASCII letter or digit and a space before an ASCII letter; some tokenizers have more. Where no
part of a tokenizer looks across boundaries, the tokens of a text are those of its pieces, one after the other:

    tokens(x + y) = tokens(x) + tokens(y)

So the text between two boundaries can be left out if the tokens before it are more than the backbone takes. Which
tokenizers are known to be so is decided by type, never by trial; all others read the whole text.
"""

from __future__ import annotations

import json
import re
from string import ascii_letters, digits
from typing import Any, NamedTuple

from tokenizers import Tokenizer as HuggingFaceTokenizer

from scoremux_engine.model.inputs import ModelInput, Rendered

_BOUNDARY = re.compile(r"(?<=[0-9A-Za-z])(?= [A-Za-z])")
_BOUNDARY_OR_LINE = re.compile(r"(?<=[0-9A-Za-z])(?=[ \n][A-Za-z])")
_BOUNDARY_OR_IDEOGRAPH = re.compile(r"(?<=[0-9A-Za-z一-鿿])(?=[ \n][A-Za-z]|[一-鿿])")
_TAIL_CHARACTERS = 4096
"""How far before the end of a response its last boundary is looked for."""

_LOCAL_NORMALIZERS = (
    "BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Prepend", "Strip",
    "StripAccents",
)  # fmt: skip
_LOCAL_REPLACEMENTS = (" {2,}", r"\s{2,}|[\n\r\t]")
_REFINING = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits", "ByteLevel", "Metaspace")
_AT_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")

_ACROSS = re.compile("[0-9A-Za-z][ ▁Ġ]")
"""What a token holds that reaches across a boundary."""

_APART = re.compile(r"[^\w\s](\S*[^\w\s])?|\s{2,}|[^\S ]", re.DOTALL)
"""Added tokens that no boundary touches: they begin and end with a mark, or are whitespace other than one space."""

_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPLITS = tuple(f"{_ENDINGS}|{_WORD}|{number}|{_REST}" for number in (r"\p{N}", r"\p{N}{1,3}"))
"""Patterns by which the decoders' families split (Qwen, Llama 3): a word takes the space before it, none after it."""


class Shortened(NamedTuple):
    """An input without the middle of its response. `head`: how many characters come before what is left out."""

    rendered: ModelInput
    head: int


def boundary_of(tokenizer: HuggingFaceTokenizer) -> re.Pattern[str] | None:
    """Return what matches the boundaries that no part of a tokenizer looks across; None where none are known."""
    if not all(_APART.fullmatch(token.content) for token in tokenizer.get_added_tokens_decoder().values()):
        return None
    normalizers = _parts(tokenizer.normalizer, "normalizers")
    splitters = _parts(tokenizer.pre_tokenizer, "pretokenizers")
    if not all(map(_is_local, normalizers)) or not all(map(_is_refining, splitters)):
        return None
    if any(part.get("handle_chinese_chars") for part in normalizers) and any(map(_splits_at_lines, splitters)):
        return _BOUNDARY_OR_IDEOGRAPH
    if any(map(_splits_at_lines, splitters)):
        return _BOUNDARY_OR_LINE
    if any(part["type"] == "Metaspace" and part.get("split", True) for part in splitters) or _merges_within(tokenizer):
        return _BOUNDARY
    return None


def _merges_within(tokenizer: HuggingFaceTokenizer) -> bool:
    """Whether a BPE model that gets whole texts merges within pieces: no token reaches across, and none is unknown."""
    model, vocabulary = tokenizer.model, tokenizer.get_vocab()
    if type(model).__name__ != "BPE" or model.dropout or any(_ACROSS.search(token) for token in vocabulary):
        return False
    return vocabulary.keys() >= {*ascii_letters, *digits} and any(space in vocabulary for space in " ▁Ġ")


def shorten(given: ModelInput, boundary: re.Pattern[str], head: int) -> Shortened | None:
    """Leave out the middle of a response.

    Args:
        given: The input.
        boundary: What matches the boundaries of its tokenizer.
        head: Least number of characters before what is left out.

    Returns:
        The shorter input; None where too few boundaries are found, or little would be gained.
    """
    text, end = (given, len(given)) if isinstance(given, str) else (given.texts[given.side], given.end)
    first = boundary.search(text, head, end)
    cut = first.start() if first else end
    resumed = max(
        (match.start() for match in boundary.finditer(text, max(cut, end - _TAIL_CHARACTERS), end)), default=cut
    )
    if resumed == cut:
        return None
    short = text[:cut] + text[resumed:]
    if isinstance(given, str):
        return Shortened(short, cut)
    texts = tuple(short if side == given.side else other for side, other in enumerate(given.texts))
    return Shortened(Rendered(texts, given.side, end - (resumed - cut)), cut)


def _parts(component: Any, members: str) -> list[dict[str, Any]]:
    """Return the state of a component, or of the members of a sequence."""
    if component is None:
        return []
    state = json.loads(component.__getstate__())
    return state[members] if state["type"] == "Sequence" else [state]


def _is_local(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _LOCAL_NORMALIZERS
    pattern = normalizer["pattern"]
    if "String" in pattern:
        return not re.search("[0-9A-Za-z] ", pattern["String"])
    return pattern["Regex"] in _LOCAL_REPLACEMENTS


def _is_split(splitter: dict[str, Any]) -> bool:
    usual = splitter["type"] == "Split" and splitter["pattern"].get("Regex") in _SPLITS
    return bool(usual and splitter["behavior"] == "Isolated" and not splitter["invert"])


def _is_refining(splitter: dict[str, Any]) -> bool:
    """Whether a splitter decides by what is near; one that splits after spaces splits no merge within a piece."""
    after_spaces = splitter["type"] == "Split" and splitter["pattern"].get("String") == " "
    return splitter["type"] in _REFINING or after_spaces or _is_split(splitter)


def _splits_at_lines(splitter: dict[str, Any]) -> bool:
    """Whether a splitter splits before spaces and before ends of lines."""
    by_words = splitter["type"] == "ByteLevel" and splitter["use_regex"]
    return splitter["type"] in _AT_SPACES or by_words or _is_split(splitter)
