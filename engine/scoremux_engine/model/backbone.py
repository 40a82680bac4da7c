"""The exported backbone on disk: `backbone.onnx`, `tokenizer.json` and `backbone.json`, which says what they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from scoremux_engine.errors import BackboneError
from scoremux_engine.model.buckets import Buckets
from scoremux_engine.model.tokens import Tokenizer
from scoremux_files.digests import digest_of, file_digest, set_digest
from scoremux_files.errors import reading
from scoremux_files.settings import parse_object, validate

ONNX = "backbone.onnx"
TOKENIZER = "tokenizer.json"
SITES = "sites.safetensors"
SPEC = "backbone.json"
MEASURED = "measured{}.safetensors"

REDUCED = {"float16": "backbone.fp16.onnx", "bfloat16": "backbone.bf16.onnx"}
"""Precision → the graph in it, which `scoremux export reduced` writes."""

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"
GROUP = "group"
PREFIX_TOKENS = "prefix_tokens"
LOGITS = "logits"
POOLED = "pooled"

Shapes = dict[str, tuple[int | str, ...]]
"""Name of a graph's input or output → shape, free sizes as the letters B, S, G, R, L_max and P."""


def site_inputs(site: str) -> tuple[str, str]:
    """Return the graph's input names of one site: A float32 [G, D_in, R] and B float32 [G, R, D_out]."""
    return f"A.{site}", f"B.{site}"


def magnitude_input(site: str) -> str:
    """Return the graph's input name of a site's DoRA magnitudes over norms: float32 [G, D_out]."""
    return f"M.{site}"


def bias_input(site: str) -> str:
    """Return the graph's input name of the biases that a site's adapters add: float32 [G, D_out]."""
    return f"bias.{site}"


def head_inputs(linear: str) -> tuple[str, str]:
    """Return the graph's input names of one head Linear: weight float32 [G, D_in, D_out], bias float32 [G, D_out]."""
    return f"weight.{linear}", f"bias.{linear}"


def prefix_inputs(layer: int) -> tuple[str, str]:
    """Return the graph's input names of one layer's prefixes: keys and values, each float32 [G, heads, P, width]."""
    return f"K.{layer}", f"V.{layer}"


def is_prefix_input(name: str) -> bool:
    """Whether a table input holds prefixes."""
    return name.startswith(("K.", "V."))


def kept_output(name: str) -> str:
    """Return the graph's output name for the table `name` of a prefix: float32 [B, heads, S, width]."""
    return f"own.{name}"


class StrictModel(BaseModel):
    """A part of a file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Spec = TypeVar("Spec", bound=StrictModel)


def read_spec(model: type[Spec], path: Path, command: str) -> Spec:
    """Read a JSON file of format 1.

    Raises BackboneError, which names the command that writes the file, where it is missing, cannot be read or is of
    another format.
    """
    if not path.is_file():
        raise BackboneError(f"{path} is missing: run `{command}` first")
    with reading(path, BackboneError):
        data = path.read_bytes()
    try:
        values = parse_object(data)
        if values.get("format") != 1:
            raise ValueError("it is of another version of scoremux")
        return validate(model.model_validate, values)
    except ValueError as error:
        raise BackboneError(f"{path} cannot be used: {error}; run `{command}` again") from error


class Site(StrictModel):
    """A Linear of the backbone that takes LoRA deltas: its module name and widths, and which variants it takes.

    dora: the graph has `magnitude_input`; bias: it has `bias_input`.
    """

    name: str
    d_in: int = Field(gt=0)
    d_out: int = Field(gt=0)
    dora: bool = False
    bias: bool = False

    @property
    def inputs(self) -> Shapes:
        """The graph's inputs of this site with their shapes; G and R are free."""
        a, b = site_inputs(self.name)
        inputs: Shapes = {a: ("G", self.d_in, "R"), b: ("G", "R", self.d_out)}
        if self.dora:
            inputs[magnitude_input(self.name)] = ("G", self.d_out)
        if self.bias:
            inputs[bias_input(self.name)] = ("G", self.d_out)
        return inputs


class HeadLinear(StrictModel):
    """A Linear of the head, replaced per task. `d_out` is None where the width is the task's number of levels.

    bias: whether the model's own has one; the graph takes a bias in any case.
    """

    name: str
    d_in: int = Field(gt=0)
    d_out: int | None = Field(gt=0)
    bias: bool = True

    @property
    def inputs(self) -> Shapes:
        """The graph's inputs of this Linear with their shapes; G and L_max are free."""
        weight, bias = head_inputs(self.name)
        width = self.d_out or "L_max"
        return {weight: ("G", self.d_in, width), bias: ("G", width)}


class PrefixLayer(StrictModel):
    """A layer whose attention reads prefixes: its number, how many key and value heads it has, and how wide they are.

    Keys are kept as attention reads them: after rotary embeddings.
    """

    layer: int = Field(ge=0)
    heads: int = Field(gt=0)
    key_width: int = Field(gt=0)
    value_width: int = Field(gt=0)

    @property
    def inputs(self) -> Shapes:
        """The graph's inputs of this layer with their shapes; G and P are free."""
        keys, values = prefix_inputs(self.layer)
        return {keys: ("G", self.heads, "P", self.key_width), values: ("G", self.heads, "P", self.value_width)}


def table_inputs(
    sites: Sequence[Site], head: Sequence[HeadLinear], prefix_layers: Sequence[PrefixLayer] = ()
) -> Shapes:
    """Return the graph's inputs that hold tables with their shapes, in the graph's order."""
    parts: tuple[Site | HeadLinear | PrefixLayer, ...] = (*sites, *head, *prefix_layers)
    return {name: shape for part in parts for name, shape in part.inputs.items()}


class Parity(StrictModel):
    """The proof of the export: the largest |Δlogit| from PEFT over `rows` random rows."""

    rows: int
    max_abs_logit_difference: float


class BackboneSpec(StrictModel):
    """`backbone.json`. `files` names every other file with its sha256; `digest` covers all that decides a score.

    weights: the sha256 of the model's safetensors, empty where it is not known and in exports of earlier versions.
    token_types: whether the graph takes `token_type_ids`: the model has more than one type, and its tokenizer gives
    them. pooled_size: H of `pooled`, the vector that the head reads. prefix_layers: where rows read the keys and values
    of their task's prefix; none in encoders, and in decoders that were exported by earlier versions. measured: the
    sha256 of `Backbone.measured_file`, empty in exports of earlier versions; no part of the digest.
    """

    format: Literal[1] = 1
    architecture: str
    source: str
    weights: str = ""
    sites: tuple[Site, ...]
    head: tuple[HeadLinear, ...]
    max_tokens: int = Field(gt=0)
    pad_id: int = Field(ge=0)
    token_types: bool = False
    pooled_size: int = Field(gt=0)
    prefix_layers: tuple[PrefixLayer, ...] = ()
    parity: Parity
    made_with: dict[str, str]
    files: dict[str, str]
    measured: str = ""
    digest: str = ""

    @property
    def row_inputs(self) -> Shapes:
        """The graph's inputs that hold a micro-batch's rows, in the graph's order; B and S are free."""
        tokens = (INPUT_IDS, ATTENTION_MASK, *((TOKEN_TYPE_IDS,) if self.token_types else ()))
        of_rows = (GROUP, *((PREFIX_TOKENS,) if self.prefix_layers else ()))
        return {**dict.fromkeys(tokens, ("B", "S")), **dict.fromkeys(of_rows, ("B",))}

    @property
    def outputs(self) -> Shapes:
        """The graph's outputs; B, S and L_max are free."""
        outputs: Shapes = {LOGITS: ("B", "L_max"), POOLED: ("B", self.pooled_size)}
        for layer in self.prefix_layers:
            outputs |= {self.kept[n]: ("B", shape[1], "S", shape[3]) for n, shape in layer.inputs.items()}
        return outputs

    @property
    def kept(self) -> dict[str, str]:
        """Input that holds a prefix → the output that it is filled from, in a run of the prefix's tokens alone."""
        return {name: kept_output(name) for layer in self.prefix_layers for name in layer.inputs}

    @property
    def table_inputs(self) -> Shapes:
        """All of the graph's inputs that hold tables, in the graph's order."""
        return table_inputs(self.sites, self.head, self.prefix_layers)

    def own_digest(self) -> str:
        """Return the digest of all that decides a score: the spec's content and, through `files`, the files beside it.

        Place and tools of its making are left out, and so are defaults: a field that a later version adds leaves the
        digests of older exports as they are.
        """
        content = self.model_dump_json(
            exclude_defaults=True, exclude={"format", "digest", "source", "weights", "parity", "made_with", "measured"}
        )
        return set_digest({**self.files, content: SPEC})


@dataclass(eq=False)
class Backbone:
    """An exported backbone in `folder`, checked file by file against its digests."""

    folder: Path
    spec: BackboneSpec

    @property
    def onnx(self) -> Path:
        return self.folder / ONNX

    @cached_property
    def buckets(self) -> Buckets:
        """The padded lengths of its inputs."""
        return Buckets(self.spec.max_tokens)

    def site_tensor(self, site: str, part: str) -> npt.NDArray[np.float32]:
        """Return a site's own `weight` float32 [D_out, D_in] or `bias` float32 [D_out], as variants need them."""
        with safe_open(self.folder / SITES, framework="np") as file:
            tensor: npt.NDArray[np.float32] = file.get_tensor(f"{site}.{part}")
        return tensor

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of its responses. Raises BackboneError where its file is not a tokenizer."""
        return Tokenizer.open(self.folder / TOKENIZER, self.spec.max_tokens)

    @cached_property
    def measured(self) -> dict[str, npt.NDArray[np.float32]]:
        """The measurements of the export: the expected outputs, and as `range.<name>` the ranges that int8 needs."""
        if not self.spec.measured:
            return {}
        with reading(self.measured_file, BackboneError):
            data = self.measured_file.read_bytes()
        try:
            arrays: dict[str, npt.NDArray[np.float32]] = load(data)
        except (SafetensorError, KeyError, TypeError, ValueError):
            raise self.damaged from None
        whole = all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())
        if digest_of([data]) != self.spec.measured or not whole:
            raise self.damaged
        return arrays

    @property
    def measured_file(self) -> Path:
        """The file of its measurements. Its name has their digest, so that none is ever overwritten."""
        file = self.folder / MEASURED.format(f"-{self.spec.measured[:16]}")
        return file if file.exists() else self.folder / MEASURED.format("")  # of earlier exports

    @property
    def damaged(self) -> BackboneError:
        """The error of measurements that do not fit their digest, or this backbone."""
        command = f"scoremux export measure {self.folder.parents[1]}"
        return BackboneError(f"{self.measured_file} is damaged: run `{command}`")

    @classmethod
    def open(cls, folder: Path) -> "Backbone":
        """Read and verify all but the measurements. Raises BackboneError naming the file that is missing or changed."""
        path = folder / SPEC
        spec = read_spec(BackboneSpec, path, "scoremux export backbone")
        if spec.own_digest() != spec.digest:
            raise BackboneError(f"{path} was changed after the export; export the backbone again")
        for name, digest in spec.files.items():
            file = folder / name
            if not file.is_file():
                raise BackboneError(f"{file} is missing; export the backbone again")
            if file_digest(file) != digest:
                raise BackboneError(f"{file} was changed or cut short after the export; export the backbone again")
        return cls(folder, spec)
