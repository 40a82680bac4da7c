"""The opened model as one ONNX graph, by torch's dynamo-based exporter."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from scoremux_engine.backbone import (
    ATTENTION_MASK,
    GROUP,
    INPUT_IDS,
    LOGITS,
    HeadLinear,
    Site,
    head_inputs,
    site_inputs,
)
from scoremux_export.errors import ModelError
from scoremux_export.opened import OpenedModel, Tables

OPSET = 20


def table_names(sites: Sequence[Site], head: Sequence[HeadLinear]) -> list[str]:
    """Return the names of all table inputs, in the graph's order."""
    return [n for s in sites for n in site_inputs(s.name)] + [n for h in head for n in head_inputs(h.name)]


def example_tables(sites: Sequence[Site], head: Sequence[HeadLinear], groups: int, rank: int, levels: int) -> Tables:
    """Return small random tables of the right shapes."""
    tables: Tables = {}
    for site in sites:
        a, b = site_inputs(site.name)
        tables[a] = torch.randn(groups, site.d_in, rank) * 0.02
        tables[b] = torch.randn(groups, rank, site.d_out) * 0.02
    for linear in head:
        weight, bias = head_inputs(linear.name)
        width = linear.d_out or levels
        tables[weight] = torch.randn(groups, linear.d_in, width) * 0.02
        tables[bias] = torch.randn(groups, width) * 0.02
    return tables


def write_graph(
    model: OpenedModel, sites: Sequence[Site], head: Sequence[HeadLinear], max_tokens: int, path: Path
) -> None:
    """Write `path`. Raises ModelError naming a site that the model never calls, or what the exporter choked on."""
    # Sizes of 2 and more: the exporter takes 0 and 1 for constants.
    tables = example_tables(sites, head, groups=3, rank=4, levels=5)
    example = {
        INPUT_IDS: torch.full((4, 16), 5),
        ATTENTION_MASK: torch.ones(4, 16, dtype=torch.int64),
        GROUP: torch.tensor([0, 1, 2, 1]),
        "tables": tables,
    }
    with torch.inference_mode():
        model(**example)
    unused = sorted(set(tables) - model.used)
    if unused:
        raise ModelError(f"{unused[0].partition('.')[2]} is never called by the model's forward; it cannot be a site")
    names = table_names(sites, head)
    example["tables"] = {name: tables[name] for name in names}
    try:
        with _quiet():
            torch.onnx.export(
                model,
                kwargs=example,
                f=str(path),
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(sites, head, max_tokens),
                input_names=[INPUT_IDS, ATTENTION_MASK, GROUP, *names],
                output_names=[LOGITS],
                opset_version=OPSET,
                external_data=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(f"the exporter cannot follow this model: {_first_line(error)}") from error


def _dynamic_shapes(sites: Sequence[Site], head: Sequence[HeadLinear], max_tokens: int) -> dict[str, Any]:
    """B, S, G, L_max and one R a site are free."""
    rows, groups, levels = Dim("B"), Dim("G"), Dim("L_max")
    tokens = Dim("S", max=max_tokens)
    tables: dict[str, Any] = {}
    for number, site in enumerate(sites):
        a, b = site_inputs(site.name)
        rank = Dim(f"R_{number}")
        tables[a], tables[b] = {0: groups, 2: rank}, {0: groups, 1: rank}
    for linear in head:
        weight, bias = head_inputs(linear.name)
        free = levels if linear.d_out is None else None
        tables[weight] = {0: groups, 2: free} if free else {0: groups}
        tables[bias] = {0: groups, 1: free} if free else {0: groups}
    ids = {0: rows, 1: tokens}
    return {INPUT_IDS: ids, ATTENTION_MASK: ids, GROUP: {0: rows}, "tables": tables}


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the exporter's progress and its advice to its own authors off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
