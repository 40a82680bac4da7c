"""`scoremux export`: turn models into what the server loads."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

if TYPE_CHECKING:
    from scoremux_engine.model.plan import PlanParity

export = typer.Typer(
    no_args_is_help=True,
    help="Turn a Hugging Face model into what the server loads.",
    epilog="Example: scoremux export backbone MODEL --for ADAPTERS --out REPO",
)

_MODEL = "Folder or hub id that AutoModelForSequenceClassification opens (default: what the adapters name)."
_FOR = "PEFT adapters, or folders of them: what they need is opened."
_SAME_WEIGHTS = "MODEL has the weights of the base model that the adapters name."
_SITES = "Without --for, Linears that take LoRA: suffixes, re:PATTERN, or all-linear (default: query,value)."
_MAX_TOKENS = "Most tokens of a text (default: the model's limit, 2,048 at most)."


@export.command()
def backbone(
    model: Annotated[str | None, Argument(help=_MODEL)] = None,
    *,
    out: Annotated[Path, Option(help="Repository to write into.")],
    adapters: Annotated[list[Path] | None, Option("--for", help=_FOR, metavar="DIR…")] = None,
    same_weights: Annotated[bool, Option("--same-weights", help=_SAME_WEIGHTS)] = False,
    sites: Annotated[str | None, Option(help=_SITES)] = None,
    max_tokens: Annotated[int | None, Option(min=8, help=_MAX_TOKENS)] = None,
) -> None:
    """Export the backbone with open sites, and prove it against PEFT before it is published.

    Example: scoremux export backbone MODEL --for ADAPTERS --out REPO
    """
    from scoremux_engine.packages.adapter_folders import Adapter, find_adapters
    from scoremux_export.errors import ExportError
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.base import base_model, refuse_other_base
    from scoremux_export.opening.classifier import quieten
    from scoremux_export.opening.openable import Opening
    from scoremux_files.terminal import ticking

    warnings.simplefilter("ignore")  # what libraries say to developers
    quieten()
    console = Console(highlight=False, markup=False)
    opening: Opening | list[Adapter] = Opening(sites or "query,value")
    if adapters:
        if sites:
            raise ExportError("--for opens what the adapters need; leave out --sites")
        opening = [Adapter.read(folder) for folder in find_adapters(adapters)]
        model = model or base_model(opening)
        refuse_other_base(opening, model, same_weights)
        console.print(f"{len(opening)} adapters of {opening[0].base or model}")
    elif model is None:
        raise ExportError("name the MODEL to export, or its adapters with --for")
    sentences = list[str]()
    with ticking(console, "exporting and proving the graph against PEFT"):
        spec = export_backbone(model, opening, out, max_tokens=max_tokens, report=sentences.append).spec
    console.print(f"{spec.architecture}: {len(spec.sites)} sites open, at most {spec.max_tokens} tokens")
    console.print(
        f"parity with PEFT: max |Δlogit| {spec.parity.max_abs_logit_difference:.1e} over {spec.parity.rows} rows"
    )
    for sentence in sentences:
        console.print(sentence, soft_wrap=True)
    console.print(f"published {out / 'backbone' / '1'}, digest {spec.digest[:12]}")


@export.command()
def measure(repository: Annotated[Path, Argument(help="Model repository with an exported backbone.")]) -> None:
    """Add to an export what each start compares its numbers with, and what int8 needs; needs no PyTorch.

    The backbone keeps its digest, and the store stays as it is. int8's ranges are written where OpenVINO (in the extra
    `serve`) computes in x86-f32.

    Example: scoremux export measure REPO
    """
    from scoremux_engine.model.backbone import Backbone
    from scoremux_export.measure import measure as run
    from scoremux_files.terminal import printable

    for sentence in run(Backbone.open(repository / "backbone" / "1")):
        typer.echo(printable(sentence))


@export.command()
def reduced(
    repository: Annotated[Path, Argument(help="Model repository with an exported backbone.")],
    precision: Annotated[str, Option(help="float16 or bfloat16.")] = "float16",
) -> None:
    """Write the graph in a precision that the profile `gpu` computes in, and compare it with float32.

    Example: scoremux export reduced REPO --precision float16
    """
    from scoremux_engine.model.backbone import Backbone
    from scoremux_export.plans.reduced_precision import compare_reduced, write_reduced

    backbone = Backbone.open(repository / "backbone" / "1")
    typer.echo(f"written: {write_reduced(backbone, precision)}")
    _print_parity(precision, compare_reduced(backbone, precision))


@export.command()
def plan(
    repository: Annotated[Path, Argument(help="Model repository with an exported backbone.")],
    precision: Annotated[str, Option(help="float32, float16 or bfloat16.")] = "float16",
    rank: Annotated[int, Option(min=1, help="Largest LoRA rank.")] = 16,
    levels: Annotated[int, Option(min=1, help="Most levels of a task.")] = 8,
    groups: Annotated[int, Option(min=1, help="Most rows, and so most tasks, of a micro-batch.")] = 64,
    texts: Annotated[
        Path | None,
        Option(help="Expected responses (column `text`), for profiles of their lengths instead of short and long."),
    ] = None,
) -> None:
    """Build a TensorRT plan of the backbone, on the GPU that will run it, unless it needs more than its free memory.

    Example: scoremux export plan REPO --precision float16
    """
    from scoremux_engine.model.backbone import Backbone
    from scoremux_export.plans.build_plan import PlanRanges, export_plan, lengths_of
    from scoremux_files.rows.readers import read_rows

    ranges = PlanRanges(groups=groups, rank=rank, levels=levels)
    if texts:
        backbone = Backbone.open(repository / "backbone" / "1")
        ranges = replace(ranges, lengths=lengths_of(backbone, [row["text"] for row in read_rows(texts)]))
    spec = export_plan(repository, precision, ranges)
    console = Console(highlight=False, markup=False)
    console.print(
        f"built with TensorRT {spec.version} for compute capability {', '.join(spec.capabilities)}: "
        f"{len(spec.profiles)} profiles, {precision}, some {spec.memory_bytes / 1e9:.1f} GB of GPU memory"
    )
    if spec.parity is not None:
        _print_parity(precision, spec.parity)


def _print_parity(precision: str, parity: PlanParity) -> None:
    typer.echo(
        f"{precision} against float32 on ONNX Runtime: max |Δlogit| {parity.max_abs_logit_difference:.1e}, "
        f"{parity.levels_changed} of {parity.rows} random rows change their level"
    )
