"""Stores as varied as users' are, at length and at every instruction set: no bit changes."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mixed_store import KINDS, make_mixed_repository
from saf import minilm, needs_minilm
from scoremux_engine.runners.precisions import PRECISIONS
from scoremux_export.opening.openable import Opening
from serving import SCOREMUX
from waiting import Result, Scaled

pytestmark = needs_minilm
STEPS = ("", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2")
LONGEST_TOKENS = 32
"""Longer rows meet in smaller micro-batches, and take most of the time."""

# With the Linears of 1,536 columns open too, every row would gather 100 MB of tables.
ATTENTION = tuple(replace(kind, sites=kind.sites.removesuffix(",dense")) for kind in KINDS)
OPENING = Opening("query,key,value", dora=True, bias=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("mixed")
    make_mixed_repository(str(minilm()), repository, ATTENTION, OPENING)
    return repository


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("step", STEPS)
def test_no_mix_changes_a_bit(
    repository: Path, tmp_path: Path, step: str, precision: str, scaled: Scaled, result: Result
) -> None:
    """At every instruction set; a precision that it does not compute is refused in a sentence."""
    (tmp_path / "profile.toml").write_text(f'runner = "openvino"\nprecision = "{precision}"\n')
    status, said = selftest(repository, tmp_path / "profile.toml", step, scaled(2000))
    where = f", oneDNN limited to {step}" if step else ""
    refused = f"this processor does not compute in {precision}" in said
    result(
        f"rows of a mixed store with other bits, {scaled(2000):,} mixes, openvino {precision}{where}",
        "refused at the start" if refused else "0" if status == 0 else said,
    )
    assert status == 0 or (refused and precision != "float32")


def test_no_mix_changes_a_bit_in_onnxruntime(repository: Path, scaled: Scaled, result: Result) -> None:
    """It has no switch for instruction sets."""
    status, said = selftest(repository, "cpu-reference", "", scaled(2000))
    result(
        f"rows of a mixed store with other bits, {scaled(2000):,} mixes, onnxruntime float32",
        "0" if status == 0 else said,
    )
    assert status == 0


def selftest(repository: Path, profile: Path | str, step: str, mixes: int) -> tuple[int, str]:
    """Return the exit status of `scoremux selftest`, and what it said on standard error."""
    words = ["--profile", str(profile), "--mixes", str(mixes), "--longest", str(LONGEST_TOKENS)]
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    if step:
        environment["ONEDNN_MAX_CPU_ISA"] = step
    command = [SCOREMUX, "selftest", str(repository), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)
    return done.returncode, done.stderr.strip()
