"""Real bits and levels: those recorded for an arithmetic of this name, and PEFT's for real student answers.

`tests/parity/bits.json` is keyed by model, arithmetic and versions of libraries. What is not in it is skipped with its
digest; `python tests/support/recorded_bits.py` records it, which is a commit of its own.
"""

from pathlib import Path

import pytest

import recorded_bits
from recorded_bits import Bits, compute, read_record
from saf import ADAPTERS, SafRow, compare_with_peft, needs_data, read_rows
from scoremux_engine import Engine


@pytest.mark.parametrize("limit", ["", pytest.param("AVX2", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("model", ["encoder", pytest.param("decoder", marks=pytest.mark.nightly)])
def test_small_models_have_the_recorded_bits(model: str, limit: str) -> None:
    """`test_mixed_stores.py` compares AVX2 with what the processor has."""
    compare(compute(limit, [model]))


@pytest.mark.nightly
@pytest.mark.parametrize("limit", ["", "AVX2"])
def test_minilm_has_the_recorded_bits(saf_repository: Path, limit: str) -> None:
    compare(compute(limit, [saf_repository]))


def compare(computed: list[Bits]) -> None:
    """Fail for the first that differs; skip where some are not recorded, after the others were compared."""
    record, unlisted = read_record(), []
    assert computed
    for bits in computed:
        before = record.get(bits.key)
        if before is None:
            unlisted.append(f"{' '.join(bits.key)}: {bits.scores}")
        elif before.scores != bits.scores:
            pytest.fail(f"{bits.arithmetic} of {bits.model} has other bits than on {', '.join(before.processors)}")
    if unlisted:
        pytest.skip("not recorded: " + "; ".join(unlisted))


def test_record_keeps_float32_of_every_small_model() -> None:
    assert {bits.model for bits in read_record().values() if bits.arithmetic == "x86-f32"} >= {*recorded_bits.SMALL}


@pytest.mark.nightly
def test_there_are_27_tasks_and_the_sample_covers_them(saf_repository: Path) -> None:
    engine = Engine.open(saf_repository)
    assert len(engine.bank.tasks) == len(list(ADAPTERS.iterdir())) == 27


@pytest.mark.nightly
@needs_data
def test_saf_test_responses_get_pefts_level_through_triton(saf_repository: Path) -> None:
    """Two responses of each task; `tests/slow/test_saf.py` takes all 680."""
    of_task: dict[str, list[SafRow]] = {}
    for row in read_rows():
        of_task.setdefault(row.task, []).append(row)
    compare_with_peft(saf_repository, [row for rows in of_task.values() for row in rows[:2]])
