"""Small encoders of nine families, with seeded random weights: what has no weights in the registries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from making import WORDS

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}


@dataclass(frozen=True)
class Family:
    """How to make one: its config class and options, which sites PEFT users target, where its padding token is."""

    config: Callable[..., Any]
    sites: str
    options: dict[str, Any]
    pad_id: int = 0
    max_tokens: int = 66


FAMILIES = {
    "bert": Family(transformers.BertConfig, "query,value", _SIZES),
    "roberta": Family(transformers.RobertaConfig, "query,value", _SIZES, pad_id=1, max_tokens=64),
    "xlm-roberta": Family(transformers.XLMRobertaConfig, "query,key,value,dense", _SIZES, pad_id=1, max_tokens=64),
    "distilbert": Family(
        transformers.DistilBertConfig,
        "q_lin,v_lin",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 66},
    ),
    "electra": Family(transformers.ElectraConfig, "all-linear", {**_SIZES, "embedding_size": 16}),
    "albert": Family(transformers.AlbertConfig, "all-linear", {**_SIZES, "embedding_size": 16}),
    "mpnet": Family(transformers.MPNetConfig, r"re:.*attention\.attn\.[qv]", _SIZES, pad_id=1, max_tokens=64),
    "deberta-v2": Family(
        transformers.DebertaV2Config,
        "query_proj,key_proj,value_proj",
        {
            **_SIZES,
            "relative_attention": True,
            "position_buckets": 8,
            "pos_att_type": ["c2p", "p2c"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
        },
    ),
    "modernbert": Family(
        transformers.ModernBertConfig,
        "Wqkv",
        {**_SIZES, "local_attention": 8, "global_attn_every_n_layers": 2},
    ),
}


def make_family(name: str, folder: Path) -> Path:
    """Write a small encoder of the family, without a head, and a tokenizer for it."""
    family = FAMILIES[name]
    specials = ["[PAD]", "[CLS]"] if family.pad_id == 0 else ["[CLS]", "[PAD]"]
    vocabulary = [*specials, "[SEP]", "[UNK]", "[MASK]", *dict.fromkeys(WORDS)]
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, vocabulary.index(t)) for t in ("[CLS]", "[SEP]")]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(11)
    config = family.config(vocab_size=len(vocabulary), pad_token_id=family.pad_id, **family.options)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder
