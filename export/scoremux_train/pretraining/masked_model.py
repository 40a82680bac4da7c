"""Texts with hidden tokens, and an encoder with a head that finds them, its parameters in one row."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from scoremux_export.opening.classifier import Classifier
from scoremux_train.errors import TrainError
from scoremux_train.recipe import derived_key
from scoremux_train.training.batches import Example, padded

SHARE = 0.15
"""Of the tokens that are hidden: 80 % as the mask token, 10 % as any token, 10 % as they are."""

_AS_MASK, _AS_ANY = 0.8, 0.9


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's number of tokens, its mask token, and the tokens that are never hidden."""

    size: int
    mask_id: int
    special_ids: Collection[int]


@dataclass(frozen=True)
class MaskedText:
    """A text as the model sees it, the places where tokens are hidden, and the tokens that belong there."""

    tokens: Sequence[int]
    token_types: Sequence[int]
    places: Sequence[int]
    hidden: Sequence[int]


def mask(text: Example, epoch: int, vocabulary: Vocabulary) -> MaskedText:
    """Hide tokens of a text, at least one, drawn from its key and the epoch alone.

    One token of the text at least must not be special.
    """
    random = np.random.Generator(np.random.Philox(key=derived_key(text.key, "mask", epoch)))
    words = [place for place, token in enumerate(text.tokens) if token not in vocabulary.special_ids]
    hidden = random.random(len(words)) < SHARE
    hidden[random.integers(len(words))] |= not hidden.any()
    places = [place for place, chosen in zip(words, hidden, strict=True) if chosen]
    ways, others = random.random(len(places)), random.integers(vocabulary.size, size=len(places))
    tokens = list(text.tokens)
    for place, way, other in zip(places, ways, others, strict=True):
        if way < _AS_ANY:
            tokens[place] = vocabulary.mask_id if way < _AS_MASK else int(other)
    return MaskedText(tokens, text.token_types, places, [text.tokens[place] for place in places])


class MaskedModel:
    """A model for masked tokens.

    Args:
        model: Its parameters become views of `values`.
        pad_id: The token that fills rows up.

    Attributes:
        values: The encoder's parameters, then the head's, float32 [P].
        encoder_width: The number of the encoder's parameters.
    """

    def __init__(self, model: nn.Module, pad_id: int) -> None:
        self._model, self._pad_id = model.eval(), pad_id
        of_encoder = {id(parameter) for parameter in self.encoder.parameters()}
        # Output weights that are tied to the embeddings are the encoder's, and are there once.
        self._parameters = sorted(model.parameters(), key=lambda parameter: id(parameter) not in of_encoder)
        self.encoder_width = sum(p.numel() for p in self._parameters if id(p) in of_encoder)
        self.read(torch.cat([parameter.detach().reshape(-1) for parameter in self._parameters]))

    @classmethod
    def open(cls, classifier: Classifier, seed: int) -> MaskedModel:
        """Open a classifier's source as a model for masked tokens; a head that it lacks begins at random, from `seed`.

        Raises:
            TrainError: The model is not for masked tokens, such as a decoder, or its tokenizer has no mask token.
        """
        config, source = classifier.model.config, classifier.source
        kind = type(config)
        if kind not in transformers.MODEL_FOR_MASKED_LM_MAPPING or getattr(config, "is_decoder", False):
            raise TrainError(
                f"{source} is a {type(classifier.model).__name__}, which is not trained on masked tokens: decoders are "
                "not pretrained here; train adapters on it as it is"
            )
        if classifier.tokenizer.mask_token_id is None:
            raise TrainError(f"{source}'s tokenizer has no mask token")
        torch.manual_seed(seed)
        model = transformers.AutoModelForMaskedLM.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
        return cls(model, classifier.pad_id)

    @property
    def encoder(self) -> Any:
        """The model without its head."""
        return self._model.base_model

    def read(self, values: torch.Tensor) -> None:
        """Make the parameters views of float32 [P]."""
        self.values, start = values, 0
        for parameter in self._parameters:
            parameter.data = values[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def copy(self) -> MaskedModel:
        """Return another that shares the parameters."""
        shared = (*self._model.parameters(), *self._model.buffers(), self.values)
        return copy.deepcopy(self, {id(tensor): tensor for tensor in shared})

    def gradient(self, batch: Sequence[MaskedText], hidden: int) -> torch.Tensor:
        """Return the gradient of a batch's part of the mean loss over `hidden` tokens: float32 [P]."""
        parts = torch.autograd.grad(self._loss(batch) / hidden, self._parameters, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    @torch.inference_mode()
    def loss(self, batch: Sequence[MaskedText]) -> float:
        """Return the sum of the cross entropies of a batch's hidden tokens."""
        return float(self._loss(batch))

    def _loss(self, batch: Sequence[MaskedText]) -> torch.Tensor:
        rows = torch.tensor([row for row, text in enumerate(batch) for _ in text.places])
        places = torch.tensor([place for text in batch for place in text.places])

        def select(_encoder: Any, _inputs: Any, output: Any) -> Any:
            # The head works token by token: the others are not computed.
            output["last_hidden_state"] = output["last_hidden_state"][rows, places][None]
            return output

        hook = self.encoder.register_forward_hook(select)
        try:
            logits = self._model(**padded(batch, self._pad_id), return_dict=True).logits[0]
        finally:
            hook.remove()
        targets = torch.tensor([token for text in batch for token in text.hidden])
        return nn.functional.cross_entropy(logits, targets, reduction="sum")
