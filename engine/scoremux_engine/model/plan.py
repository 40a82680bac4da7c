"""A TensorRT plan of the backbone on disk: `backbone.plan`, and `backbone.plan.json`, which says what it can run."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from scoremux_engine.errors import BackboneError
from scoremux_engine.model.backbone import StrictModel, read_spec
from scoremux_engine.model.buckets import classes

PLAN = "backbone.plan"
PLAN_SPEC = "backbone.plan.json"
PLAN_LAYERS = "backbone.plan.layers"
"""What TensorRT's inspector says of the plan: layers with their types, inputs and outputs with their shapes."""


class PlanProfile(StrictModel):
    """One optimisation profile: the padded lengths that it is for, and the most rows that it takes."""

    least_tokens: int = Field(gt=0)
    tokens: int = Field(gt=0)
    rows: int = Field(gt=0)


class PlanParity(StrictModel):
    """The plan's graph against the float32 graph, both on ONNX Runtime, over `rows` random rows and adapters.

    levels_changed: rows whose largest logit is another one.
    """

    rows: int
    max_abs_logit_difference: float
    levels_changed: int


class PlanSpec(StrictModel):
    """`backbone.plan.json`.

    backbone: digest of the export; runtime: the library that built the plan and runs it; capabilities: the compute
    capabilities of the GPUs it is for; memory_bytes: of the GPU, computed; context_bytes:
    the part of each profile, as the library says; groups: the most rows of a micro-batch, and so
    the most tasks; rank, levels: the largest of its tasks.
    """

    format: Literal[1] = 1
    backbone: str
    runtime: str
    version: str
    precision: str
    capabilities: tuple[str, ...]
    profiles: tuple[PlanProfile, ...]
    memory_bytes: int
    context_bytes: tuple[int, ...]
    groups: int
    rank: int
    levels: int
    parity: PlanParity | None = None

    @classmethod
    def read(cls, folder: Path, backbone: str) -> "PlanSpec":
        """Read the spec of the plan in `folder`, made from the backbone of this digest. Raises BackboneError."""
        spec = read_spec(cls, folder / PLAN_SPEC, "scoremux export plan")
        if spec.backbone != backbone:
            raise BackboneError(
                f"{folder / PLAN} was built from backbone {spec.backbone[:12]}, and this is backbone {backbone[:12]}; "
                "run `scoremux export plan` again"
            )
        return spec

    @property
    def fixed_sizes(self) -> dict[str, int]:
        """R and L_max where the plan takes one value of them: TensorRT then fixes them in the plan's inputs."""
        sizes = {"R": classes(self.rank, levels=False), "L_max": classes(self.levels, levels=True)}
        return {name: values[0] for name, values in sizes.items() if len(values) == 1}
