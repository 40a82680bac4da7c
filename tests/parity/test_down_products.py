from __future__ import annotations

import pytest
import torch

from scoremux_export.opening.down_products import DownProducts


@pytest.mark.parametrize("shape", [(3, 5, 16), (3, 16)])
def test_sites_that_read_the_same_input_share_one_product(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    x, other = (torch.randn(shape, generator=generator) for _ in range(2))
    tables = {name: torch.randn(3, 16, rank, generator=generator) for name, rank in (("q", 8), ("v", 4), ("o", 2))}
    gathered: list[str] = []

    def gather(site: str) -> torch.Tensor:
        gathered.append(site)
        return tables[site]

    products = DownProducts()
    for first_pass in (True, False):
        gathered.clear()
        made = {"q": products.of("q", x, gather), "o": products.of("o", other, gather)}
        assert gathered == (["q", "o"] if first_pass else ["q", "v", "o"])
        made["v"] = products.of("v", x, gather)
        assert sorted(gathered) == ["o", "q", "v"]
        for site, source in (("q", x), ("v", x), ("o", other)):
            rows = source if source.dim() == 3 else source.unsqueeze(1)
            torch.testing.assert_close(made[site], rows @ tables[site])
        products.learn()
        products.forget()


def test_a_pass_that_turns_out_otherwise_is_right_all_the_same() -> None:
    x, other = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    table = torch.randn(2, 8, 4)
    products = DownProducts()
    products.of("q", x, lambda _: table)
    products.of("v", x, lambda _: table)
    products.learn()
    products.forget()
    products.of("q", x, lambda _: table)
    torch.testing.assert_close(products.of("v", other, lambda _: table), other @ table)
