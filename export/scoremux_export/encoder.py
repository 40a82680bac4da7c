"""The encoder to export: a Hugging Face sequence classifier with its tokenizer."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from scoremux_engine.backbone import TOKEN_TYPE_IDS
from scoremux_export.errors import ModelError

# A tokenizer without a limit says 10^30.
_SANE_TOKENS = 1 << 20


@dataclass(frozen=True)
class Encoder:
    """`model` in evaluation mode with eager attention, its tokenizer, and the most tokens it takes."""

    source: str
    model: nn.Module
    tokenizer: Any
    max_tokens: int

    @property
    def config(self) -> Any:
        return self.model.config

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id)

    @property
    def token_types(self) -> bool:
        """Whether tokens have types: the model takes more than one, and the tokenizer says which."""
        taken = TOKEN_TYPE_IDS in inspect.signature(self.model.forward).parameters
        # A model without this setting (XLNet) takes any.
        types = getattr(self.config, "type_vocab_size", None)
        return taken and types not in (0, 1) and TOKEN_TYPE_IDS in self.tokenizer.model_input_names

    @classmethod
    def open(cls, source: str) -> Encoder:
        """Open a folder or hub id. Raises ModelError where it is no encoder with a fast tokenizer."""
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                source,
                dtype=torch.float32,
                attn_implementation="eager",
                trust_remote_code=False,
                use_safetensors=True,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            pickled = sorted(Path(source).glob("*.bin"))
            if pickled and not any(Path(source).glob("*.safetensors")):
                raise ModelError(
                    f"{pickled[0]} is a pickle file, which is never opened; save as safetensors"
                ) from error
            raise ModelError(f"{source} cannot be opened as a sequence classifier: {error}") from error
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(f"{source} has no fast tokenizer (tokenizer.json)")
        if tokenizer.pad_token_id is None:
            raise ModelError(f"{source}'s tokenizer has no padding token")
        if getattr(model.config, "is_decoder", False):
            raise ModelError(f"{source} is a decoder; only encoders are served")
        return cls(source, model.eval(), tokenizer, _max_tokens(model, tokenizer))

    def save_tokenizer(self, path: Path) -> None:
        """Write `tokenizer.json`."""
        self.tokenizer.backend_tokenizer.save(str(path))


def _max_tokens(model: Any, tokenizer: Any) -> int:
    """Return the most tokens both the tokenizer and the position table allow."""
    limits = [int(n) for n in (tokenizer.model_max_length,) if n < _SANE_TOKENS]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions and positions > 0:
        limits.append(int(positions))
    for module in model.modules():
        # A position table that starts after the padding index (RoBERTa and its kin) holds fewer tokens than rows.
        if isinstance(module, nn.Embedding) and module.num_embeddings == positions and module.padding_idx is not None:
            limits.append(positions - module.padding_idx - 1)
    if not limits:
        raise ModelError("neither the tokenizer nor the model's config says how many tokens a text may have")
    return min(limits)
