"""The judge against PEFT, both in float64; and its bounds of rounding errors against the worst errors and real ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from families import FAMILIES, make_family
from scoremux_engine.judge import exact_graph, rounding_bounds
from scoremux_engine.judge.exact_runner import ExactRunner
from scoremux_engine.model.backbone import LOGITS, Backbone
from scoremux_engine.model.tables import SizeClass, Tables, input_shapes
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.runners.openvino import OpenVinoRunner
from scoremux_engine.scoring.computation import pad
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.classifier import Classifier
from scoremux_export.opening.openable import Opening
from scoremux_export.opening.parity import prove


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Let transformers compute in float64 what it computes in float32 whatever a model's type, such as norms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        yield


def difference_from_peft(family: str, folder: Path) -> float:
    """Return max |Δlogit| between the judge and PEFT, both in float64: adapters of four kinds, and prefixes."""
    source = make_family(family, folder / "source")
    opening = Opening(FAMILIES[family].sites, dora=True, bias=True)
    backbone = export_backbone(str(source), opening, folder)
    model = Classifier.open(str(source)).model
    with float64_throughout():
        return prove(model, backbone, ExactRunner(backbone), opening).max_abs_logit_difference


@dataclass(frozen=True)
class Reached:
    """How bounds compare with what errors do to differences of logits: the least and the greatest share of a bound.

    worst: Of the bound to first order, by errors of the size that each operation may make, each with the worst sign.
    float32: Of the bound as it is stated, by two float32 runners.
    """

    worst: tuple[float, float]
    float32: float


def reach(family: str, folder: Path, rows: int) -> Reached:
    """Compare bounds for random rows and adapters of a family."""
    source = make_family(family, folder / "source")
    return reach_of(export_backbone(str(source), Opening(FAMILIES[family].sites, dora=True, bias=True), folder), rows)


def reach_of(backbone: Backbone, rows: int) -> Reached:
    """Compare bounds for random rows and adapters of a backbone."""
    exact, draw, shares, real = ExactRunner(backbone), np.random.default_rng(3), list[float](), list[float]()
    runners = [kind(backbone, threads=1, streams=1) for kind in (OnnxRuntimeRunner, OpenVinoRunner)]
    for _ in range(rows):
        length, width = int(draw.integers(1, backbone.spec.max_tokens + 1)), int(draw.integers(2, 5))
        size = SizeClass(int(draw.choice([1, 8, 30])), width)
        arrays = {
            name: draw.normal(name.startswith("M."), 0.1 if len(shape) == 1 else shape[0] ** -0.5, (1, *shape))
            for name, shape in input_shapes(backbone.spec, size).items()
        }
        narrow = Tables({name: array.astype(np.float32) for name, array in arrays.items()})
        wide = Tables({name: array.astype(np.float64) for name, array in narrow.arrays.items()})
        tokens = Tokens(draw.integers(5, 40, length).tolist(), [0] * length, truncated=False)
        inputs = pad([tokens], np.zeros(1, np.int64), length, backbone.spec)
        logits, bounds = exact.difference_bounds(inputs, wide, width)
        top = int(logits.argmax())
        for runner in runners:
            apart = runner.run(inputs, narrow).logits[0, :width] - logits
            real += (np.delete(np.abs(apart - apart[top]), top) / np.delete(bounds, top)).tolist()
        shares += worst_shares(exact._graph, {**inputs.feeds, **wide.arrays}, width)
    return Reached((min(shares), max(shares)), max(real))


def worst_shares(graph: exact_graph.ExactGraph, feeds: dict[str, Any], width: int) -> list[float]:
    """Return what share of the bound to first order the worst errors reach, for each logit but the largest."""
    nodes, values = graph.record([LOGITS], feeds)
    steps = rounding_bounds._steps(nodes, values)
    logits, shares = values[LOGITS][0, :width], []
    top = int(logits.argmax())
    for other in set(range(width)) - {top}:
        seed = np.zeros_like(values[LOGITS])
        seed[0, [top, other]] = 1.0, -1.0
        errors = {
            step.node.outputs[0]: np.where(adjoint, np.sign(adjoint) * np.where(adjoint, step.error, 0.0), 0.0)
            for step, adjoint in rounding_bounds._adjoints(steps, LOGITS, seed)
            if step.error is not None
        }
        moved = {**graph.constants, **feeds}
        for node in nodes:
            exact_graph.add_outputs(moved, node)
            moved[node.outputs[0]] = moved[node.outputs[0]] + errors.get(node.outputs[0], 0)
        shift = moved[LOGITS][0] - values[LOGITS][0]
        shares.append(float(shift[top] - shift[other]) / rounding_bounds._sum_of_errors(steps, LOGITS, seed))
    return shares
