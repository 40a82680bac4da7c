"""OpenVINO's float32 has the same bits under AVX2 and AVX-512.

A limit of oneDNN bounds its kernels alone: `make nightly` emulates a processor without AVX-512, with caches of another
size, for all families (`tests/slow/test_one_arithmetic.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arithmetic import digests

MIXES = 14


@pytest.mark.parametrize("limit", ["AVX2", pytest.param("AVX512_CORE", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("family", ["bert", "qwen3", pytest.param("gemma2", marks=pytest.mark.nightly)])
def test_float32_is_one_arithmetic(family: str, limit: str, exported_family: Callable[[str], Path]) -> None:
    """Gemma 2 has windows that slide and soft caps, too."""
    narrow, wide = (digests(exported_family(family) / "backbone" / "1", at, MIXES, 128) for at in (limit, ""))
    assert narrow == wide
    assert len(set(wide)) == MIXES
