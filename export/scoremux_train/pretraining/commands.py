"""`scoremux pretrain`: unlabelled responses → a backbone that has read them."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from scoremux_files.rows.row_layout import column_names
from scoremux_train.progress import quieten, show_progress

_STAGE, _UNIT = "pretraining", "readings of a text (texts × epochs)"
_COLUMN = "text=NAME: how the files call the column of texts."


def pretrain(
    sources: Annotated[list[Path], typer.Argument(help="Responses: .csv, .jsonl or .parquet files.")],
    backbone: Annotated[str, typer.Option(help="Folder or hub id of an encoder.")],
    out: Annotated[Path, typer.Option(help="Folder to write the new backbone to.")],
    epochs: Annotated[int, typer.Option(min=1, help="How often each text is read.")] = 5,
    column: Annotated[list[str] | None, typer.Option("--column", metavar="KEY=NAME", help=_COLUMN)] = None,
    cores: Annotated[int, typer.Option(min=0, help="How many cores; 0: all. The weights do not depend on it.")] = 0,
) -> None:
    """Continue a backbone's masked-token training on responses without labels, once, before adapters are trained on it.

    Re-run the same command to resume a run that was stopped; the weights are those of an uninterrupted run.

    Example: scoremux pretrain responses.csv --backbone MODEL --out MODEL2
    """
    from scoremux_train.pretraining.pretrain_run import DEFAULT, pretrain_backbone, read_texts

    quieten()
    recipe = DEFAULT.model_copy(update={"epochs": epochs})
    texts = read_texts(sources, column_names(column, text="text")["text"])
    with show_progress({_STAGE: _STAGE}, _UNIT) as progress:
        step = partial(progress, _STAGE)
        before, after = pretrain_backbone(backbone, texts, recipe, out, step, cores=cores)
    if not math.isnan(after):
        print(f"cross entropy of hidden tokens in held-out texts: {before:.3f} before, {after:.3f} after")
    print(f"train adapters on it with: scoremux train LABELLED… --backbone {out} --out ADAPTERS")
