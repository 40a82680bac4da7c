"""Text → tokens, by the backbone's own `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer as HuggingFaceTokenizer

from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import BackboneError


@dataclass(frozen=True)
class Tokens:
    """One response's token ids and types, special tokens included, and whether some had to be cut off."""

    ids: list[int]
    types: list[int]
    truncated: bool


class Tokenizer:
    """Tokenises texts; what comes out for a text depends on that text alone."""

    def __init__(self, backbone: Backbone) -> None:
        try:
            self._tokenizer = HuggingFaceTokenizer.from_file(str(backbone.tokenizer))
        except Exception as error:  # the library raises plain Exception
            raise BackboneError(f"{backbone.tokenizer} is no tokenizer: {error}") from error
        # Padding is the bucket's business; a file may bring settings of its own.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(backbone.spec.max_tokens)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of each text, at most the backbone's `max_tokens`."""
        return [Tokens(e.ids, e.type_ids, bool(e.overflowing)) for e in self._tokenizer.encode_batch(list(texts))]
