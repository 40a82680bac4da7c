"""The model to export: a Hugging Face sequence classifier, an encoder or a decoder, with its tokenizer."""

import copy
import inspect
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import huggingface_hub
import tokenizers
import torch
import transformers
from huggingface_hub import constants
from torch import nn

from scoremux_engine.model.backbone import TOKEN_TYPE_IDS, HeadLinear
from scoremux_export.errors import ModelError
from scoremux_files.settings import quote_key

MOST_TOKENS = 2048
"""The most tokens of a text, unless the user says otherwise: attention takes memory with their square."""

# A tokenizer without a limit says 10^30.
_SANE_TOKENS = 1 << 20
# Rotary embeddings whose frequencies change where a batch is longer than what the model was first trained on.
_ROPE_BY_LENGTH = ("dynamic", "longrope")


@dataclass(frozen=True)
class Classifier:
    """A model that is ready to be opened.

    Attributes:
        model: The model in evaluation mode, with eager attention.
        pad_id: The token that fills rows up. A decoder's head reads the last token that is not this one.
        random: Modules whose weights the source lacks, so that transformers draws new ones each time.
    """

    source: str
    model: nn.Module
    tokenizer: Any
    max_tokens: int
    pad_id: int
    random: frozenset[str] = frozenset()

    @property
    def token_types(self) -> bool:
        """Whether tokens have types: the model takes more than one, and the tokenizer says which."""
        has_types = TOKEN_TYPE_IDS in inspect.signature(self.model.forward).parameters
        # A model without this setting (XLNet) takes any.
        types = getattr(self.model.config, "type_vocab_size", None)
        return has_types and types not in (0, 1) and TOKEN_TYPE_IDS in self.tokenizer.model_input_names

    @classmethod
    def open(cls, source: str, max_tokens: int | None = None) -> "Classifier":
        """Open a folder or hub id.

        Args:
            max_tokens: The most tokens of a text; None for the model's own limit, and MOST_TOKENS at most.

        Raises:
            ModelError: The model cannot be served, or takes fewer tokens.
        """
        tokenizer, model, missing = _load(source)
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(f"{source} has no fast tokenizer (tokenizer.json)")
        if getattr(model.config, "is_encoder_decoder", False):
            raise ModelError(f"{source} is an encoder-decoder; encoders and decoders are served")
        limit = min(_limits(model, tokenizer), default=None)
        if limit is None and max_tokens is None:
            raise ModelError(
                "neither the tokenizer nor the model's config says how many tokens a text may have; use --max-tokens"
            )
        if limit is not None and max_tokens is not None and max_tokens > limit:
            raise ModelError(f"--max-tokens is {max_tokens:,}, but {source} takes {limit:,} tokens at most")
        config = model.config.get_text_config()
        config.pad_token_id = _pad_id(source, config, tokenizer)
        # A cache is for generating text.
        config.use_cache = False
        _fix_rotary_frequencies(model)
        # What is missing of a norm is ones and zeros.
        random = {n for n, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))} & missing
        most = max_tokens or min(limit or 0, MOST_TOKENS)
        opened = cls(source, model.eval(), tokenizer, most, config.pad_token_id, frozenset(random))
        opened.words()
        return opened

    def refuse_random(self, head: Iterable[HeadLinear]) -> None:
        """Raise ModelError if a module has random weights and adapters do not save it whole, as they do the head."""
        for name in sorted(self.random - {linear.name for linear in head}):
            raise ModelError(
                f"{self.source} has no weights for {name}, so every start draws random ones; save the whole model "
                "before you train adapters, or name the module in modules_to_save and export with --for and adapters"
            )

    def words(self) -> tokenizers.Tokenizer:
        """Return the tokenizer of `tokenizer.json`, without special tokens that the model has no embedding for.

        transformers adds some for itself, such as one that ends texts; a response that contains their names is text.
        Raises ModelError if responses would get other tokens than in training, or tokens without an embedding.
        """
        tokenizer, whose = self.tokenizer, f"{self.source}'s tokenizer"
        if tokenizer.split_special_tokens:
            raise ModelError(f"{whose} sets split_special_tokens, which tokenizer.json does not keep")
        if tokenizer.truncation_side != "right":
            raise ModelError(
                f"{whose} cuts long texts at the left, and the server at the right; if the adapters were trained "
                "with texts cut at the right, set tokenizer.truncation_side and save the tokenizer"
            )
        words: tokenizers.Tokenizer = tokenizer.backend_tokenizer
        embeddings = int(self.model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]
        beyond = {token: number for token, number in words.get_vocab().items() if number >= embeddings}
        # A copy, since a call changes what the tokenizer says of truncation and padding, and with it tokenizer.json.
        always = set(tokenizer.convert_ids_to_tokens(copy.deepcopy(tokenizer)("").input_ids))
        droppable = set(tokenizer.all_special_tokens) - always
        for token in sorted(beyond.keys() - droppable):
            raise ModelError(
                f"{whose} has the token {quote_key(token)} with the id {beyond[token]:,}, and the model has "
                f"{embeddings:,} embeddings; save the tokenizer and the model of the same training"
            )
        if not beyond:
            return words
        state = json.loads(words.to_str())
        state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < embeddings]
        return tokenizers.Tokenizer.from_str(json.dumps(state))


def quieten() -> None:
    """Keep transformers and torch's exporter from printing."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy whose modules are its own and whose weights are those of `model`, in the same memory."""
    weights = chain(model.parameters(), model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in weights})


def _refuse_absent(source: str) -> None:
    """Raise ModelError where neither a folder nor the hub has the model: transformers would try for minutes."""
    if Path(source).exists() or constants.HF_HUB_OFFLINE:
        return
    try:
        if not isinstance(huggingface_hub.try_to_load_from_cache(source, "config.json"), str):
            huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(source, "config.json"))
    except Exception as error:  # of several libraries
        raise ModelError(
            f"{source} is neither a folder nor a model that {constants.ENDPOINT} has ({type(error).__name__}); check "
            "the name, the network, and for a private model the token"
        ) from error


def _load(source: str) -> tuple[Any, Any, set[str]]:
    """Return the tokenizer, the model, and the names of the modules whose weights are not in the source."""
    _refuse_absent(source)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        model, loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
            source,
            dtype=torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        pickled = sorted(Path(source).glob("*.bin"))
        if pickled and not any(Path(source).glob("*.safetensors")):
            raise ModelError(f"{pickled[0]} is a pickle file, which is never opened; save as safetensors") from error
        raise ModelError(f"{source} cannot be opened as a sequence classifier: {error}") from error
    return tokenizer, model, {name.rpartition(".")[0] for name in loaded["missing_keys"]}


def _pad_id(source: str, config: Any, tokenizer: Any) -> int:
    """Return the model's padding token, else the tokenizer's, else the end-of-text token, as PEFT's users set it.

    The head of a decoder reads the last token that is not padding. So the choice changes scores where a tokenizer ends
    every text with the end-of-text token, and is left to the people who trained the adapters.
    """
    for token in (config.pad_token_id, tokenizer.pad_token_id):
        if token is not None and 0 <= token < config.vocab_size:
            return int(token)
    end = tokenizer.eos_token_id
    if end is None or tokenizer("a").input_ids[-1:] == [end]:
        raise ModelError(
            f"{source}'s tokenizer has no padding token: set tokenizer.pad_token and model.config.pad_token_id as in "
            f"training, and save both into the model's folder"
        )
    return int(end)


def _limits(model: Any, tokenizer: Any) -> list[int]:
    """Return the most tokens that the tokenizer, the position table and the rotary embeddings allow."""
    config = model.config.get_text_config()
    limits = []
    if tokenizer.model_max_length < _SANE_TOKENS:
        limits.append(int(tokenizer.model_max_length))
    positions = int(getattr(config, "max_position_embeddings", None) or 0)
    if positions > 0:
        limits.append(positions)
    for module in model.modules():
        # A position table that starts after the padding index (RoBERTa and its kin) holds fewer tokens than rows.
        if isinstance(module, nn.Embedding) and module.num_embeddings == positions and module.padding_idx is not None:
            limits.append(positions - module.padding_idx - 1)
        if getattr(module, "rope_type", None) in _ROPE_BY_LENGTH:
            limits.append(int(config.rope_parameters.get("original_max_position_embeddings", positions)))
    return limits


def _fix_rotary_frequencies(model: nn.Module) -> None:
    """Keep rotary frequencies as they are for texts within the limit, whatever else is in the batch."""
    for module in model.modules():
        if getattr(module, "rope_type", None) in _ROPE_BY_LENGTH:
            setattr(module, "rope_type", "default")  # noqa: B010  (mypy takes attributes of modules for tensors)
