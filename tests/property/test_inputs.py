"""Tasks that show the model different things, in one batch: PEFT's logits, and no bit changed, on any runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from computed import computed_runners
from scoremux_engine import Engine
from scoremux_engine.selftest import run_selftest
from shown import BACKBONES, make_repository, measure


@pytest.fixture(scope="module", params=BACKBONES)
def repository(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return make_repository(request.param, tmp_path_factory.mktemp(request.param))


def test_the_logits_of_pairs_and_templates_in_one_batch_are_those_of_peft(repository: Path) -> None:
    distance = measure(repository, 150, seed=6)
    assert distance.max_abs_difference <= 1e-4
    assert distance.levels == 0
    assert (distance.without_types > 1e-2) == Engine.open(repository).backbone.spec.token_types


@pytest.mark.parametrize("name", computed_runners())
def test_rows_of_different_inputs_in_one_batch_keep_their_bits(repository: Path, name: str) -> None:
    test = run_selftest(Engine.open(repository, runner=computed_runners()[name]), mixes=25, longest=96)
    assert test.changed is None and len(test.buckets) > 5
