"""The models that `scoremux serve` starts Triton on: those that come with scoremux, with this run's parameters."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scoremux_engine.backend.models import BACKBONE, SCORER, models
from scoremux_engine.errors import BackboneError
from scoremux_engine.model import backbone as names
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.model.plan import PLAN, PlanSpec
from scoremux_engine.model.provenance import has_gpu, library_arithmetic
from scoremux_engine.runners.arithmetic import PROBE
from scoremux_engine.runners.choose import DEFAULT, RunnerChoice
from scoremux_engine.runners.runner import available_cores
from scoremux_server.errors import SetupError

BACKENDS = {"onnxruntime": names.ONNX, "tensorrt": PLAN, "python": None}
"""What can serve the model `backbone`, and the file it needs."""

_FLOAT32_ON_GPU = (
    'optimization { execution_accelerators { gpu_execution_accelerator: [ { name: "cuda" '
    'parameters { key: "use_tf32" value: "0" } } ] } }'
)
"""Keeps ONNX Runtime on a GPU from rounding the inputs of float32 products to 11 bits."""

IN_TRITON = "triton-"
"""What the name of an arithmetic begins with where a backend of Triton computes, not this package."""


def assemble(
    target: Path,
    repository: Path,
    store: Path,
    runner: RunnerChoice = DEFAULT,
    backend: str | None = None,
    *,
    settings: Mapping[str, str] | None = None,
    backbone_model: str = BACKBONE,
) -> list[str]:
    """Write the models that Triton loads into a folder, with parameters that name the repository and the store.

    Args:
        backend: The backend that serves the model `backbone`, one of BACKENDS, which the scorer then calls; None for a
            scorer that computes itself.
        backbone_model: The name that Triton knows the model `backbone` by.

    Returns the names of the models. Raises SetupError where the repository has no backbone or no store yet.
    """
    _refuse_incomplete(repository, store)
    parameters = {"repository": str(repository.resolve()), "store": str(store.resolve()), **runner.parameters}
    shutil.copytree(models() / SCORER, target / SCORER, ignore=shutil.ignore_patterns("__pycache__"))
    scorer = {**parameters, **(settings or {})}
    if backend is None:
        _append(target / SCORER, _parameters(scorer))
        return [SCORER]
    called = _assemble_backbone(target / backbone_model, repository / BACKBONE / "1", backend, parameters)
    called |= {"runner": "triton", "backbone_model": backbone_model}
    _append(target / SCORER, _parameters({**scorer, **called}))
    return [backbone_model, SCORER]


def _refuse_incomplete(repository: Path, store: Path) -> None:
    if not (repository / BACKBONE / "1" / names.SPEC).is_file():
        raise SetupError(
            f"{repository} holds no backbone: name your adapters with --adapters DIR, or run "
            f"`scoremux export backbone MODEL --out {repository}`"
        )
    if not (store / "manifest.json").is_file():
        raise SetupError(f"{store} holds no tasks: run `scoremux tasks add DIR… --store {store}`")


def _assemble_backbone(target: Path, exported: Path, backend: str, parameters: dict[str, str]) -> dict[str, str]:
    """Write the model `backbone`; return the scorer's parameters about it."""
    if backend not in BACKENDS:
        raise SetupError(f"backend is {backend!r}; the model backbone is served by {', '.join(BACKENDS)}")
    source, file = models() / BACKBONE, BACKENDS[backend]
    config = source / ("config.pbtxt" if backend == "onnxruntime" else f"configs/{backend}.pbtxt")
    target.mkdir(parents=True)
    named = config.read_text(encoding="utf-8").replace(f'name: "{BACKBONE}"', f'name: "{target.name}"', 1)
    (target / "config.pbtxt").write_text(named, encoding="utf-8")
    if file is not None and not (exported / file).is_file():
        raise SetupError(f"{exported / file} is missing; {backend} needs it (scoremux export plan)")
    try:
        spec = Backbone.open(exported).spec
        plan = PlanSpec.read(exported, spec.digest) if file == PLAN else None
        lines = _of_plan(exported, spec, plan) if plan else backbone_tensors(spec, {})
        precision, groups = (plan.precision, plan.groups) if plan else ("float32", 0)
    except BackboneError as error:
        raise SetupError(str(error)) from error
    if file is None:
        shutil.copytree(source / "python", target / "1", ignore=shutil.ignore_patterns("__pycache__"))
        lines += _parameters(parameters)
    else:
        # The folder and not the file: a large graph has its weights in another file beside it.
        (target / "1").symlink_to(exported.resolve())
    if backend == "onnxruntime":
        # Without a number Triton takes one thread a core of the machine, whatever this process may use. Micro-batches
        # differ in shape all the time: memory planned for one shape is of no use to the next.
        threads = int(parameters["threads"]) or available_cores()
        lines += _parameters({"intra_op_thread_count": str(threads), "enable_mem_pattern": "0"})
        if has_gpu():
            lines.append(_FLOAT32_ON_GPU)
    _append(target, lines)
    arithmetic = _arithmetic_of(backend, precision, parameters)
    return {"arithmetic": arithmetic, "precision": precision, "groups": str(groups)}


def _arithmetic_of(backend: str, precision: str, parameters: Mapping[str, str]) -> str:
    if backend == "python":
        if (precision, parameters["device"]) == ("float32", "cpu"):
            like = replace(RunnerChoice.of(parameters), name="onnxruntime", precision=precision)
            return like.make(Backbone.open(PROBE)).arithmetic
        return library_arithmetic("onnxruntime", precision, parameters["device"])
    device = "cuda" if backend == "tensorrt" or has_gpu() else "cpu"
    return library_arithmetic(f"{IN_TRITON}{backend}", precision, device)


def _of_plan(exported: Path, spec: BackboneSpec, plan: PlanSpec) -> list[str]:
    """Return the tensors, and the instance with all profiles of the plan. Raises SetupError."""
    if plan.runtime != "tensorrt":
        raise SetupError(
            f"{exported / PLAN} was built with {plan.runtime}, and Triton's own backend loads plans of tensorrt: build "
            "one on this machine's GPU (scoremux export plan)"
        )
    profiles = ", ".join(f'"{number}"' for number in range(len(plan.profiles)))
    return [
        *backbone_tensors(spec, plan.fixed_sizes),
        f"instance_group [ {{ kind: KIND_GPU count: 1 profile: [ {profiles} ] }} ]",
    ]


def backbone_tensors(spec: BackboneSpec, fixed: Mapping[str, int]) -> list[str]:
    """Return the model `backbone`'s tensors as lines of a config.pbtxt; −1 for every free size that is not `fixed`."""
    tensors = (
        ("input", "TYPE_INT64", spec.row_inputs),
        ("input", "TYPE_FP32", spec.table_inputs),
        ("output", "TYPE_FP32", spec.outputs),
    )
    return [
        _tensor(side, name, kind, tuple(fixed.get(n, -1) if isinstance(n, str) else n for n in shape))
        for side, kind, shapes in tensors
        for name, shape in shapes.items()
    ]


def _append(model: Path, lines: list[str]) -> None:
    with (model / "config.pbtxt").open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in ["", *lines])


def _tensor(side: str, name: str, kind: str, shape: tuple[int, ...]) -> str:
    dims = ", ".join(map(str, shape))
    return f"{side} {{ name: {json.dumps(name)} data_type: {kind} dims: [ {dims} ] }}"


def _parameters(values: dict[str, str]) -> list[str]:
    # Text-format strings escape quotes, backslashes and control characters as JSON does.
    quoted = {json.dumps(name): json.dumps(value, ensure_ascii=False) for name, value in values.items()}
    return [f"parameters {{ key: {name} value {{ string_value: {value} }} }}" for name, value in quoted.items()]
