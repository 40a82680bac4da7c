"""Sites that read the same x are computed together in training."""

import pytest
import torch
from torch import nn

from scoremux_train.training.shortcuts import FrozenLinear
from scoremux_train.training.side_products import RowPlaces, SideProducts

SITES = {"q": 8, "v": 4, "o": 2}
"""Ranks."""


class _NotedTables(dict[str, torch.Tensor]):
    """Tables that note which of them were read."""

    def __init__(self, tables: dict[str, torch.Tensor]) -> None:
        super().__init__(tables)
        self.names: list[str] = []

    def __getitem__(self, name: str) -> torch.Tensor:
        self.names.append(name)
        return super().__getitem__(name)


@pytest.fixture
def tables() -> _NotedTables:
    draw = torch.Generator().manual_seed(1)
    sizes = {f"A.{site}": (3, 16, rank) for site, rank in SITES.items()}
    sizes |= {f"B.{site}": (3, rank, 6) for site, rank in SITES.items()}
    return _NotedTables({name: torch.randn(size, generator=draw) for name, size in sizes.items()})


@pytest.fixture
def products() -> SideProducts:
    products = SideProducts()
    products.places = RowPlaces(tables=[(0, 1), (1, 2), (2, 3)], lengths=[5, 5, 5])
    return products


def _apply(products: SideProducts, site: str, x: torch.Tensor, base: nn.Linear, tables: _NotedTables) -> list[str]:
    """Compute a site and compare it; return the names of the tables that were read for it."""
    tables.names.clear()
    y = products.apply(site, x, FrozenLinear(base), tables)
    read = [*tables.names]
    torch.testing.assert_close(y, base(x) + x @ tables[f"A.{site}"] @ tables[f"B.{site}"])
    return read


def test_sites_that_read_one_input_are_computed_as_one(products: SideProducts, tables: _NotedTables) -> None:
    x, other = torch.randn(3, 5, 16), torch.randn(3, 5, 16)
    base = nn.Linear(16, 6).requires_grad_(False)
    for together in (False, True):
        assert _apply(products, "q", x, base, tables) == (["A.q", "A.v", "B.q", "B.v"] if together else ["A.q", "B.q"])
        assert _apply(products, "o", other, base, tables) == ["A.o", "B.o"]
        assert _apply(products, "v", x, base, tables) == ([] if together else ["A.v", "B.v"])
        products.learn()
        products.forget()
    for v_reads in (x, other):
        _apply(products, "q", x, base, tables)
        _apply(products, "v", v_reads, base, tables)
        products.learn()
        products.forget()
