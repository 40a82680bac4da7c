"""`scoremux export`: turn models into what the server loads."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from typer import Argument, Option

from scoremux_client.errors import InputError

if TYPE_CHECKING:
    from scoremux_export.verify_graph import PrecisionChange

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
_REPLACE_STORE = "Rename a store of another backbone to store-DIGEST."
_COLUMN = "How it calls the columns task, text, level; repeatable."


@export.command()
def backbone(
    model: Annotated[str | None, Argument(help=_MODEL)] = None,
    *,
    out: Annotated[Path, Option("--out", help="Repository to write into.")],
    adapters: Annotated[list[Path] | None, Option("--for", help=_FOR, metavar="DIR…")] = None,
    same_weights: Annotated[bool, Option("--same-weights", help=_SAME_WEIGHTS)] = False,
    sites: Annotated[str | None, Option(help=_SITES)] = None,
    max_tokens: Annotated[int | None, Option(min=8, help=_MAX_TOKENS)] = None,
    replace_store: Annotated[bool, Option("--replace-store", help=_REPLACE_STORE)] = False,
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
        spec = export_backbone(
            model, opening, out, replace_store=replace_store, max_tokens=max_tokens, report=sentences.append
        ).spec
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
def plan(
    repository: Annotated[Path, Argument(help="Model repository with an exported backbone.")],
    precision: Annotated[str, Option(help="float32, float16 or bfloat16.")] = "float16",
    rank: Annotated[int, Option(min=1, help="Largest LoRA rank.")] = 16,
    levels: Annotated[int, Option(min=1, help="Most levels of a task.")] = 8,
    groups: Annotated[int, Option(min=1, help="Most tasks of a micro-batch.")] = 1024,
) -> None:
    """Build a TensorRT plan of the backbone, on the GPU that will run it.

    Example: scoremux export plan REPO --precision float16
    """
    from scoremux_export.plans.build_plan import PlanRanges, export_plan

    ranges = PlanRanges(groups=groups, rank=rank, levels=levels)
    spec = export_plan(repository, precision, ranges)
    console = Console(highlight=False, markup=False)
    console.print(
        f"built with TensorRT {spec.version} for compute capability {', '.join(spec.capabilities)}: "
        f"{len(spec.profiles)} profiles, {precision}"
    )
    if spec.parity is not None:
        console.print(
            f"{precision} against float32 on ONNX Runtime: max |Δlogit| {spec.parity.max_abs_logit_difference:.1e}, "
            f"{spec.parity.levels_changed} of {spec.parity.rows} random rows change their level"
        )


@export.command()
def verify(
    repository: Annotated[Path, Argument(help="Model repository with a backbone and tasks.")],
    data: Annotated[Path, Option("--data", help="Rows with task, text and, if known, level.")],
    column: Annotated[list[str] | None, Option("--column", metavar="KEY=NAME", help=_COLUMN)] = None,
) -> None:
    """Show what each precision that runs here changes, against float32 in ONNX Runtime.

    Example: scoremux export verify REPO --data labelled.csv
    """
    from scoremux_evidence.rows.label_table import read_labels
    from scoremux_evidence.rows.labelled_row import NO_NUMBER, label_columns
    from scoremux_export.verify_graph import PrecisionChange
    from scoremux_export.verify_graph import verify as run
    from scoremux_files.terminal import print_table

    rows = read_labels([data], label_columns(column, "level", data=data), ("task", "text")).rows
    for row in rows:
        if NO_NUMBER in row.remarks or not (math.isnan(row.level) or row.level.is_integer()):
            raise InputError(f"{row.where}: its level is not a whole number")
    columns = ("runner", "precision", "max |Δlogit|", "equal", "QWK", "ΔQWK", "flipped at")
    changes, absent = [], []
    for change in run(repository, rows):
        if isinstance(change, PrecisionChange):
            changes.append(_cells(change))
        else:
            absent.append(f"{change[0].name} on {change[0].device}: {change[1]}")
    console = Console(highlight=False, markup=False)
    print_table(console, columns, changes, title=f"{len(rows):,} rows", leave_out=("flipped at", "QWK"))
    for line in absent:
        console.print(f"does not run here: {line}", markup=False, soft_wrap=True)


def _cells(change: PrecisionChange) -> list[str]:
    flips = "none" if math.isnan(change.smallest_flip) else f"{change.smallest_flip:.3f}–{change.largest_flip:.3f}"
    return [
        change.runner.name,
        change.runner.precision if change.runner.device == "cpu" else change.runner.device,
        f"{change.max_abs_logit_difference:.1e}",
        f"{change.equal:.2%}",
        f"{change.qwk:.4f}",
        f"{change.qwk - change.reference_qwk:+.4f} [{change.change[0]:+.4f}, {change.change[1]:+.4f}]",
        flips,
    ]
