"""`scoremux export plan`: the ONNX graph as a TensorRT plan, for the GPU it is built on.

Nothing here has run on a GPU yet; arguments, profiles and refusals are tested, the build itself is not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_client.files import replace_file, replacing
from scoremux_engine.backbone import Backbone, BackboneSpec
from scoremux_engine.engine import BUDGET_TOKENS
from scoremux_engine.scoring.buckets import Buckets
from scoremux_engine.tables import padded_prefix
from scoremux_export.errors import ExportError

PLAN = "backbone.plan"
PLAN_SPEC = "backbone.plan.json"
PRECISIONS = {"float32": [], "float16": ["--fp16"], "bfloat16": ["--bf16"]}

Shape = tuple[int, ...]
Profile = dict[str, tuple[Shape, Shape, Shape]]
"""Input name → smallest, likeliest and largest shape."""


@dataclass(frozen=True)
class Ranges:
    """What a plan must be able to run: padded tokens of a micro-batch, groups, rank, levels and rows."""

    budget_tokens: int = BUDGET_TOKENS
    groups: int = 256
    rank: int = 64
    levels: int = 16
    rows: int = 512


def profiles(spec: BackboneSpec, ranges: Ranges) -> list[Profile]:
    """Return one optimisation profile a bucket: S is fixed, rows fill the budget at best, G, R and L_max range."""
    return [_profile(spec, ranges, bucket) for bucket in Buckets(spec.max_tokens).lengths]


def _profile(spec: BackboneSpec, ranges: Ranges, bucket: int) -> Profile:
    most = min(ranges.rows, max(1, ranges.budget_tokens // bucket))
    sizes = {"G": (1, min(27, ranges.groups), ranges.groups), "R": (1, min(8, ranges.rank), ranges.rank)}
    sizes["L_max"] = (2, min(5, ranges.levels), ranges.levels)
    sizes |= {"B": (1, most, most), "S": (bucket, bucket, bucket), "P": (0, 0, padded_prefix(spec.max_tokens))}
    profile: Profile = {}
    for name, shape in {**spec.row_inputs, **spec.table_inputs}.items():
        profile[name] = tuple(  # type: ignore[assignment]
            tuple(sizes[n][which] if isinstance(n, str) else n for n in shape) for which in range(3)
        )
    return profile


def trtexec_arguments(
    backbone: Backbone, plan: Path, precision: str, ranges: Ranges, timing_cache: Path | None = None
) -> list[str]:
    """Return the arguments of `trtexec`, TensorRT's own builder. Raises ExportError for an unknown precision."""
    if precision not in PRECISIONS:
        raise ExportError(f"precision is {precision!r}; a plan is built in {', '.join(PRECISIONS)}")
    arguments = [f"--onnx={backbone.onnx}", f"--saveEngine={plan}", "--skipInference", *PRECISIONS[precision]]
    if timing_cache is not None:
        arguments.append(f"--timingCacheFile={timing_cache}")
    for number, profile in enumerate(profiles(backbone.spec, ranges)):
        arguments.append(f"--profile={number}")
        for which, option in enumerate(("--minShapes", "--optShapes", "--maxShapes")):
            shapes = (f"'{name}':{'x'.join(map(str, shape[which]))}" for name, shape in profile.items())
            arguments.append(f"{option}={','.join(shapes)}")
    return arguments


def device_name(run: Callable[[Sequence[str]], str] | None = None) -> str:
    """Return the name of the first GPU. Raises ExportError where there is none."""
    try:
        listed = (run or _output)(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"])
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExportError("a TensorRT plan is built on the GPU that runs it, and this machine shows none") from error
    return listed.splitlines()[0].strip()


def export_plan(
    repository: Path, precision: str = "float16", ranges: Ranges | None = None, timing_cache: Path | None = None
) -> Path:
    """Build ``repository/backbone/1/backbone.plan``, and describe in ``backbone.plan.json`` how and where it was built.

    Args:
        repository: Model repository with an exported backbone.
        precision: One of PRECISIONS.
        ranges: What the plan must be able to run.
        timing_cache: TensorRT's timing cache to read and write.

    Returns:
        The plan's path.

    Raises:
        ExportError: There is no GPU or no `trtexec`, or the build failed; the message has its last lines.
    """
    backbone = Backbone.open(repository / "backbone" / "1")
    device = device_name()
    trtexec = shutil.which("trtexec")
    if trtexec is None:
        raise ExportError("trtexec is not on PATH; it comes with TensorRT (and with NVIDIA's Triton containers)")
    plan = backbone.folder / PLAN
    with replacing(plan) as part:
        arguments = trtexec_arguments(backbone, part, precision, ranges or Ranges(), timing_cache)
        built = subprocess.run([trtexec, *arguments], capture_output=True, text=True, check=False)
        if built.returncode != 0:
            raise ExportError("trtexec failed:\n" + "\n".join((built.stdout + built.stderr).splitlines()[-20:]))
        version = next((line for line in built.stdout.splitlines() if "TensorRT version" in line), "unknown").strip()
        described = {"backbone": backbone.spec.digest, "precision": precision, "device": device, "tensorrt": version}
        replace_file(backbone.folder / PLAN_SPEC, [(json.dumps(described, indent=1) + "\n").encode()])
    return plan


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
