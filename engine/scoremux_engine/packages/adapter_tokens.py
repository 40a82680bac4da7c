"""Whether an adapter was trained with the backbone's tokens and limit, where its folder has that tokenizer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from scoremux_engine.errors import BackboneError, PackageError
from scoremux_engine.model.backbone import TOKENIZER, Backbone
from scoremux_engine.model.tokens import Tokenizer
from scoremux_files.digests import digest_of, read_file
from scoremux_files.errors import reading
from scoremux_files.settings import parse_object, quote

_CONFIG = "tokenizer_config.json"
_MOST_BYTES = 256 << 20

_TEXTS = (
    "The Ice floats: it's 9 % lighter, isn't it?",
    " two  spaces\tand\nlines\r\n",
    "Größe, nai\u0308ve, É, ½",
    "лёд الجواب 水比冰重 답 😀",
)
"""Texts whose tokens show how a tokenizer takes case, accents, spaces, and letters of many languages."""


def compare_tokens(folders: Sequence[Path], backbone: Backbone) -> list[int]:
    """Return at how many tokens each adapter's training cut texts, the backbone's limit where its folder does not say.

    Trainers save the tokenizer beside the adapter; a file that cannot be read as one is passed over. Raises
    PackageError, with a text, where a folder's tokenizer makes other tokens than the backbone's.
    """
    compared: dict[str, tuple[str, int]] = {}
    limits = [backbone.spec.max_tokens] * len(folders)
    for number, folder in enumerate(folders):
        _refuse_left(folder / _CONFIG)
        path = folder / TOKENIZER
        if not path.is_file():
            continue
        with reading(path, PackageError):
            data = read_file(path, _MOST_BYTES)
        digest = digest_of([data])
        if digest not in compared:
            compared[digest] = _compare(path, backbone)
        text, limits[number] = compared[digest]
        if text:
            raise PackageError(
                f"{path} makes other tokens of {quote(text)} than the backbone's tokenizer; export a model with the "
                "tokenizer that the adapter was trained with, or remove the file if it was not this one"
            )
    return limits


def lower_limits(limits: Iterable[int], backbone: Backbone) -> list[str]:
    """Return a sentence for each limit below the backbone's at which the training of adapters cut texts."""
    most = backbone.spec.max_tokens
    counts = Counter(limit for limit in limits if limit < most)
    return [
        f"tokenizer.json of {count} of the adapters cuts texts at {limit} tokens, the backbone at {most}: if they were "
        "trained so, scores of longer texts are not those of training; `scoremux export backbone --max-tokens "
        f"{limit}` cuts there for all tasks"
        for limit, count in sorted(counts.items())
    ]


def _compare(path: Path, backbone: Backbone) -> tuple[str, int]:
    """Return a text of which a tokenizer makes other tokens than the backbone's, "" if there is none, and its limit."""
    most = backbone.spec.max_tokens
    try:
        tokenizer = Tokenizer.open(path, most)
    except BackboneError:
        return "", most
    texts = (*_TEXTS, *tokenizer.added_words())
    pairs = zip(texts, tokenizer.encode(texts), backbone.tokenizer.encode(texts), strict=True)
    text = next((text for text, tokens, served in pairs if tokens.ids != served.ids), "")
    return text, min(most, tokenizer.file_limit or most)


def _refuse_left(path: Path) -> None:
    if not path.is_file():
        return
    with reading(path, PackageError):
        data = read_file(path, _MOST_BYTES)
    try:
        side = parse_object(data).get("truncation_side")
    except ValueError:
        return
    if side == "left":
        raise PackageError(
            f"{path}: truncation_side is left, and the server cuts long texts at the right; if the adapter was trained "
            "with texts cut at the right, change it"
        )
