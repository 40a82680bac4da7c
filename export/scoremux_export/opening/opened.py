"""The opened model: its sites and its head read their adapter weights from inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scoremux_engine.model.backbone import (
    HeadLinear,
    PrefixLayer,
    Site,
    bias_input,
    head_inputs,
    magnitude_input,
    site_inputs,
)
from scoremux_export.errors import ModelError
from scoremux_export.opening.prefix import GraphPrefixes

Tables = dict[str, Tensor]


SiteProduct = Callable[[str, Tensor, nn.Module, Tables], Tensor]
"""product(site, x, base, tables): returns base(x) + (x @ A[group]) @ B[group]."""


class SharedRows(TorchFunctionMode):
    """While active, follows tensors that got rows early; `repeat` over rows of these tensors changes nothing.

    Some encoders feed a site with something that all rows share, such as an embedding of relative positions [1, P, D]
    (DeBERTa). Its adapters differ by row, so the site's output has rows, and the model's own step that repeats the
    shared thing for every row must not repeat it again.

    Rows come first in both [B, P, D] and its reshaping to [B·heads, P, d]; repeating whole blocks B times and keeping
    the first block is the identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self._followed: dict[int, Tensor] = {}

    def follow(self, tensor: Tensor) -> Tensor:
        """Follow `tensor` and whatever is made only of it."""
        self._followed[id(tensor)] = tensor  # held, so that its id stays its own
        return tensor

    def __torch_function__(
        self,
        function: Callable[..., Any],
        _types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        followed = bool(tensors) and all(id(t) in self._followed for t in tensors)
        if followed and function is Tensor.repeat:
            return args[0]
        result = function(*args, **(kwargs or {}))
        if followed and isinstance(result, Tensor):
            self.follow(result)
        return result


@dataclass
class SiteInputs:
    """The inputs of sites in a forward pass. An opaque object: torch.export forbids tensors as attributes of modules.

    Attributes:
        last: The place of each row's last token that is not padding, int64 [B].
        pooled: The input of the head's first Linear, float32 [B, H]; None before it was called.
        product: Computes sites in training; None in an exported graph.
        used: The names of the tables that the pass read.
    """

    group: Tensor | None = None
    last: Tensor | None = None
    pooled: Tensor | None = None
    shared: SharedRows = field(default_factory=SharedRows)
    product: SiteProduct | None = None
    tables: Tables = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    @property
    def rows(self) -> int:
        """B, which is a symbol under export."""
        return 0 if self.group is None else self.group.shape[0]

    def gather(self, name: str) -> Tensor:
        """Return table[group]: [B, …]."""
        if self.group is None:
            raise ModelError("an opened model runs through OpenedModel only")
        self.used.add(name)
        return torch.index_select(self.tables[name], 0, self.group)

    def forget(self) -> None:
        """Let go of the pass's tensors."""
        self.group, self.last, self.pooled, self.tables, self.shared = None, None, None, {}, SharedRows()


class OpenSite(nn.Module):
    """y[b] = (x[b] @ W + (x[b] @ A[group[b]]) @ B[group[b]]) · M[group[b]] + bias + d[group[b]]

    x float32 [B, S, D_in] or [B, D_in]; A [G, D_in, R]; B [G, R, D_out]; M, DoRA's magnitude over the norm of the
    merged column, and d, what the adapter adds to the bias, both [G, D_out] and only where the site takes them.
    """

    def __init__(self, site: Site, base: nn.Linear, inputs: SiteInputs) -> None:
        super().__init__()
        self.base = base
        self._inputs = inputs
        self._site = site

    def forward(self, x: Tensor) -> Tensor:
        name, inputs, product = self._site.name, self._inputs, self._inputs.product
        if x.dim() not in (2, 3):
            raise ModelError(f"{name} is called with {x.dim()} dimensions; a site takes [B, S, D] or [B, D]")
        first = x.shape[0]
        if isinstance(first, int):  # under export B is a symbol
            # 1 is a tensor that all rows share, or rows packed in training.
            has_rows = x.dim() == 2 or (first != 1 and product is None)
            if has_rows and first != inputs.rows:
                raise ModelError(f"{name} is called with {list(x.shape)}, not row by row; it cannot be a site")
        y = self._merged(x) if product is None else product(name, x, self.base, inputs.tables)
        is_shared = isinstance(first, int) and first == 1 and (product is None or y.shape[0] != 1)
        return inputs.shared.follow(y) if is_shared else y

    def _merged(self, x: Tensor) -> Tensor:
        # The base product keeps x's dimensions: a runner tells products over responses, [B, D], from those over tokens.
        # A of sites that read the same x is not concatenated for one product: copying tables costs more than it saves.
        site, by_row = self._site, x.dim() == 2
        a, b = map(self._inputs.gather, site_inputs(site.name))
        delta = ((x.unsqueeze(1) if by_row else x) @ a) @ b
        delta = delta.squeeze(1) if by_row else delta
        if site.dora:
            y = nn.functional.linear(x, self.base.weight) + delta
            y = y * self._vector(magnitude_input(site.name), by_row)
            y = y if self.base.bias is None else y + self.base.bias
        else:
            y = self.base(x) + delta
        return y + self._vector(bias_input(site.name), by_row) if site.bias else y

    def _vector(self, name: str, by_row: bool) -> Tensor:
        gathered = self._inputs.gather(name)
        return gathered if by_row else gathered.unsqueeze(1)

    @property
    def weight(self) -> Tensor:
        """Some models look at a Linear's dtype; none may compute with it directly."""
        return self.base.weight


class OpenHeadLinear(nn.Module):
    """y[b] = x[b] @ weight[group[b]] + bias[group[b]]; x float32 [B, D_in] or [B, S, D_in].

    Decoders hand over all tokens, [B, S, D_in], and read the result at the last one alone: that one is computed.
    """

    def __init__(self, name: str, inputs: SiteInputs, *, is_last: bool = True) -> None:
        super().__init__()
        self._name, self._inputs, self._is_last = name, inputs, is_last
        self._names = head_inputs(name)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 and not self._is_last:
            raise ModelError(f"{self._name} reads every token, so no adapter can have one of its own (modules_to_save)")
        weight, bias = map(self._inputs.gather, self._names)
        vector = x if x.dim() == 2 else x[torch.arange(x.shape[0], device=x.device), self._inputs.last]
        if self._inputs.pooled is None:
            self._inputs.pooled = vector
        y = (vector.unsqueeze(1) @ weight).squeeze(1) + bias
        return y if x.dim() == 2 else y.unsqueeze(1).expand(-1, x.shape[1], -1)


class OpenedModel(nn.Module):
    """logits = model(input_ids, attention_mask) with sites and head fed from `tables`, rows picking by `group`.

    pad_id: the token that decoders take for padding where they look for a row's last token. prefix_layers: the
    result of `find_prefix_layers`, or nothing for a model that reads no prefixes.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Sequence[Site],
        head: Sequence[HeadLinear],
        pad_id: int,
        prefix_layers: Sequence[PrefixLayer] = (),
    ) -> None:
        super().__init__()
        self.sites, self.head, self.prefix_layers = tuple(sites), tuple(head), tuple(prefix_layers)
        self._inputs, self._pad_id, self._prefixes = SiteInputs(), pad_id, GraphPrefixes()
        if prefix_layers:
            self._prefixes.attach(model)
        for site in sites:
            base = model.get_submodule(site.name)
            if not isinstance(base, nn.Linear):
                raise ModelError(f"{site.name} is a {type(base).__name__}, not a Linear, and cannot be a site")
            model.set_submodule(site.name, OpenSite(site, base, self._inputs))
        for linear in head:
            opened = OpenHeadLinear(linear.name, self._inputs, is_last=linear is head[-1])
            model.set_submodule(linear.name, opened)
        self.model = model
        # The exporter restores the wrapper's own mode: a wrapper left in training mode brings dropout back.
        self.eval()

    @property
    def used(self) -> set[str]:
        """Names of the tables that the last forward pass read."""
        return set(self._inputs.used)

    def set_sites(self, product: SiteProduct) -> None:
        """Let `product` compute the sites."""
        self._inputs.product = product

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        group: Tensor,
        tables: Tables,
        token_type_ids: Tensor | None = None,
        prefix_tokens: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return logits float32 [B, L] and pooled float32 [B, H], the vector that the head read.

        With `prefix_tokens`, int64 [B], the keys and values of each layer that reads prefixes follow.
        """
        inputs, prefixes = self._inputs, self._prefixes
        inputs.group, inputs.tables = group, tables
        inputs.last = _last_token(input_ids, self._pad_id)
        inputs.used.clear()
        also = {"token_type_ids": token_type_ids, "position_ids": position_ids}
        also = {name: tensor for name, tensor in also.items() if tensor is not None}
        if prefix_tokens is not None:
            prefixes.tokens, prefixes.mask, prefixes.gather = prefix_tokens, attention_mask, inputs.gather
            also["position_ids"] = prefixes.positions(input_ids)
        try:
            # Rows without a mask are packed (`packed.py`): they share nothing.
            with nullcontext() if attention_mask is None else inputs.shared:
                output: Any = self.model(input_ids=input_ids, attention_mask=attention_mask, **also)
            if inputs.pooled is None:
                raise ModelError("the model's forward calls no Linear of its head")
            return output.logits, inputs.pooled, *prefixes.outputs().values()
        finally:
            inputs.forget()
            prefixes.forget()


def _last_token(input_ids: Tensor, pad_id: int) -> Tensor:
    """Return int64 [B]: the place of the last token that is not padding, as transformers' classifiers find it."""
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    return (places * (input_ids != pad_id)).argmax(-1)
