"""`adapter_model.safetensors`: which tensors are read, which tables they become, and every refusal by name."""

import json
import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from making import adapter_tensors, make_adapter
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone, HeadLinear
from scoremux_engine.packages.package import TaskPackage

Tensors = dict[str, np.ndarray]
Read = Callable[..., TaskPackage]

PREFIX = "base_model.model."
SITE = "bert.encoder.layer.0.attention.self.query"
KEY, DENSE = SITE.replace("query", "key"), "bert.encoder.layer.0.intermediate.dense"
A, B = f"{PREFIX}{SITE}.lora_A.weight", f"{PREFIX}{SITE}.lora_B.weight"
WEIGHT, BIAS = f"{PREFIX}classifier.weight", f"{PREFIX}classifier.bias"
MAGNITUDE = f"{PREFIX}{SITE}.lora_magnitude_vector"
FILE = "adapter_model.safetensors"


def reader(backbone: Backbone, folder: Path) -> Read:
    """Return a function that reads an adapter folder made of these tensors, with these keys in its config."""
    return lambda tensors, **config: TaskPackage.read(
        make_adapter(folder, backbone.spec, "t", tensors=tensors, config=config), backbone
    )


@pytest.fixture
def tensors(bare: Backbone) -> Tensors:
    """Rank 4, 5 levels."""
    return adapter_tensors(bare.spec, 4, 5, seed=0)


@pytest.fixture
def read(bare: Backbone, tmp_path: Path) -> Read:
    return reader(bare, tmp_path / "adapter")


@pytest.fixture
def variants(bare: Backbone) -> Backbone:
    """The bare backbone with sites that take DoRA and biases, and the tensors these are computed from."""
    sites = tuple(site.model_copy(update={"dora": True, "bias": True}) for site in bare.spec.sites)
    random = np.random.default_rng(5)
    bare.folder.mkdir()
    weights = {f"{site.name}.weight": random.normal(size=(8, 8)).astype(np.float32) for site in sites}
    biases = {f"{site.name}.bias": random.normal(size=8).astype(np.float32) for site in sites}
    save_file(weights | biases, bare.folder / "sites.safetensors")
    return Backbone(bare.folder, bare.spec.model_copy(update={"sites": sites}))


@pytest.fixture
def read_variant(variants: Backbone, tmp_path: Path) -> Read:
    return reader(variants, tmp_path / "variant")


@pytest.fixture
def magnitudes(bare: Backbone) -> Tensors:
    random = np.random.default_rng(6)
    names = [f"{PREFIX}{site.name}.lora_magnitude_vector" for site in bare.spec.sites]
    return {name: random.uniform(1, 2, 8).astype(np.float32) for name in names}


def lora_at(*sites: str) -> Tensors:
    """Return LoRA tensors of rank 4 at sites."""
    a = {f"{PREFIX}{site}.lora_A.weight": np.ones((4, 8), np.float32) for site in sites}
    return a | {f"{PREFIX}{site}.lora_B.weight": np.ones((8, 4), np.float32) for site in sites}


def bfloat16_file(tensors: Tensors) -> bytes:
    """Return a safetensors file of the upper halves of the float32 values."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def test_tables_are_transposes_and_b_is_scaled(read: Read, tensors: Tensors) -> None:
    tables = read(tensors, lora_alpha=6).tables
    expected = {
        f"A.{SITE}": tensors[A].T,
        f"B.{SITE}": np.float32(1.5) * tensors[B].T,
        "weight.classifier": tensors[WEIGHT].T,
        "bias.classifier": tensors[BIAS],
    }
    for name, table in expected.items():
        np.testing.assert_array_equal(tables[name], table)
    assert all(table.dtype == np.float32 and table.flags.c_contiguous for table in tables.values())


def test_halves_are_read_as_their_exact_values(read: Read, bare: Backbone, tensors: Tensors, tmp_path: Path) -> None:
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    np.testing.assert_array_equal(read(halves).tables[f"A.{SITE}"], halves[A].astype(np.float32).T)
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / FILE).write_bytes(bfloat16_file(tensors))
    table = TaskPackage.read(folder, bare).tables[f"A.{SITE}"]
    cut = (np.ascontiguousarray(tensors[A]).view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(table, cut.T)


SHAPES = {A: [4, 8], B: [8, 4], WEIGHT: [5, 8], BIAS: [5]}
OPTION = "--for and all adapters$"
ONES = np.ones(8, np.float32)


def ending(name: str, value: float) -> Tensors:
    tensor = np.zeros(SHAPES[name], np.float32)
    tensor.flat[-1] = value
    return {name: tensor}


@pytest.mark.parametrize(
    ("change", "config", "why"),
    [
        *(
            ({WEIGHT: np.zeros((5, 8), kind)}, {}, rf"{FILE}: {WEIGHT} is \w+; F32, F16 and BF16 are read")
            for kind in ("int8", "int32", "int64", "float64", "uint8", "bool")
        ),
        *(({name: None}, {}, f"{FILE} has no {name}$") for name in (A, B)),
        *(
            ({name: None}, {}, f"{FILE} has no {name}, of the head; PEFT leaves it out where")
            for name in (WEIGHT, BIAS)
        ),
        *(
            (
                {name: np.zeros(shape, np.float32)},
                {},
                rf"{name} has shape {re.escape(str(list(shape)))}, expected {re.escape(str(SHAPES[name]))}",
            )
            for name, shapes in {
                A: [(4, 7), (3, 8), (8, 4), (4, 8, 1)],
                B: [(8, 3), (32,)],
                WEIGHT: [(4, 8), (5, 9)],
                BIAS: [(4,), (5, 1)],
            }.items()
            for shape in shapes
        ),
        ({}, {"r": 8}, r"lora_A\.weight has shape \[4, 8\], expected \[8, 8\]"),
        *(
            (ending(name, value), {}, f"{name} holds NaN or infinity")
            for name in SHAPES
            for value in (np.nan, np.inf, -np.inf)
        ),
        *(({B: np.full((8, 4), 9, np.float32)}, {"lora_alpha": alpha}, None) for alpha in (math.inf, 1e39, 3e38)),
        ({}, {"alpha_pattern": {"query": math.nan}}, None),
        *(
            ({f"{PREFIX}{name}": np.ones(4, np.float32)}, {}, f"{FILE}: {PREFIX}{name} fits nothing in this backbone")
            for name in (
                f"{SITE}.lora_magnitude_vector",
                f"{SITE}.lora_A.bias",
                f"{KEY}.lora_B.weight",
                "bert.embeddings.word_embeddings.lora_embedding_A",
                "bert.position_ids",
            )
        ),
        # PEFT would say nothing but a warning, and score without it.
        ({}, {"target_modules": ["query"]}, r"has LoRA tensors of .*value, which target_modules"),
        # `dense` would open every Linear of that name, and adapters bring only this one.
        (
            {f"{PREFIX}bert.pooler.dense.{part}": ONES for part in ("weight", "bias")},
            {},
            rf"saves bert\.pooler\.dense whole.*again with {OPTION}",
        ),
        ({MAGNITUDE: ONES}, {"use_dora": True}, rf"has DoRA at {SITE}, .* {OPTION}"),
        *(
            ({f"{PREFIX}{SITE}.{name}": ONES}, {}, rf"has biases at {SITE}, .* {OPTION}")
            for name in ("lora_B.bias", "base_layer.bias", "bias")
        ),
        (lora_at(KEY), {}, rf"needs the site {KEY}, which this backbone keeps closed; .* {OPTION}"),
        (lora_at(KEY, DENSE), {}, OPTION),
    ],
)
def test_adapter_that_does_not_fit_is_refused(
    read: Read, tensors: Tensors, change: dict[str, Any], config: dict[str, Any], why: str | None
) -> None:
    with pytest.raises(PackageError, match=why):
        read({name: tensor for name, tensor in (tensors | change).items() if tensor is not None}, **config)


@pytest.mark.parametrize(("sites", "why"), [((), "a merged model is not an adapter"), ((KEY,), f"with {OPTION}")])
def test_no_open_site_is_refused(read: Read, tensors: Tensors, sites: tuple[str, ...], why: str) -> None:
    with pytest.raises(PackageError, match=why):
        read({name: tensors[name] for name in (WEIGHT, BIAS)} | lora_at(*sites))


def test_levels_of_no_tensor_are_refused(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t", levels=5, task_json={"levels": [0, 1, 2, 3, 4, 5]})
    with pytest.raises(PackageError, match=rf"{WEIGHT} has shape \[5, 8\], expected \[6, 8\], since task\.json has 6"):
        TaskPackage.read(folder, bare)


def test_unchanged_site_has_no_tables_and_what_float32_cannot_carry_is_refused(read: Read, tensors: Tensors) -> None:
    read({**tensors, B: tensors[B] * np.float32(1e10)})
    with pytest.raises(
        PackageError, match=rf"LoRA at {SITE} multiplies by up to \de\+\d\d, which float32 cannot carry"
    ):
        read({**tensors, B: tensors[B] * np.float32(1e18)})
    del tensors[A], tensors[B]
    tables = read(tensors).tables
    assert f"A.{SITE}" not in tables
    assert "A.bert.encoder.layer.1.attention.self.query" in tables


def test_head_without_a_bias_adds_zero(bare: Backbone, tensors: Tensors, tmp_path: Path) -> None:
    del tensors[BIAS]
    head = (bare.spec.head[0].model_copy(update={"bias": False}),)
    backbone = Backbone(tmp_path, bare.spec.model_copy(update={"head": head}))
    assert reader(backbone, tmp_path / "adapter")(tensors).tables["bias.classifier"].tolist() == [0.0] * 5


def test_every_linear_of_a_deeper_head_is_read(bare: Backbone, tmp_path: Path) -> None:
    inner = HeadLinear(name="classifier.dense", d_in=8, d_out=8)
    head = (inner, HeadLinear(name="classifier.out_proj", d_in=8, d_out=None))
    deep = Backbone(bare.folder, bare.spec.model_copy(update={"head": head}))
    tables = TaskPackage.read(make_adapter(tmp_path, deep.spec, "t"), deep).tables
    assert tables["weight.classifier.dense"].shape == (8, 8)
    assert tables["weight.classifier.out_proj"].shape == (8, 5)


def test_dora_divides_by_norms(read_variant: Read, variants: Backbone, tensors: Tensors, magnitudes: Tensors) -> None:
    tables = read_variant({**tensors, **magnitudes}, use_dora=True, lora_alpha=6).tables
    merged = variants.site_tensor(SITE, "weight").astype(np.float64) + 1.5 * tensors[B].astype(np.float64) @ tensors[A]
    assert tables[f"M.{SITE}"].dtype == np.float32
    expected = magnitudes[MAGNITUDE] / np.sqrt((merged**2).sum(axis=1))
    np.testing.assert_allclose(tables[f"M.{SITE}"], expected, rtol=1e-5)
    renamed = {f"{name}.weight": tensor for name, tensor in magnitudes.items()}  # as a module is saved
    again = read_variant({**tensors, **renamed}, use_dora=True, lora_alpha=6).tables
    np.testing.assert_array_equal(tables[f"M.{SITE}"], again[f"M.{SITE}"])
    zeros = {f"{site.name}.weight": np.zeros((8, 8), np.float32) for site in variants.spec.sites}
    save_file(zeros, variants.folder / "sites.safetensors")
    with pytest.raises(PackageError):
        read_variant({**tensors, **magnitudes, B: np.zeros((8, 4), np.float32)}, use_dora=True)


def test_missing_and_unwanted_magnitudes_are_named(read_variant: Read, tensors: Tensors, magnitudes: Tensors) -> None:
    with pytest.raises(PackageError, match=r"lora_magnitude_vector fits nothing"):
        read_variant({**tensors, **magnitudes})
    del magnitudes[MAGNITUDE]
    with pytest.raises(PackageError, match=f"has no {MAGNITUDE}"):
        read_variant({**tensors, **magnitudes}, use_dora=True)


@pytest.mark.parametrize("name", ["lora_B.bias", "base_layer.bias", "bias"])
def test_biases_become_what_they_add(read_variant: Read, variants: Backbone, tensors: Tensors, name: str) -> None:
    bias = np.arange(8, dtype=np.float32)
    lora = name == "lora_B.bias"
    config = {"lora_bias": True} if lora else {"bias": "lora_only"}
    tables = read_variant({**tensors, f"{PREFIX}{SITE}.{name}": bias}, lora_alpha=6, **config).tables
    expected = 1.5 * bias if lora else bias - variants.site_tensor(SITE, "bias")
    np.testing.assert_array_equal(tables[f"bias.{SITE}"], expected)


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ("adapter_model.bin", r"adapter_model\.bin is a pickle file"),
        (f"{FILE}.index.json", r"index\.json belongs to a sharded adapter"),
        ("elsewhere", rf"{FILE} cannot be read"),
    ],
)
def test_missing_safetensors_file_is_named_with_others(bare: Backbone, tmp_path: Path, instead: str, why: str) -> None:
    (make_adapter(tmp_path, bare.spec, "t") / FILE).rename(tmp_path / instead)
    with pytest.raises(PackageError, match=why):
        TaskPackage.read(tmp_path, bare)


OTHER_FILES = (b"not a tensor in sight" * 9, b"\xff" * 200, b"PK\x03\x04" + b"\0" * 99)


@pytest.mark.parametrize("content", [0, 7, 8, 100, -1, -1000, *OTHER_FILES])
def test_file_that_is_cut_short_or_foreign_is_refused(bare: Backbone, tmp_path: Path, content: int | bytes) -> None:
    path = make_adapter(tmp_path, bare.spec, "t") / FILE
    path.write_bytes(content if isinstance(content, bytes) else path.read_bytes()[:content])
    with pytest.raises(PackageError, match="is not a whole safetensors file"):
        TaskPackage.read(tmp_path, bare)


def test_digest_covers_the_files_and_not_their_place(bare: Backbone, tmp_path: Path) -> None:
    folders = {
        "plain": make_adapter(tmp_path / "plain", bare.spec, "t"),
        "task": make_adapter(tmp_path / "task", bare.spec, "t", task_json={"question": "Why not?"}),
        "config": make_adapter(tmp_path / "config", bare.spec, "t", config={"lora_dropout": 0.1}),
        "tensors": make_adapter(tmp_path / "tensors", bare.spec, "t", seed=1),
    }
    digests = {name: TaskPackage.read(folder, bare).digest for name, folder in folders.items()}
    assert len(set(digests.values())) == 4
    elsewhere = make_adapter(tmp_path / "elsewhere", bare.spec, "t")
    save_file({"x": np.zeros(1, np.float32)}, elsewhere / "unrelated.safetensors")
    (elsewhere / "training_args.bin").write_bytes(b"\x80\x04.")
    assert TaskPackage.read(elsewhere, bare).digest == digests["plain"]
