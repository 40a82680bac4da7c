"""`scoremux export`: turn models into what the server loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

export = typer.Typer(no_args_is_help=True, help="Turn a Hugging Face encoder into what the server loads.")


@export.callback()
def _group() -> None:
    """Keep `backbone` a subcommand while it is the only one."""


@export.command()
def backbone(
    model: Annotated[str, typer.Argument(help="Folder or hub id of an AutoModelForSequenceClassification encoder.")],
    out: Annotated[Path, typer.Option("--out", help="Model repository to write into.")],
    sites: Annotated[
        str, typer.Option(help="Linears that take LoRA: suffixes (query,value), re:PATTERN, or all-linear.")
    ] = "query,value",
    modules_to_save: Annotated[
        str, typer.Option(help="Name endings of modules that adapters save whole, beyond classifier and score.")
    ] = "",
    dora: Annotated[bool, typer.Option("--dora", help="Take DoRA adapters too.")] = False,
    lora_bias: Annotated[bool, typer.Option("--lora-bias", help="Take adapters that train biases too.")] = False,
) -> None:
    """Export the backbone with open sites, and prove it against PEFT before it is published."""
    import transformers

    from scoremux_export.backbone import export_backbone
    from scoremux_export.opening import Opening

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    also = tuple(name for name in modules_to_save.split(",") if name)
    spec = export_backbone(model, Opening(sites, also, dora=dora, bias=lora_bias), out).spec
    console = Console(highlight=False)
    console.print(f"{spec.architecture}: {len(spec.sites)} sites open, at most {spec.max_tokens} tokens")
    console.print(
        f"parity with PEFT: max |Δlogit| {spec.parity.max_abs_logit_difference:.1e} over {spec.parity.rows} rows"
    )
    console.print(f"published {out / 'backbone' / '1'}, digest {spec.digest[:12]}")
