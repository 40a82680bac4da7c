"""Small decoders of eight families: PEFT's logits, and no bit changed, on every runner and precision."""

from __future__ import annotations

from pathlib import Path

import pytest

from computed import computed_runners
from decoders import distance_from_peft, make_repository
from families import DECODERS
from proofs import Result, Scaled
from scoremux_engine import Engine
from scoremux_engine.selftest import run_selftest


@pytest.mark.parametrize("family", DECODERS)
def test_logits_are_pefts_and_bits_stay(family: str, tmp_path: Path, scaled: Scaled, result: Result) -> None:
    repository, rows, mixes = make_repository(family, tmp_path), scaled(400), scaled(300)
    distance = distance_from_peft(repository, family, rows, seed=2)
    figure = f"max |Δlogit| {distance.max_abs_difference:.1e}, {distance.levels} levels differ"
    result(f"{family} with adapters of many kinds in one batch against PEFT, {rows} rows", figure)
    assert distance.max_abs_difference <= 1e-4
    assert distance.levels == 0
    changed = {
        name: run_selftest(Engine.open(repository, runner=runner), mixes=mixes).changed
        for name, runner in computed_runners().items()
    }
    figure = "; ".join(f"{name} {change or 0}" for name, change in changed.items())
    result(f"{family}, {mixes} mixes for each runner: rows with other bits", figure)
    assert not any(changed.values())
