"""Text → tokens, by the backbone's own `tokenizer.json`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HuggingFaceTokenizer

from scoremux_engine.errors import BackboneError
from scoremux_engine.model.inputs import ModelInput, Rendered

_SLICE_CHARS = 1 << 15
"""The library's threads tokenise so much of a request at once: other requests' texts wait for it."""

_BEGINNINGS = ("", "The", " a", "\n\n", *"a1.,-'\"(_$éяع中한😀\n")
"""Beginnings of responses, each of which a tokenizer may merge with the text before it in a way of its own."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of one row: token ids and types, special tokens included.

    truncated: whether the end of the response had to be cut off; windows: those that a long response is read in, none
    where it is read whole; adds: how many tokens of the response a window has that no earlier one has.
    """

    ids: list[int]
    types: list[int]
    truncated: bool
    windows: tuple["Tokens", ...] = ()
    adds: int = 0

    def after(self, count: int) -> "Tokens":
        """Return all but the first `count` tokens."""
        return Tokens(self.ids[count:], self.types[count:], self.truncated) if count else self


class Tokenizer:
    """Tokenises responses, alone or within the text of their task. Thread-safe.

    A row's tokens depend on that row alone. Training code that makes one with `of` sees the tokens that the
    server sees.

    Args:
        tokenizer: A tokenizer that this object may change.

    Attributes:
        file_limit: Most tokens by the tokenizer's own file, which training may have set; None for no limit.
    """

    def __init__(self, tokenizer: HuggingFaceTokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.file_limit: int | None = (tokenizer.truncation or {}).get("max_length")
        # Padding is the bucket's business, and only the response is cut; a file may bring settings of its own.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # The fast way gives no offsets, which only texts that are cut need, and loses the types of pairs where nothing
        # processes them.
        self._encode = tokenizer.encode_batch_fast if tokenizer.post_processor else tokenizer.encode_batch

    @classmethod
    def open(cls, file: Path, max_tokens: int) -> "Tokenizer":
        """Read a `tokenizer.json`. Raises BackboneError where the library cannot."""
        try:
            return cls(HuggingFaceTokenizer.from_file(str(file)), max_tokens)
        except Exception as error:  # the library raises plain Exception
            raise BackboneError(f"{file} is not a tokenizer: {error}") from error

    @classmethod
    def of(cls, tokenizer: HuggingFaceTokenizer, max_tokens: int) -> "Tokenizer":
        """Copy a tokenizer, such as the `backend_tokenizer` of one of transformers'."""
        return cls(HuggingFaceTokenizer.from_str(tokenizer.to_str()), max_tokens)

    @property
    def size(self) -> int:
        """How many tokens it knows, without those that were added to it later."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=False))

    def added_words(self) -> list[str]:
        """Return the tokens that were added to it and are not special."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if not token.special]

    def encode(self, inputs: Iterable[ModelInput]) -> list[Tokens]:
        """Return the tokens of each input (`Task.render`), at most `max_tokens`; equal ones are tokenised once.

        If there are more, the last ones of the response are removed; a token that reaches beyond the response stays. An
        input with windows is read in several if it has more tokens than one of them, and is cut beyond the most of
        them.
        """
        inputs = list(inputs)
        tokens: dict[ModelInput, Tokens] = {}
        for texts in _slices(dict.fromkeys(inputs)):
            fast = self._encode(list(map(_raw, texts)))
            encodings = dict(zip(texts, fast, strict=True))
            long = [text for text, encoding in encodings.items() if len(encoding) > self._limit(text)]
            with_offsets = self._tokenizer.encode_batch(list(map(_raw, long)))
            encodings.update(zip(long, with_offsets, strict=True))
            tokens.update((text, self._fit(text, encoding)) for text, encoding in encodings.items())
        return [tokens[text] for text in inputs]

    def room(self, empty: ModelInput) -> int:
        """Return how many tokens a response, or a window of it, may have beside the text of its task.

        empty: The input with an empty response.
        """
        return self._limit(empty) - len(self._tokenizer.encode_batch([_raw(empty)])[0])

    def prefix(self, render: Callable[[str], ModelInput]) -> tuple[int, ...]:
        """Return the token ids that responses to a task begin with: at most all but the last of an empty response.

        Where the task's text would merge with a response's beginning, the prefix ends before. Other beginnings may
        merge, too: a row that does not begin with the prefix is computed without it.

        Args:
            render: Makes a response into an input (`Task.render`).
        """
        ids = [tokens.ids for tokens in self.encode(map(render, _BEGINNINGS))]
        most = min(map(len, ids)) - 1
        return tuple(commonprefix(ids)[: max(0, most)])  # noqa: RUF071 (of token ids, not of paths)

    def _limit(self, text: ModelInput) -> int:
        """Return the most tokens that are read at once."""
        return self.max_tokens if isinstance(text, str) or text.windows is None else text.windows.tokens

    def _fit(self, text: ModelInput, encoding: Any) -> Tokens:
        ids, types = encoding.ids, encoding.type_ids
        if len(ids) <= self._limit(text):
            return Tokens(ids, types, False)

        def of(places: Sequence[int], adds: int = 0) -> Tokens:
            return Tokens([ids[i] for i in places], [types[i] for i in places], False, adds=adds)

        kept = self._kept(text, encoding)
        whole, truncated = of(kept), len(kept) < len(ids)
        windows = tuple(of(places, adds) for places, adds in _windows(text, encoding, len(ids) - len(kept)))
        return Tokens(whole.ids, whole.types, truncated, windows)

    def _kept(self, text: ModelInput, encoding: Any) -> list[int]:
        """Return the places of the tokens that the backbone sees of an input that it does not read at once."""
        end, most = _response_end(text, encoding), self.max_tokens
        if not isinstance(text, str) and text.windows:
            start = _response_start(text, encoding)
            around = len(encoding) - (end - start)
            most = around + text.windows.most_tokens(text.windows.tokens - around)
        excess = max(0, len(encoding) - most)
        return [*range(max(0, end - excess)), *range(end, len(encoding))][:most]


def _windows(text: ModelInput, encoding: Any, cut: int) -> Iterator[tuple[list[int], int]]:
    """Yield the places of the tokens of each window of a long text, and how many of the response each adds.

    cut: How many tokens at the response's end no window reads.
    """
    if isinstance(text, str) or text.windows is None:
        return
    start, end = _response_start(text, encoding), _response_end(text, encoding)
    before, after = range(start), range(end, len(encoding))
    room = text.windows.tokens - len(before) - len(after)
    for span in text.windows.spans(end - cut - start, room):
        yield [*before, *range(start + span.start, start + span.stop), *after], span.adds


def _slices(texts: Iterable[ModelInput]) -> Iterator[list[ModelInput]]:
    """Yield the texts in lists of about `_SLICE_CHARS`."""
    few, size = list[ModelInput](), 0
    for text in texts:
        few.append(text)
        size += len(text) if isinstance(text, str) else sum(map(len, text.texts))
        if size >= _SLICE_CHARS:
            yield few
            few, size = [], 0
    if few:
        yield few


def _raw(text: ModelInput) -> Any:
    """Return an input as the library takes it: a text, or the two of a pair."""
    if isinstance(text, str):
        return text
    return text.texts if len(text.texts) == 2 else text.texts[0]


def _response_end(text: ModelInput, encoding: Any) -> int:
    """Return the place of the first token that reaches beyond the response, or of the one after its text's last."""
    side, end = (0, len(text)) if isinstance(text, str) else (text.side, text.end)
    last = 0
    offsets = encoding.offsets  # each access copies the whole list
    for place, sequence in enumerate(encoding.sequence_ids):
        if sequence == side:
            last = place
            if offsets[place][1] > end:
                return place
    return last + 1


def _response_start(text: Rendered, encoding: Any) -> int:
    """Return the place of the first token that reaches into the response."""
    offsets = encoding.offsets
    places = (place for place, sequence in enumerate(encoding.sequence_ids) if sequence == text.side)
    return next(place for place in places if offsets[place][1] > text.start)
