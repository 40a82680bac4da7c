"""Logits → levels and probabilities, against a sum in float64 one row at a time; equal bits everywhere."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from making import TASKS, adapter_tensors, make_adapter
from scoremux_client import Status
from scoremux_engine import Engine
from scoremux_engine.bank.live import Described
from scoremux_engine.model import exact_arithmetic
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.exact_arithmetic import product, total
from scoremux_engine.scoring.outcomes import TaskLists, decide, nearest
from scoremux_engine.scoring.permission import Grant
from scoremux_engine.store.store import Store

WIDTHS = [2, 3, 5, 9, 17, 100]


def logits(rows: int, width: int, scale: float = 3.0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(width).normal(0, scale, (rows, width)).astype(np.float32)


def softmax(row: npt.NDArray[np.float32]) -> list[float]:
    """p[i] = exp(z[i] − max z) / Σ exp(z − max z), the sum rounded once."""
    powers = [math.exp(float(z) - float(row.max())) for z in row]
    return [power / math.fsum(powers) for power in powers]


@pytest.mark.parametrize("width", WIDTHS)
def test_levels_and_probabilities_are_those_of_the_oracle_to_the_last_float32_digit(width: int) -> None:
    z = logits(200, width)
    levels, probabilities = decide(z)
    np.testing.assert_allclose(probabilities, np.array([softmax(row) for row in z]), rtol=1.2e-7, atol=0)
    assert levels.tolist() == [row.tolist().index(max(row)) for row in z]
    assert (levels.dtype, probabilities.dtype) == (np.int32, np.float32)


CLOSE = float(np.nextafter(np.float32(1.0), np.float32(2.0)))


def test_lower_level_wins_a_tie_of_logits_or_of_one_output() -> None:
    z = np.array([[1, 2, 2], [0, 0, 0], [3, 1, 3], [1.0, CLOSE, 0], [3e38, -3e38, -3e38], [-3e38] * 3], np.float32)
    levels, probabilities = decide(z)
    assert levels.tolist() == [1, 0, 0, 1, 0, 0]
    assert np.isfinite(probabilities).all() and probabilities[4].tolist() == [1.0, 0.0, 0.0]
    assert decide(z[-1:, :2])[1].tolist() == [[0.5, 0.5]]
    points = np.array([[0, 0.25, 1.0]] * 7)
    values = np.array([-3, 0.12, 0.125, 0.126, 0.625, 0.63, 40], dtype=np.float32)
    assert nearest(values, points).tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_row_has_the_same_bits_alone_in_a_slice_and_at_any_place_among_others(width: int) -> None:
    z = logits(33, width)
    together = decide(z)[1]
    assert b"".join(decide(row[None])[1].tobytes() for row in z) == together.tobytes()
    order = np.random.default_rng(0).permutation(len(z))
    assert decide(z[order])[1].tobytes() == together[order].tobytes()
    assert decide(np.pad(z, ((0, 0), (0, 5)))[:, :width])[1].tobytes() == together.tobytes()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_logits_that_are_not_finite_are_no_score(own_repository: Path, backbone: Backbone, tmp_path: Path) -> None:
    tensors = adapter_tensors(backbone.spec, 4, 5, seed=1)
    name = "base_model.model.classifier.weight"
    tensors[name] = np.sign(tensors[name]) * np.float32(3e38)
    folder = make_adapter(tmp_path / "huge", backbone.spec, "huge", tensors=tensors)
    Store(own_repository / "store").add([folder], backbone)
    engine = Engine.open(own_repository)
    (alone,) = engine.score(["the router"], ["t-1"])
    neighbour, huge = engine.score(["the router", "the router"], ["t-1", "huge"])
    assert (huge.status, huge.level, huge.probabilities, huge.version) == (Status.NOT_FINITE, -1, (), "")
    assert neighbour == alone


def test_one_output_is_a_value_in_points(own_repository: Path, backbone: Backbone, tmp_path: Path) -> None:
    points = [0, 0.25, 0.5, 2]
    tensors = adapter_tensors(backbone.spec, 4, 1, seed=3)
    folder = make_adapter(tmp_path / "v", backbone.spec, "v", tensors=tensors, task_json={"levels": points})
    Store(own_repository / "store").add([folder], backbone)
    engine = Engine.open(own_repository)
    texts = [f"the {word} is lost" for word in ("router", "packet", "bridge", "table", "tree", "window")]
    before = [engine.score(texts, [task] * len(texts)) for task in TASKS]
    tasks = ["v", *TASKS]
    mixed = engine.score([text for text in texts for _ in tasks], tasks * len(texts))
    assert [mixed[n :: len(tasks)] for n in range(1, len(tasks))] == before
    logits = engine.logits(texts, ["v"] * len(texts))
    assert np.isnan(logits[:, 1:]).all()
    for scored, value in zip(mixed[:: len(tasks)], logits[:, 0].tolist(), strict=True):
        assert scored.status is Status.OK
        assert scored.score == points[scored.level] == min(points, key=lambda point: (abs(point - value), point))
        assert scored.probabilities == ()


def test_task_list_is_kept_by_patterns_until_the_tasks_change() -> None:
    described = {"bio-1": ("v1", (0.0, 1.0)), "bio-2": ("v2", None), "math-1": ("v3", (0.0,))}
    one, all_tasks = Grant("one", 0, ("bio-*",)), Grant("all", 0, ("*",))
    lists = TaskLists(most_bytes=300)

    def listed(tasks: Described, grant: Grant | None, rows: int = 1) -> list[str]:
        column = lists.columns(tasks, rows, grant)["TASKS"]
        assert column.shape == (rows, 1) and set(column[1:, 0]) <= {b""}
        return [entry["id"] for entry in json.loads(column[0, 0])]

    assert listed(described, one, 3) == listed(described, Grant("other", 9, ("bio-*",))) == ["bio-1", "bio-2"]
    assert listed(described, all_tasks) == listed(described, None) == sorted(described)
    kept = lists.columns(described, 1, one)["TASKS"][0, 0]
    assert lists.columns(described, 1, one)["TASKS"][0, 0] is kept
    assert lists.columns(described, 1, None)["TASKS"][0, 0] is not lists.columns(described, 1, None)["TASKS"][0, 0]
    assert listed({**described, "bio-3": ("v4", None)}, one) == ["bio-1", "bio-2", "bio-3"]


BITS = """
import hashlib, numpy as np
from scoremux_decide.apply import calibrated, distance
from scoremux_decide.decision import Unusual
from scoremux_engine.model import exact_arithmetic
from scoremux_engine.model.exact_arithmetic import product, total
from scoremux_engine.scoring.outcomes import decide
draw = np.random.default_rng(5)
x = draw.standard_normal(20000) * 4
a, b = draw.standard_normal((40, 384)), draw.standard_normal((384, 70))
values = [exact_arithmetic.exp(x), product(a, b), total(a), decide(draw.standard_normal((500, 5)).astype("f4"))[1]]
values += [np.array([calibrated(row, t) for row in values[-1].tolist() for t in (0.2, 0.7, 1.9, 4.0)])]
unusual = Unusual(1.0, 0.9, 9, draw.standard_normal((5, 384)), draw.random(384))
values += [np.array([distance(unusual, vector) for vector in draw.standard_normal((200, 384)).astype("f4")])]
print(*(hashlib.sha256(value.tobytes()).hexdigest() for value in values))
"""
WIDE = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
OTHER_PROCESSORS: tuple[dict[str, str], ...] = (
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": WIDE},
    {"OPENBLAS_CORETYPE": "SkylakeX"},
    {"OPENBLAS_CORETYPE": "Zen"},
    {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": f"SSE41 SSE42 AVX F16C FMA3 AVX2 {WIDE}"},
    {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F"},
)


def test_numbers_beside_the_graph_have_equal_bits_whatever_instructions_the_libraries_use() -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BITS],
            env=os.environ | setting,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for setting in ({}, *OTHER_PROCESSORS)
    ]
    assert len(digests[0]) == 6
    assert all(other == digests[0] for other in digests)


def test_powers_of_e_products_and_sums_are_those_of_exact_arithmetic() -> None:
    x = np.random.default_rng(1).standard_normal(50_000) * 100
    right = np.exp(x)
    assert np.max(np.abs(exact_arithmetic.exp(x) - right) / np.maximum(right, 1.0)) < 1e-15
    assert exact_arithmetic.exp(np.array([-np.inf, -1e9, 0.0])).tolist() == [0.0, 0.0, 1.0]
    draw = np.random.default_rng(3)
    left = draw.standard_normal((3, 9, 300)) * 10.0 ** draw.integers(-6, 6, (3, 9, 1))
    right = draw.standard_normal((3, 300, 11)).astype(np.float32).astype(np.float64)
    exact = left.astype(np.longdouble) @ right.astype(np.longdouble)
    assert np.max(np.abs(product(left, right) - exact) / (np.abs(left) @ np.abs(right))) < 4e-16
    off = np.abs(total(left) - left.astype(np.longdouble).sum(-1, keepdims=True))
    assert np.max(off / np.abs(left).sum(-1)[..., None]) < 3e-16
    assert not product(np.zeros((2, 4)), np.ones((4, 3))).any()
    wide = product(np.pad(left, ((0, 0), (0, 0), (0, 40))), np.pad(right, ((0, 0), (0, 40), (0, 0))))
    assert wide.tobytes() == product(left, right).tobytes()  # zeros that are appended change no bit
