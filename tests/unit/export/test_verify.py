"""What `scoremux export verify` says of two sets of logits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from making import TASKS
from scoremux_assess.labels.labelled_row import LabelledRow
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.runners.choose import REFERENCE, RunnerChoice
from scoremux_export.plans.reduced_precision import write_reduced
from scoremux_export.verify_graph import PrecisionChange, compare, verify

NAN = np.nan
EXPECTED = np.array([[3, 1, 0], [0, 2, 1.5], [1, 0, NAN], [NAN, NAN, NAN]], dtype=np.float32)


def test_equal_logits_give_a_clean_verdict() -> None:
    verdict = compare(REFERENCE, EXPECTED, EXPECTED.copy(), [0, 1, 0, None])
    assert (verdict.rows, verdict.max_abs_logit_difference, verdict.equal) == (3, 0, 1)
    assert math.isnan(verdict.smallest_flip)
    assert verdict.qwk == verdict.reference_qwk == 1


def test_a_flip_is_counted_with_the_references_margin() -> None:
    got = EXPECTED.copy()
    got[1, 2] = 2.25
    got[2, 1] = 1.5
    verdict = compare(REFERENCE, EXPECTED, got, [0, 1, 0, None])
    assert verdict.equal == pytest.approx(1 / 3)
    assert verdict.max_abs_logit_difference == pytest.approx(1.5)
    assert (verdict.smallest_flip, verdict.largest_flip) == (0.5, 1.0)
    assert verdict.qwk < verdict.reference_qwk


def test_rows_without_a_known_level_count_for_everything_but_kappa() -> None:
    verdict = compare(REFERENCE, EXPECTED, EXPECTED.copy(), [None, None, None, None])
    assert verdict.rows == 3
    assert math.isnan(verdict.qwk)


def test_the_graphs_written_in_other_precisions_are_compared_too(own_repository: Path) -> None:
    texts = ["the water moves", "heat"] * len(TASKS)
    rows = [LabelledRow(str(n), [*TASKS, *TASKS][n], NAN, None, text=text) for n, text in enumerate(texts)]
    assert list(verify(own_repository, rows, offered=())) == []
    write_reduced(Backbone.open(own_repository / "backbone" / "1"), "bfloat16")
    (verdict,) = verify(own_repository, rows, offered=())
    assert isinstance(verdict, PrecisionChange)
    assert (verdict.runner, verdict.rows) == (RunnerChoice("tensorrt", precision="bfloat16"), 2 * len(TASKS))
    assert 0 < verdict.max_abs_logit_difference < 0.1
