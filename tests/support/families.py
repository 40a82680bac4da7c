"""Small models of many families, with adapters of many kinds."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

from computed import computed_precisions
from making import WORDS
from mixed_store import Kind
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.tables import Tables
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.runners.runner import Outputs, RowInputs
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening

POSITIONS = 256

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}


_GEMMA3 = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_ATTENTION = "q_proj,k_proj,v_proj,o_proj"


@dataclass(frozen=True)
class Family:
    """How to make one: its config class and options, which sites PEFT users target, where its padding token is.

    decoder: it is saved as a model that writes text, with the embeddings tied to its output, and its tokenizer has no
    [CLS] and [SEP] but a token that starts a text.
    """

    config: Callable[..., Any]
    sites: str
    options: dict[str, Any]
    pad_id: int = 0
    max_tokens: int = 66
    decoder: bool = False


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
        transformers.ModernBertConfig, "Wqkv", {**_SIZES, "local_attention": 8, "global_attn_every_n_layers": 2}
    ),
    "llama": Family(transformers.LlamaConfig, "all-linear", _DECODER, decoder=True),
    "qwen2": Family(transformers.Qwen2Config, _ATTENTION, _DECODER, decoder=True),
    "qwen3": Family(transformers.Qwen3Config, _ATTENTION, _DECODER, decoder=True),
    "gemma2": Family(transformers.Gemma2Config, "all-linear", {**_DECODER, "sliding_window": 8}, decoder=True),
    "gemma3": Family(transformers.Gemma3TextConfig, "all-linear", {**_DECODER, **_GEMMA3}, decoder=True),
    "mistral": Family(transformers.MistralConfig, "q_proj,v_proj", {**_DECODER, "sliding_window": 8}, decoder=True),
    "phi3": Family(transformers.Phi3Config, "qkv_proj,down_proj", {**_DECODER, "sliding_window": 8}, decoder=True),
    "modernbert-decoder": Family(
        transformers.ModernBertDecoderConfig,
        "q_proj,v_proj,Wo",
        {**_SIZES, "local_attention": 8, "global_attn_every_n_layers": 2},
        decoder=True,
    ),
}
QUICK = ("bert", "qwen3")
"""Families that `make test` tries; `make nightly` tries all."""
WHOLE = ("deberta-v2", "modernbert", "modernbert-decoder")
"""Saved with the head: parts of it are no part of the tasks' own."""
DECODERS = tuple(name for name, family in FAMILIES.items() if family.decoder)


def each_family(names: Iterable[str] = tuple(FAMILIES)) -> list[Any]:
    """Return a parameter for each family; those that are not quick are for `make nightly`."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.nightly) for name in names]


def make_family(name: str, folder: Path, **options: Any) -> Path:
    """Write a small model of the family, without a head, and a tokenizer for it; `options` replace its config's."""
    family = FAMILIES[name]
    specials = ["[PAD]", "[CLS]"] if family.pad_id == 0 else ["[CLS]", "[PAD]"]
    vocabulary = [*specials, "[SEP]", "[UNK]", "[MASK]", *dict.fromkeys(WORDS)]
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A" if family.decoder else "[CLS] $A [SEP]",
        special_tokens=[(t, vocabulary.index(t)) for t in ("[CLS]", "[SEP]")],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    torch.manual_seed(11)
    config = family.config(vocab_size=len(vocabulary), pad_token_id=family.pad_id, **{**family.options, **options})
    kind = transformers.AutoModelForCausalLM if family.decoder else transformers.AutoModel
    if name in WHOLE:
        kind = transformers.AutoModelForSequenceClassification
    kind.from_config(config).save_pretrained(folder)
    return folder


class AllRunners(OnnxRuntimeRunner):
    """The reference; OpenVINO, which packs tokens, has to give the same, and in int8 nearly the same."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, threads=1)
        self._backbone = backbone

    @cached_property
    def _others(self) -> tuple[OpenVinoRunner, OpenVinoRunner]:
        packed = OpenVinoRunner(self._backbone, "float32", threads=1)
        assert packed.packed_inputs
        int8 = OpenVinoRunner(self._backbone, "int8", threads=1) if "int8" in computed_precisions() else packed
        return packed, int8

    def run(self, rows: RowInputs, tables: Tables, *, pooled: bool = False) -> Outputs:
        out = super().run(rows, tables, pooled=pooled)
        if not self._backbone.measured:  # these are the expected outputs, and int8 has no ranges yet
            return out
        packed, int8 = self._others
        np.testing.assert_allclose(packed.run(rows, tables, pooled=pooled).logits, out.logits, atol=1e-4)
        off = int8.run(rows, tables).logits - out.logits
        assert np.sqrt((off**2).mean()) <= 0.1 * out.logits.std()
        return out


def export_family(name: str, folder: Path) -> None:
    """Export a small model of the family, open for adapters of every kind and proved with all runners.

    Decoders take texts long enough for prefixes, and their weights are beside the graph. A product of BERT's is so long
    that OpenVINO sums it in pieces. The model is in ``source``.
    """
    family = FAMILIES[name]
    options = {"max_position_embeddings": POSITIONS} if family.decoder else {}
    if name == "bert":
        options["intermediate_size"] = 1536
    source = make_family(name, folder / "source", **options)
    opening = Opening(family.sites, dora=True, bias=True)
    beside = {"one_file_bytes": 1000} if family.decoder else {}
    export_backbone(str(source), opening, folder, AllRunners, **beside)


_QUESTION = " ".join(WORDS)


def template(repeats: int, after: str = "") -> dict[str, Any]:
    """Return keys of `task.json` by which a question so many times as long as all words precedes each response."""
    return {"question": _QUESTION, "input": {"template": "{question} " * repeats + "{response}" + after}}


def kinds_of(family: str) -> tuple[Kind, ...]:
    """Return adapters of several ranks, kinds and heads; one gives one value in points; decoders' have prefixes too."""
    sites = FAMILIES[family].sites
    options = ({}, {"use_rslora": True}, {"use_dora": True}, {"lora_bias": True}, {})
    shapes = ((4, 5), (24, 2), (8, 3), (16, 20), (70, 4))
    classes = (Kind(rank, levels, sites, kind) for (rank, levels), kind in zip(shapes, options, strict=True))
    long, longer, pair = template(1, " [SEP] the"), template(3), {"first": "{question}", "second": "{response}"}
    prefixed = (
        Kind(8, 5, sites, task=long),
        Kind(4, 2, sites, {"use_dora": True}, longer),
        Kind(16, 3, sites, {"lora_bias": True}, {"question": _QUESTION, "input": pair}),
        Kind(70, 4, sites, task=longer, outputs=1),
    )
    return (*classes, Kind(8, 4, sites, outputs=1), *(prefixed if FAMILIES[family].decoder else ()))
