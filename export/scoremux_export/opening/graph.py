"""The opened model as one ONNX graph, by torch's dynamo-based exporter."""

import contextlib
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim

from scoremux_engine.model.backbone import (
    ATTENTION_MASK,
    GROUP,
    INPUT_IDS,
    LOGITS,
    POOLED,
    PREFIX_TOKENS,
    TOKEN_TYPE_IDS,
    kept_output,
    table_inputs,
)
from scoremux_export.errors import ModelError
from scoremux_export.opening.opened import OpenedModel, Tables
from scoremux_files.errors import first_line

OPSET = 20
ONE_FILE_BYTES = (1 << 31) - (64 << 20)
"""The most bytes of weights that go into the graph's own file: it can have 2 GiB. More go into a file beside it."""


def _example_inputs(model: OpenedModel, tokens: int, token_types: bool) -> tuple[Tables, Tables]:
    """Return rows and random tables. All free sizes are 2 and more: the exporter takes 0 and 1 for constants."""
    shape = 4, tokens
    rows = {INPUT_IDS: torch.full(shape, 5), ATTENTION_MASK: torch.ones(shape, dtype=torch.int64)}
    if token_types:
        rows[TOKEN_TYPE_IDS] = torch.zeros(shape, dtype=torch.int64)
    rows[GROUP] = torch.tensor([0, 1, 2, 1])
    if model.prefix_layers:
        rows[PREFIX_TOKENS] = torch.tensor([6, 2, 5, 0])
    free: dict[str | int, int] = {"G": 3, "R": 4, "L_max": 5, "P": 6}
    tables = {}
    for name, sizes in table_inputs(model.sites, model.head, model.prefix_layers).items():
        tables[name] = torch.randn([int(free.get(size, size)) for size in sizes]) * 0.02
    return rows, tables


def write_graph(
    model: OpenedModel, path: Path, max_tokens: int, token_types: bool, one_file_bytes: int = ONE_FILE_BYTES
) -> int:
    """Write the opened model as ONNX; return H, the size of the vector that the head reads.

    With more than `one_file_bytes` of weights, these go into the file ``PATH.data``, which the graph names. Raises
    ModelError where the model never calls a site, or the exporter cannot follow it.
    """
    rows, tables = _example_inputs(model, min(16, max_tokens), token_types)
    with torch.inference_mode():
        _, pooled, *_ = model(**rows, tables=tables)
    unused = sorted(set(tables) - model.used)
    if unused:
        raise ModelError(f"{unused[0].partition('.')[2]} is never called by the model's forward; it cannot be a site")
    prefix_outputs = [kept_output(name) for layer in model.prefix_layers for name in layer.inputs]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                model,
                kwargs={**rows, "tables": tables},
                dynamo=True,
                dynamic_shapes=_dynamic_shapes(rows, model, max_tokens),
                input_names=[*rows, *tables],
                output_names=[LOGITS, POOLED, *prefix_outputs],
                opset_version=OPSET,
            )
            # The exporter notes which lines of which files a node comes from: the graph, and with it the backbone's
            # digest, would depend on where Python is installed.
            for node in program.model.graph:
                node.metadata_props.clear()
            weights_bytes = sum(tensor.nbytes for tensor in model.state_dict().values())
            program.save(str(path), external_data=weights_bytes > one_file_bytes)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(f"the exporter cannot follow this model: {first_line(error.__cause__ or error)}") from error
    return int(pooled.shape[1])


def _dynamic_shapes(rows: Iterable[str], model: OpenedModel, max_tokens: int) -> dict[str, Any]:
    """B, S, G, L_max, P and one R a site are free."""
    shared = {"G": Dim("G"), "L_max": Dim("L_max"), "P": Dim("P")}
    tables: dict[str, dict[int, Any]] = {}
    parts: list[Any] = [*model.sites, *model.head, *model.prefix_layers]
    for number, part in enumerate(parts):
        free = {**shared, "R": Dim(f"R_{number}")}
        for name, shape in part.inputs.items():
            tables[name] = {axis: free[size] for axis, size in enumerate(shape) if size in free}
    shapes: dict[str, Any] = {}
    of_rows = {0: Dim("B")}
    of_tokens = {**of_rows, 1: Dim("S", max=max_tokens)}
    for name in rows:
        shapes[name] = of_rows if name in (GROUP, PREFIX_TOKENS) else of_tokens
    return {**shapes, "tables": tables}
