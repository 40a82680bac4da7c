"""`scoremux export plan`: the ONNX graph as a TensorRT plan, one profile for each bucket and rank class.

Plans are built and inspected in the tests, with TensorRT for RTX, which needs no GPU to build. None has run on one yet.
"""

import importlib
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scoremux_engine.engine import BUDGET_TOKENS
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.buckets import Buckets, classes, padded_prefix
from scoremux_engine.model.plan import PLAN, PLAN_LAYERS, PLAN_SPEC, PlanProfile, PlanSpec
from scoremux_export.errors import ExportError
from scoremux_export.plans.reduced_precision import NARROW, compare_reduced, write_reduced
from scoremux_files.atomic import replace_file

Shape = tuple[int, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]
"""Input name → smallest, likeliest and largest shape."""

FLOAT32 = "float32"
PRECISIONS = (FLOAT32, *NARROW)


@dataclass(frozen=True)
class PlanRanges:
    """The sizes that a plan must be able to run: padded tokens of a micro-batch, tasks in it, rank, levels and rows."""

    budget_tokens: int = BUDGET_TOKENS
    groups: int = 64
    rank: int = 16
    levels: int = 8
    rows: int = 512

    def profiles(self, spec: BackboneSpec) -> tuple[PlanProfile, ...]:
        """Return the profiles: one for every bucket in every rank class up to `rank`."""
        return tuple(
            PlanProfile(tokens=bucket, rank=rank, rows=min(self.rows, max(1, self.budget_tokens // bucket)))
            for rank in classes(self.rank, levels=False)
            for bucket in Buckets(spec.max_tokens).lengths
        )

    def shapes(self, spec: BackboneSpec, profile: PlanProfile) -> Profile:
        """Return the shapes of a profile: S and R are fixed, rows fill the budget at best, G and L_max range."""
        levels = classes(self.levels, levels=True)
        sizes = {
            "B": (1, profile.rows, profile.rows),
            "S": (profile.tokens,) * 3,
            "R": (profile.rank,) * 3,
            "G": (1, min(27, self.groups), self.groups),
            "L_max": (levels[0], levels[0], levels[-1]),
            "P": (0, 0, padded_prefix(spec.max_tokens)),
        }

        def at(shape: tuple[int | str, ...], which: int) -> tuple[int, ...]:
            return tuple(sizes[n][which] if isinstance(n, str) else n for n in shape)

        inputs = {**spec.row_inputs, **spec.table_inputs}
        return {name: (at(shape, 0), at(shape, 1), at(shape, 2)) for name, shape in inputs.items()}


def export_plan(
    repository: Path,
    precision: str = "float16",
    ranges: PlanRanges | None = None,
    *,
    capabilities: Sequence[str] = (),
) -> PlanSpec:
    """Build ``repository/backbone/1/backbone.plan``, and describe it in ``backbone.plan.json``.

    ``backbone.plan.layers`` gets what TensorRT's inspector says of it. In a precision other than float32, the graph is
    written in that precision first and compared with the float32 graph.

    Args:
        capabilities: Compute capabilities such as `8.9`, for which TensorRT for RTX builds the plan on any machine, to
            prove that the graph can be built: nothing here serves its plans. Without them TensorRT builds it on the
            GPU that will run it.

    Raises:
        ExportError: TensorRT or the GPU that it needs is missing, or it refuses the graph.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; a plan is built in {', '.join(PRECISIONS)}")
    trt = load_tensorrt(for_rtx=bool(capabilities))
    built_for = tuple(capabilities) or (gpu_capability(),)
    backbone, ranges = Backbone.open(repository / "backbone" / "1"), ranges or PlanRanges()
    graph = backbone.onnx if precision == FLOAT32 else write_reduced(backbone, precision)
    parity = None if precision == FLOAT32 else compare_reduced(backbone, precision)
    profiles = ranges.profiles(backbone.spec)
    plan = build_plan(graph, [ranges.shapes(backbone.spec, p) for p in profiles], trt, capabilities)
    spec = PlanSpec(
        backbone=backbone.spec.digest,
        runtime="tensorrt-rtx" if capabilities else "tensorrt",
        version=plan.version,
        precision=precision,
        capabilities=built_for,
        profiles=profiles,
        groups=ranges.groups,
        levels=classes(ranges.levels, levels=True)[-1],
        parity=parity,
    )
    # The description goes first and comes last: a plan is never described by another's.
    (backbone.folder / PLAN_SPEC).unlink(missing_ok=True)
    replace_file(backbone.folder / PLAN, [plan.content])
    replace_file(backbone.folder / PLAN_LAYERS, [plan.inspected.encode()])
    replace_file(backbone.folder / PLAN_SPEC, [(spec.model_dump_json(indent=1) + "\n").encode()])
    return spec


def gpu_capability() -> str:
    """Return the compute capability of the first GPU. Raises ExportError where there is none."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExportError("TensorRT builds a plan on the GPU that runs it, and this machine shows none") from error
    return listed.splitlines()[0].strip()


class BuiltPlan(NamedTuple):
    """content: the plan; version: TensorRT's; inspected: its inspector's text, profile after profile."""

    content: Any
    version: str
    inspected: str


def load_tensorrt(*, for_rtx: bool = False) -> Any:
    """Return the Python module of TensorRT, or of TensorRT for RTX. Raises ExportError where it is not installed."""
    name = "tensorrt_rtx" if for_rtx else "tensorrt"
    try:
        return importlib.import_module(name)
    except ImportError as error:
        where = "it comes with NVIDIA's Triton containers"
        raise ExportError(f"the Python module {name} is not installed: {where} ({error})") from error


def build_plan(graph: Path, profiles: Sequence[Profile], trt: Any, capabilities: Sequence[str]) -> BuiltPlan:
    """Build a plan. trt: see `load_tensorrt`; capabilities: those that TensorRT for RTX builds for, none for TensorRT.

    Raises ExportError where TensorRT refuses the graph; the message has its errors.
    """
    log = _log(trt)
    builder = _checked(trt.Builder(log), log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ExportError(f"TensorRT cannot read {graph}: {errors}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
        for number, capability in enumerate(capabilities):
            config.set_compute_capability(_capability(trt, capability), number)
    for shapes in profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, likeliest, largest) in shapes.items():
            profile.set_shape(name, smallest, likeliest, largest)
        if config.add_optimization_profile(profile) < 0:
            raise ExportError(f"TensorRT refuses a profile: {log.errors()}")
    plan = _checked(builder.build_serialized_network(network, config), log)
    return BuiltPlan(plan, str(trt.__version__), log.inspected())


def _capability(trt: Any, capability: str) -> Any:
    by_name = {
        name[2:-1] + "." + name[-1]: value
        for name, value in trt.ComputeCapability.__members__.items()
        if name[-1].isdigit()
    }
    if capability not in by_name:
        raise ExportError(f"compute capability is {capability!r}; TensorRT for RTX builds for {', '.join(by_name)}")
    return by_name[capability]


def _checked(result: Any, log: Any) -> Any:
    if result is None:
        raise ExportError(f"TensorRT could not build the plan: {log.errors()}")
    return result


def _log(trt: Any) -> Any:
    """Return a logger that keeps errors, and what the inspector says: without a GPU no plan can be opened to ask it."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._errors: list[str] = []
            self._inspected: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(message)
            elif message.startswith("Layers:\n"):
                self._inspected.append(message)

        def errors(self) -> str:
            return "; ".join(self._errors[-5:]) or "it gave no reason"

        def inspected(self) -> str:
            return "\n".join(self._inspected)

    return Log()
