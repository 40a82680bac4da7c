"""Attention that reads keys and values of a prefix, for every family of decoders that transformers' interface serves.

A prefix is what all responses to a task begin with. With causal attention its keys and values do not depend on what
follows, so they are computed once and given to the graph as tables.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from scoremux_engine.model.backbone import PrefixLayer, kept_output, prefix_inputs
from scoremux_export.errors import ModelError
from scoremux_export.opening.classifier import copy_of

Rule = Callable[..., Tensor]
"""rule(row, head, query, key): whether the token at position `query` reads the one at `key`, as the family has it."""

_ATTENTION = "scoremux_prefix"
_TOLERANCE = 1e-4
_PREFIX, _TOKENS = 21, 32


@dataclass
class GraphPrefixes:
    """The inputs of attention in a forward pass, and the keys and values that it leaves. An opaque object on purpose.

    Attributes:
        tokens: The number of tokens of its prefix that each row reads, int64 [B].
        mask: 1 for a row's own tokens, 0 for padding, [B, S].
        gather: Returns table[group] by the graph's input name, [B, heads, P, width]; None in a pass without prefixes.
        kept: Each layer's keys and values of the rows' own tokens, [B, heads, S, width].
    """

    tokens: Tensor | None = None
    mask: Tensor | None = None
    gather: Callable[[str], Tensor] | None = None
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    _masks: dict[Rule, Tensor] = field(default_factory=dict)

    def attach(self, model: Any) -> None:
        """Let the model's attention read this object; nothing changes where a family has attention of its own."""
        model.set_attn_implementation(_ATTENTION)
        for module in model.modules():
            if hasattr(module, "layer_idx"):
                module.prefixes = self

    def positions(self, input_ids: Tensor) -> Tensor:
        """Return int64 [B, S]: the positions of the rows' own tokens, counted on from their prefixes."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device).unsqueeze(0)
        return places if self.tokens is None else self.tokens.unsqueeze(1) + places

    def outputs(self) -> dict[str, Tensor]:
        """Return the keys and values of the pass by the graph's output names."""
        return {
            kept_output(name): tensor
            for layer, tensors in sorted(self.kept.items())
            for name, tensor in zip(prefix_inputs(layer), tensors, strict=True)
        }

    def forget(self) -> None:
        """Let go of the pass's tensors."""
        self.tokens = self.mask = self.gather = None
        self.kept.clear()
        self._masks.clear()

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return a layer's keys and values behind those of the rows' prefixes, [B, heads, P + S, width]."""
        self.kept[layer] = key, value
        if self.gather is None:
            return key, value
        keys, values = (self.gather(name) for name in prefix_inputs(layer))
        return torch.cat([keys, key], 2), torch.cat([values, value], 2)

    def mask_of(self, rule: Rule, keys: int) -> Tensor:
        """Return float32 [B, 1, S, P + S]: 0 where a token reads a key, else what takes it out of a softmax."""
        if rule not in self._masks:
            self._masks[rule] = torch.where(self._readable(rule, keys), 0.0, torch.finfo(torch.float32).min)
        return self._masks[rule]

    def _readable(self, rule: Rule, keys: int) -> Tensor:
        """Return bool [B, 1, S, P + S]; padding reads itself, so that no softmax is over nothing."""
        if self.tokens is None or self.mask is None:
            raise ModelError("a model that reads prefixes is told how many tokens of them each row reads")
        positions = self.positions(self.mask)
        count = positions.shape[0]
        places = torch.arange(keys - self.mask.shape[1], device=positions.device).expand(count, -1)
        numbers = torch.arange(count, device=positions.device)
        rows = numbers[:, None, None, None]
        query = positions[:, None, :, None]
        key = torch.cat([places, positions], 1)[:, None, None, :]
        is_there = torch.cat([places < self.tokens.unsqueeze(1), self.mask > 0], 1)[:, None, None, :]
        is_own = torch.cat([places < 0, positions >= 0], 1)[:, None, None, :]
        is_itself = is_own & (query == key)
        return rule(rows, torch.zeros_like(rows), query, key) & (is_there | is_itself)


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """y = softmax(query · [prefix keys | key]ᵀ · scaling) · [prefix values | value], as transformers calls it.

    query [B, H, S, D]; key, value [B, H_kv, S, D]: H / H_kv queries read the same keys, which are never repeated.
    attention_mask: the family's `Rule`. Returns [B, S, H, D].
    """
    prefixes: GraphPrefixes = module.prefixes
    keys, values = prefixes.extend(module.layer_idx, key, value)
    rows, heads, tokens, width = query.shape
    shared = keys.shape[1]
    scaling = width**-0.5 if scaling is None else scaling
    scores = (query * scaling).reshape(rows, shared, -1, width) @ keys.transpose(2, 3)
    scores = scores.reshape(rows, heads, tokens, -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + prefixes.mask_of(attention_mask, keys.shape[2])
    weights = nn.functional.dropout(torch.softmax(scores, -1), dropout, module.training)
    read = weights.reshape(rows, shared, -1, keys.shape[2]) @ values
    return read.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous(), None


def _hand_over_rule(*_: Any, mask_function: Rule, **__: Any) -> Rule:
    """Return the rule itself where transformers asks for a mask: `attend` knows where keys and queries are."""
    return mask_function


transformers.AttentionInterface.register(_ATTENTION, attend)
transformers.AttentionMaskInterface.register(_ATTENTION, _hand_over_rule)


def find_prefix_layers(model: Any) -> tuple[PrefixLayer, ...]:
    """Return the layers whose attention can read prefixes; none where a model is not a decoder, or cannot be split.

    Tried, not looked up: a text in two parts must give the logits of the whole text.
    """
    config = model.config.get_text_config()
    ids = torch.randint(0, config.vocab_size, (1, _TOKENS), generator=torch.Generator().manual_seed(0))
    ids[:, -1] = (config.pad_token_id + 1) % config.vocab_size
    split, prefixes = copy_of(model), GraphPrefixes()
    try:
        with torch.inference_mode():
            whole = model(ids).logits
            prefixes.attach(split)
            _, layers = _run(split, prefixes, ids[:, :_PREFIX])
            tables = {n: t for layer, pair in layers.items() for n, t in zip(prefix_inputs(layer), pair, strict=True)}
            logits, _ = _run(split, prefixes, ids[:, _PREFIX:], _PREFIX, tables)
            # What fills a row up behind its prefix has positions beyond the limit, where a learned table has ended.
            _run(split, prefixes, ids, getattr(config, "max_position_embeddings", None) or 0)
    except Exception:  # whatever a family does in its own way
        return ()
    if not layers or not (logits - whole).abs().max() <= _TOLERANCE * whole.abs().max().clamp(min=1.0):
        return ()
    return tuple(
        PrefixLayer(layer=layer, heads=keys.shape[1], key_width=keys.shape[3], value_width=values.shape[3])
        for layer, (keys, values) in sorted(layers.items())
    )


def _run(
    model: Any,
    prefixes: GraphPrefixes,
    ids: Tensor,
    first: int = 0,
    tables: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
    """Return the logits of one text from position `first` on, behind the prefix in `tables`, and what was kept."""
    prefixes.tokens, prefixes.mask = torch.tensor([first]), torch.ones_like(ids)
    prefixes.gather = tables.__getitem__ if tables else None
    try:
        out = model(input_ids=ids, attention_mask=prefixes.mask, position_ids=prefixes.positions(ids))
        return out.logits, dict(prefixes.kept)
    finally:
        prefixes.forget()
