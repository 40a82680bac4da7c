"""`scoremux export plan`: the ONNX graph as a TensorRT plan, with a profile for short texts and one for long texts.

Plans are built and inspected in the tests, with TensorRT for RTX, which needs no GPU to build. None has run on one yet.
"""

import importlib
import math
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scoremux_engine.engine import BUDGET_TOKENS
from scoremux_engine.model.backbone import INPUT_IDS, Backbone, BackboneSpec, site_inputs
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


_SHORT_TOKENS = 64
"""Where a plan's first profile ends if no texts are given."""
_SHARES = (0.5, 0.9, 0.99)
"""Of the given texts, the shares for which profiles end."""
_VALUES_A_TOKEN = 12
"""What TensorRT keeps of a token between two products, in widths of the backbone. Builds for RTX took 5 to 12."""
_CONTEXT_BYTES = 8 << 20
"""What a context takes beside that."""


@dataclass(frozen=True)
class PlanRanges:
    """The sizes that a plan must be able to run.

    Attributes:
        budget_tokens: Most padded tokens of a micro-batch.
        groups: Most rows of a micro-batch, and so most tasks in it.
        lengths: Tokens at which profiles end. One more goes to the backbone's limit.
    """

    budget_tokens: int = BUDGET_TOKENS
    groups: int = 64
    rank: int = 16
    levels: int = 8
    lengths: tuple[int, ...] = (_SHORT_TOKENS,)

    def profiles(self, spec: BackboneSpec) -> tuple[PlanProfile, ...]:
        """Return the profiles, from the shortest texts to the longest."""
        buckets, profiles = Buckets(spec.max_tokens), list[PlanProfile]()
        first = buckets.lengths[0]
        for last in sorted({buckets.of(min(tokens, spec.max_tokens)) for tokens in (*self.lengths, spec.max_tokens)}):
            rows = min(self.groups, max(1, self.budget_tokens // first))
            profiles.append(PlanProfile(least_tokens=first, tokens=last, rows=rows))
            first = buckets.of(min(last + 1, spec.max_tokens))
        return tuple(profiles)

    def shapes(self, spec: BackboneSpec, profile: PlanProfile) -> Profile:
        """Return the shapes of a profile; at its likeliest it has a full micro-batch of its longest texts."""
        levels, ranks = classes(self.levels, levels=True), classes(self.rank, levels=False)
        likeliest = min(profile.rows, max(1, self.budget_tokens // profile.tokens))
        sizes = {
            "B": (1, likeliest, profile.rows),
            "S": (profile.least_tokens, profile.tokens, profile.tokens),
            "R": (ranks[0], ranks[0], ranks[-1]),
            "G": (1, min(27, self.groups), self.groups),
            "L_max": (levels[0], levels[0], levels[-1]),
            "P": (0, 0, padded_prefix(spec.max_tokens)),
        }

        def at(shape: tuple[int | str, ...], which: int) -> tuple[int, ...]:
            return tuple(sizes[n][which] if isinstance(n, str) else n for n in shape)

        inputs = {**spec.row_inputs, **spec.table_inputs}
        return {name: (at(shape, 0), at(shape, 1), at(shape, 2)) for name, shape in inputs.items()}


def lengths_of(backbone: Backbone, texts: Iterable[str]) -> tuple[int, ...]:
    """Return the tokens at which profiles end for these responses: half, nine tenths and all but 1 % are shorter.

    Raises ExportError where there is no text.
    """
    tokens = [len(row.ids) for row in backbone.tokenizer.encode(texts)]
    if not tokens:
        raise ExportError("there is no text to see lengths of")
    return tuple(int(length) for length in np.quantile(tokens, _SHARES, method="higher"))


class PlanMemory(NamedTuple):
    """The bytes of GPU memory that a plan takes in Triton.

    Attributes:
        inputs: Triton keeps one buffer an input, as large as any profile allows.
        contexts: Each profile has a context, with memory for its largest micro-batch.
    """

    weights: int
    inputs: int
    contexts: int

    def __str__(self) -> str:
        weights, inputs, contexts = (size / 1e9 for size in self)
        parts = f"weights {weights:.2f}, tables of adapters {inputs:.2f}, contexts {contexts:.2f}"
        return f"{sum(self) / 1e9:.1f} GB ({parts})"


def plan_memory(spec: BackboneSpec, profiles: Sequence[Profile], weights: int, item_bytes: int) -> PlanMemory:
    """Compute the memory of a plan.

    Args:
        profiles: See `PlanRanges.shapes`.
        weights: Bytes of the weights.
        item_bytes: Bytes of a number in products.
    """
    inputs = sum(
        max(math.prod(shapes[name][-1]) for shapes in profiles) * (8 if name in spec.row_inputs else 4)
        for name in profiles[0]
    )
    tables = [name for site in spec.sites for name in site_inputs(site.name)]
    contexts = 0
    for shapes in profiles:
        rows, tokens = shapes[INPUT_IDS][-1]
        # The adapters' tables are gathered row by row.
        values = rows * sum(math.prod(shapes[name][-1][1:]) for name in tables)
        values += rows * tokens * _VALUES_A_TOKEN * spec.pooled_size
        if item_bytes == 4:  # attention is computed in one kernel in narrow precisions alone
            values += 2 * rows * tokens**2 * math.ceil(spec.pooled_size / 32)
        contexts += values * item_bytes + _CONTEXT_BYTES
    return PlanMemory(weights, inputs, contexts)


def export_plan(
    repository: Path,
    precision: str = "float16",
    ranges: PlanRanges | None = None,
    *,
    capabilities: Sequence[str] = (),
    free_bytes: int | None = None,
) -> PlanSpec:
    """Build ``repository/backbone/1/backbone.plan``, and describe it in ``backbone.plan.json``.

    ``backbone.plan.layers`` gets what TensorRT's inspector says of it. In a precision other than float32, the graph is
    written in that precision first and compared with the float32 graph.

    Args:
        capabilities: Compute capabilities such as `8.9`, for which TensorRT for RTX builds the plan on any machine, to
            prove that the graph can be built: nothing here serves its plans. Without them TensorRT builds it on the
            GPU that will run it.
        free_bytes: Memory that the plan may take; None: as much as this machine's GPU has free.

    Raises:
        ExportError: TensorRT or its GPU is missing, the plan would not fit, or TensorRT refuses the graph.
    """
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; a plan is built in {', '.join(PRECISIONS)}")
    trt = load_tensorrt(for_rtx=bool(capabilities))
    built_for = tuple(capabilities)
    if not built_for:
        capability, free = gpu()
        built_for, free_bytes = (capability,), free_bytes or free
    backbone, ranges = Backbone.open(repository / "backbone" / "1"), ranges or PlanRanges()
    graph = backbone.onnx if precision == FLOAT32 else write_reduced(backbone, precision)
    profiles = ranges.profiles(backbone.spec)
    shapes = [ranges.shapes(backbone.spec, profile) for profile in profiles]
    weights = sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))
    memory = plan_memory(backbone.spec, shapes, weights, 4 if precision == FLOAT32 else 2)
    if free_bytes is not None and sum(memory) > free_bytes:
        raise ExportError(
            f"the plan would take {memory} of GPU memory, and {free_bytes / 1e9:.1f} GB are free: "
            "give lower --groups or --rank, or export the backbone with a lower --max-tokens"
        )
    parity = None if precision == FLOAT32 else compare_reduced(backbone, precision)
    plan = build_plan(graph, shapes, trt, capabilities)
    spec = PlanSpec(
        backbone=backbone.spec.digest,
        runtime="tensorrt-rtx" if capabilities else "tensorrt",
        version=plan.version,
        precision=precision,
        capabilities=built_for,
        profiles=profiles,
        memory_bytes=sum(memory),
        context_bytes=plan.context_bytes,
        groups=ranges.groups,
        rank=classes(ranges.rank, levels=False)[-1],
        levels=classes(ranges.levels, levels=True)[-1],
        parity=parity,
    )
    # The description goes first and comes last: a plan is never described by another's.
    (backbone.folder / PLAN_SPEC).unlink(missing_ok=True)
    replace_file(backbone.folder / PLAN, [plan.content])
    replace_file(backbone.folder / PLAN_LAYERS, [plan.inspected.encode()])
    replace_file(backbone.folder / PLAN_SPEC, [(spec.model_dump_json(indent=1) + "\n").encode()])
    return spec


def gpu() -> tuple[str, int]:
    """Return the compute capability of the first GPU and its free memory. Raises ExportError where there is none."""
    command = ["nvidia-smi", "--query-gpu=compute_cap,memory.free", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExportError("TensorRT builds a plan on the GPU that runs it, and this machine shows none") from error
    capability, free_mib = listed.splitlines()[0].split(",")
    return capability.strip(), int(free_mib) << 20


_CONTEXT = "Total Activation Memory: "
"""How TensorRT's line about a profile's memory begins; a number of bytes follows."""


class BuiltPlan(NamedTuple):
    """A plan and what is known of it.

    Attributes:
        inspected: What TensorRT's inspector says, profile after profile.
        context_bytes: The memory of each profile's context.
    """

    content: Any
    version: str
    inspected: str
    context_bytes: tuple[int, ...]


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
    return BuiltPlan(plan, str(trt.__version__), log.inspected(), tuple(log.context_bytes))


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
            self.context_bytes: list[int] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self._errors.append(message)
            elif message.startswith("Layers:\n"):
                self._inspected.append(message)
            elif message.startswith(_CONTEXT):
                self.context_bytes.append(int(message.removeprefix(_CONTEXT).split()[0]))

        def errors(self) -> str:
            return "; ".join(self._errors[-5:]) or "it gave no reason"

        def inspected(self) -> str:
            return "\n".join(self._inspected)

    return Log()
