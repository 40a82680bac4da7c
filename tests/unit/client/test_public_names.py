"""`import scoremux`: public names, each imported when it is used."""

import math
import subprocess
import sys

import numpy as np
import pytest

import scoremux


def test_every_public_name_is_there() -> None:
    for name in scoremux.__all__:
        assert getattr(scoremux, name) is not None
    with pytest.raises(AttributeError, match="nobody"):
        getattr(scoremux, "nobody")  # noqa: B009


def test_importing_it_and_its_client_loads_no_engine_and_no_statistics() -> None:
    code = "import sys, scoremux; scoremux.Client; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"scoremux_engine", "scoremux_assess", "openvino", "typer", "pyarrow", "pydantic"} & set(loaded)


def test_name_without_its_extra_says_how_to_install_it() -> None:
    code = "import sys; sys.modules['tokenizers'] = None; import scoremux; scoremux.Engine"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert last == "ImportError: scoremux.Engine needs tokenizers: pip install 'scoremux[serve]'"


def test_agreement_of_two_columns() -> None:
    found = scoremux.agreement([0, 1, 2, 1], [0, 1, 2, 2], [0, 1, None, 1])
    assert (found.n, found.exact, found.adjacent, found.human_exact) == (4, 0.75, 1.0, 1.0)
    assert found.qwk == pytest.approx(0.8)
    assert math.isnan(scoremux.agreement([], []).qwk)
    assert math.isnan(scoremux.agreement(np.array([1, 1]), np.array([1, 1])).human_qwk)
    with pytest.raises(ValueError, match="differ in length"):
        scoremux.agreement([0, 1], [0])
