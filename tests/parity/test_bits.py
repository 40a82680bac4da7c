"""The bits of scores are those that are recorded for an arithmetic of this name, on whatever processor this runs.

`tests/parity/bits.json` is keyed by model, arithmetic and versions of libraries. What is not in it is skipped with its
digest; `python tests/support/recorded_bits.py` records it, which is a commit of its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import recorded_bits
from recorded_bits import Bits, compute, read_record

LIMITS = ("", "AVX2")


@pytest.mark.parametrize("limit", LIMITS)
def test_small_models_have_the_recorded_bits(limit: str) -> None:
    compare(compute(limit, [], nodes=False), limit, [])


@pytest.mark.parametrize("limit", ["", pytest.param("AVX2", marks=pytest.mark.nightly)])
def test_minilm_has_the_recorded_bits(saf_repository: Path, limit: str) -> None:
    compare(compute(limit, [saf_repository], nodes=False), limit, [saf_repository])


def compare(computed: list[Bits], limit: str, folders: list[Path]) -> None:
    """Fail for the first that differs; skip where some are not recorded, after the others were compared."""
    record, unlisted = read_record(), []
    assert computed
    for bits in computed:
        before = record.get(bits.key)
        if before is None:
            unlisted.append(f"{' '.join(bits.key)}: {bits.scores}")
        elif before.scores != bits.scores:
            why = "" if folders else where_it_differs(bits, before, limit)
            message = f"{bits.arithmetic} of {bits.model} has other bits than on {', '.join(before.processors)}: {why}"
            pytest.fail(message)
    if unlisted:
        pytest.skip("not recorded: " + "; ".join(unlisted))


def where_it_differs(bits: Bits, before: Bits, limit: str) -> str:
    """Return the first operation whose output differs; this takes another computation, of all nodes."""
    (again,) = [other for other in compute(limit, []) if other.key == bits.key]
    return again.first_difference(before)


def test_first_operation_that_differs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with another exponential function."""
    record = read_record()
    before = next(bits for bits in record.values() if bits.model == "encoder" and bits.arithmetic == "x86-f32")
    place = next(n for n, node in enumerate(before.nodes) if node.startswith("Exp"))
    nodes = [
        *before.nodes[:place],
        "Exp 00000000",
        *(f"{node.split()[0]} 11111111" for node in before.nodes[place + 1 :]),
    ]
    other = Bits(*before.key, "f" * 64, nodes, before.processors)
    monkeypatch.setitem(globals(), "compute", lambda *_, **__: [other])
    with pytest.raises(pytest.fail.Exception, match=rf"x86-f32 of encoder has other bits .*operation {place}, Exp"):
        compare([other], "", [])
    unlisted = Bits("encoder", before.backbone, "avx10-f32", before.libraries, "f" * 64, [], ["a new processor"])
    with pytest.raises(pytest.skip.Exception, match=r"not recorded: encoder .* avx10-f32 .*: ffff"):
        compare([unlisted], "", [])


def test_record_keeps_float32_of_every_small_model() -> None:
    assert {bits.model for bits in read_record().values() if bits.arithmetic == "x86-f32"} >= {*recorded_bits.SMALL}
