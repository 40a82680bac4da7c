"""Tensors that all rows of a batch share until a site makes them differ by row.

Some encoders feed a site with something that has no rows, such as an embedding of relative positions [1, P, D]
(DeBERTa). Its adapters differ by row, so the site's output has rows, and the model's own step that repeats the shared
thing for every row must not repeat it again.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SharedRows(TorchFunctionMode):
    """While active, follows tensors that got rows early; `repeat` over rows of these tensors changes nothing.

    Rows come first in both [B, P, D] and its reshaping to [B·heads, P, d]; repeating whole blocks B times and keeping
    the first block is the identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self._followed: dict[int, torch.Tensor] = {}

    def follow(self, tensor: torch.Tensor) -> torch.Tensor:
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
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        followed = bool(tensors) and all(id(t) in self._followed for t in tensors)
        if followed and function is torch.Tensor.repeat:
            return args[0]
        result = function(*args, **(kwargs or {}))
        if followed and isinstance(result, torch.Tensor):
            self.follow(result)
        return result
