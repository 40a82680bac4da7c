"""Which tokens of a text are hidden and must be found again (BERT's recipe)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from scoremux_train.recipe import derived_key

SHARE = 0.15
"""Of the tokens that are hidden: 80 % as the mask token, 10 % as any token, 10 % as they are."""

_AS_MASK, _AS_ANY = 0.8, 0.9


@dataclass(frozen=True)
class Vocabulary:
    """What masking knows of a tokenizer: its size, the mask token, and the tokens that are never hidden."""

    size: int
    mask_id: int
    special_ids: Collection[int]


@dataclass(frozen=True)
class MaskedText:
    """A text with hidden tokens.

    Attributes:
        tokens: What the model sees.
        token_types: As long as `tokens`, or empty.
        places: Where tokens are hidden.
        hidden: The tokens there.
    """

    tokens: Sequence[int]
    token_types: Sequence[int]
    places: Sequence[int]
    hidden: Sequence[int]


def mask(key: int, tokens: Sequence[int], token_types: Sequence[int], epoch: int, of: Vocabulary) -> MaskedText:
    """Hide tokens of a text, at least one, drawn from its key and the epoch alone.

    Args:
        key: 64 bits of the text's own.
        tokens: Its tokens, of which one at least is no special one.
        token_types: As long as `tokens`, or empty.
        epoch: Each has a draw of its own.
        of: The vocabulary.
    """
    random = np.random.Generator(np.random.Philox(key=derived_key(key, "mask", epoch)))
    words = [place for place, token in enumerate(tokens) if token not in of.special_ids]
    hidden = random.random(len(words)) < SHARE
    hidden[random.integers(len(words))] |= not hidden.any()
    places = [place for place, chosen in zip(words, hidden, strict=True) if chosen]
    ways, others = random.random(len(places)), random.integers(of.size, size=len(places))
    seen = list(tokens)
    for place, way, other in zip(places, ways, others, strict=True):
        seen[place] = of.mask_id if way < _AS_MASK else int(other) if way < _AS_ANY else seen[place]
    return MaskedText(seen, token_types, places, [tokens[place] for place in places])
