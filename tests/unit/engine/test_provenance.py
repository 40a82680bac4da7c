"""The processor's name, which every figure carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoremux_engine.model.provenance import processor_name

CPUINFO = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: {name}\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("AMD EPYC", "AMD EPYC (family 25, model 17)"),
        ("AMD EPYC 9654 96-Core Processor", "AMD EPYC 9654 96-Core Processor"),
    ],
)
def test_a_name_without_a_model_gets_the_numbers_of_family_and_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    (tmp_path / "cpuinfo").write_text(CPUINFO.format(name=name))
    assert processor_name(tmp_path / "cpuinfo") == shown
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert processor_name(tmp_path / "cpuinfo") == f"{shown} (oneDNN limited to AVX2)"
