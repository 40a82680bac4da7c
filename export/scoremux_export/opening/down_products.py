"""x @ A of sites that read the same x, such as query and value: one product instead of one a site."""

from __future__ import annotations

from collections.abc import Callable

import torch


class DownProducts:
    """Gives each site its x @ A[group] float32 [B, S, R] ([B, 1, R] for x [B, D_in]).

    A product with R columns leaves most of a vector unit idle, so sites that were handed the same x in the last whole
    pass get theirs as slices of one product: x @ [A_1 | A_2 …] = [x @ A_1 | x @ A_2 …], column by column. The first
    pass of a model learns who shares; it and a pass that turns out otherwise lose speed only.
    """

    def __init__(self) -> None:
        self._siblings: dict[str, tuple[str, ...]] = {}
        self._readers: dict[int, tuple[torch.Tensor, list[str]]] = {}
        self._ready: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, site: str, x: torch.Tensor, gather_a: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """Return the product of `site`; gather_a(site) is A[group] float32 [B, D_in, R]."""
        _, readers = self._readers.setdefault(id(x), (x, []))  # x is held, so that its id stays its own
        readers.append(site)
        made_from, product = self._ready.pop(site, (None, None))
        if product is None or made_from is not x:
            self._multiply(x, self._siblings.get(site, (site,)), gather_a)
            _, product = self._ready.pop(site)
        return product

    def _multiply(self, x: torch.Tensor, sites: tuple[str, ...], gather_a: Callable[[str], torch.Tensor]) -> None:
        tables = [gather_a(site) for site in sites]
        read = x.unsqueeze(1) if x.dim() == 2 else x
        product = read @ (torch.cat(tables, 2) if len(tables) > 1 else tables[0])
        parts = torch.split(product, [table.shape[2] for table in tables], dim=2) if len(tables) > 1 else [product]
        self._ready.update({site: (x, part) for site, part in zip(sites, parts, strict=True)})

    def learn(self) -> None:
        """Remember who was handed the same x in the pass that ends."""
        shared = [tuple(dict.fromkeys(readers)) for _, readers in self._readers.values()]
        self._siblings = {site: sites for sites in shared for site in sites}

    def forget(self) -> None:
        """Let go of the pass's tensors."""
        self._readers.clear()
        self._ready.clear()
