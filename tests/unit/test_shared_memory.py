"""Shared-memory regions: a server removes its own and nobody else's."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from scoremux_server.shared_memory import region_prefix, remove_regions

SHM = Path("/dev/shm")


@pytest.fixture
def runs() -> Iterator[tuple[str, str]]:
    """Prefixes of two runs of the server; the second's name starts with the first's."""
    name = f"test{secrets.token_hex(8)}"
    prefixes = region_prefix(name), region_prefix(f"{name}0")
    yield prefixes
    for prefix in prefixes:
        for region in SHM.glob(f"{prefix}*"):
            region.unlink()


def make(*names: str) -> list[Path]:
    for name in names:
        (SHM / name).write_bytes(b"region")
    return [SHM / name for name in names]


def test_all_regions_of_a_run_are_removed_and_named(runs: tuple[str, str]) -> None:
    mine, _ = runs
    regions = make(f"{mine}1", f"{mine}0", f"{mine}stub_2")
    assert remove_regions(mine) == sorted(region.name for region in regions)
    assert not any(region.exists() for region in regions)


def test_regions_of_other_runs_stay(runs: tuple[str, str]) -> None:
    mine, other = runs
    (region,) = make(f"{other}0")
    assert remove_regions(mine) == []
    assert region.exists()


def test_regions_of_other_programs_stay(runs: tuple[str, str]) -> None:
    mine, _ = runs
    make(f"{mine}0")
    others = {path for path in SHM.iterdir() if not path.name.startswith("scoremux_test")}
    remove_regions(mine)
    assert others <= set(SHM.iterdir())


def test_nothing_left_behind_is_nothing_to_remove(runs: tuple[str, str]) -> None:
    assert remove_regions(runs[0]) == []


def test_a_prefix_starts_with_the_products_name_and_ends_the_runs() -> None:
    assert region_prefix("ab12") == "scoremux_ab12_"
