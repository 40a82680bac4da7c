"""`adapter_model.safetensors`: what is read, what it becomes, and every refusal by name."""

from __future__ import annotations

import json
import math
import struct
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

PREFIX = "base_model.model."
SITE = "bert.encoder.layer.0.attention.self.query"
A, B = f"{PREFIX}{SITE}.lora_A.weight", f"{PREFIX}{SITE}.lora_B.weight"
WEIGHT, BIAS = f"{PREFIX}classifier.weight", f"{PREFIX}classifier.bias"
FILE = "adapter_model.safetensors"


@pytest.fixture
def tensors(bare: Backbone) -> Tensors:
    """Rank 4, 5 levels."""
    return adapter_tensors(bare.spec, 4, 5, seed=0)


@pytest.fixture
def read(bare: Backbone, tmp_path: Path) -> Any:
    """Read an adapter folder made of these tensors."""

    def read(tensors: Tensors, **config: Any) -> TaskPackage:
        return TaskPackage.read(
            make_adapter(tmp_path / "adapter", bare.spec, "t", tensors=tensors, config=config), bare
        )

    return read


def bfloat16_file(tensors: Tensors) -> bytes:
    """A safetensors file of the upper halves of the float32 values."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = (np.ascontiguousarray(tensor).view(np.uint32) >> 16).astype(np.uint16).tobytes()
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def test_a_becomes_its_transpose_and_b_its_scaled_transpose(read: Any, tensors: Tensors) -> None:
    tables = read(tensors, lora_alpha=6).tables.tables
    np.testing.assert_array_equal(tables[f"A.{SITE}"], tensors[A].T)
    np.testing.assert_array_equal(tables[f"B.{SITE}"], np.float32(1.5) * tensors[B].T)


def test_the_head_becomes_a_transposed_weight_and_its_bias(read: Any, tensors: Tensors) -> None:
    tables = read(tensors).tables.tables
    np.testing.assert_array_equal(tables["weight.classifier"], tensors[WEIGHT].T)
    np.testing.assert_array_equal(tables["bias.classifier"], tensors[BIAS])


def test_every_table_is_contiguous_float32(read: Any, tensors: Tensors) -> None:
    for table in read(tensors).tables.tables.values():
        assert table.dtype == np.float32
        assert table.flags.c_contiguous


def test_the_size_of_the_tables_is_said(read: Any, tensors: Tensors) -> None:
    assert read(tensors).tables.size_bytes == sum(t.nbytes for t in tensors.values())


def test_a_file_of_float16_is_read_as_its_exact_values(read: Any, tensors: Tensors) -> None:
    halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    np.testing.assert_array_equal(read(halves).tables.tables[f"A.{SITE}"], halves[A].astype(np.float32).T)


def test_a_file_of_bfloat16_is_read_as_its_exact_values(bare: Backbone, tensors: Tensors, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / FILE).write_bytes(bfloat16_file(tensors))
    table = TaskPackage.read(folder, bare).tables.tables[f"A.{SITE}"]
    cut = (np.ascontiguousarray(tensors[A]).view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(table, cut.T)


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "float64", "uint8", "bool"])
def test_a_tensor_of_another_type_is_refused_by_name(read: Any, tensors: Tensors, kind: str) -> None:
    with pytest.raises(PackageError, match=rf"{FILE}: {WEIGHT} is \w+; F32, F16 and BF16 are read"):
        read({**tensors, WEIGHT: tensors[WEIGHT].astype(kind)})


@pytest.mark.parametrize("missing", [A, B, WEIGHT])
def test_a_missing_tensor_is_named(read: Any, tensors: Tensors, missing: str) -> None:
    del tensors[missing]
    with pytest.raises(PackageError, match=f"{FILE} has no {missing}"):
        read(tensors)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        (A, (4, 7), "[4, 8]"),
        (A, (3, 8), "[4, 8]"),
        (A, (8, 4), "[4, 8]"),
        (A, (4, 8, 1), "[4, 8]"),
        (B, (8, 3), "[8, 4]"),
        (B, (32,), "[8, 4]"),
        (WEIGHT, (4, 8), "[5, 8]"),
        (WEIGHT, (5, 9), "[5, 8]"),
        (BIAS, (4,), "[5]"),
        (BIAS, (5, 1), "[5]"),
    ],
)
def test_a_misshapen_tensor_is_named_with_the_shape_it_should_have(
    read: Any, tensors: Tensors, name: str, shape: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(PackageError) as caught:
        read({**tensors, name: np.zeros(shape, np.float32)})
    assert f"{name} has shape {list(shape)}, expected {expected}" in str(caught.value)


def test_a_rank_that_the_config_does_not_have_is_refused(read: Any, tensors: Tensors) -> None:
    with pytest.raises(PackageError, match=r"lora_A\.weight has shape \[4, 8\], expected \[8, 8\]"):
        read(tensors, r=8)


def test_more_levels_than_the_head_has_are_refused(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t", levels=5, task_json={"levels": [0, 1, 2, 3, 4, 5]})
    with pytest.raises(PackageError, match=rf"{WEIGHT} has shape \[5, 8\], expected \[6, 8\]"):
        TaskPackage.read(folder, bare)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [A, B, WEIGHT, BIAS])
def test_a_tensor_that_is_not_finite_is_refused_by_name(read: Any, tensors: Tensors, name: str, value: float) -> None:
    tensors[name].flat[-1] = value
    with pytest.raises(PackageError, match=f"{name} holds NaN or infinity"):
        read(tensors)


@pytest.mark.parametrize(
    "config",
    [{"lora_alpha": math.inf}, {"lora_alpha": 1e39}, {"lora_alpha": 3e38}, {"alpha_pattern": {"query": math.nan}}],
    ids=["infinity", "beyond float32", "overflows with B", "nan in a pattern"],
)
def test_a_scaling_that_makes_the_tables_infinite_is_refused(
    read: Any, tensors: Tensors, config: dict[str, Any]
) -> None:
    with pytest.raises(PackageError):
        read({**tensors, B: tensors[B] * 100}, **config)


def test_a_rank_of_zero_is_refused(read: Any, tensors: Tensors) -> None:
    empty = {A: np.zeros((0, 8), np.float32), B: np.zeros((8, 0), np.float32)}
    with pytest.raises(PackageError):
        read({**tensors, **empty}, rank_pattern={r".*layer\.0\..*query": 0})


def test_a_site_left_alone_has_no_tables(read: Any, tensors: Tensors) -> None:
    del tensors[A], tensors[B]
    tables = read(tensors).tables.tables
    assert f"A.{SITE}" not in tables
    assert "A.bert.encoder.layer.1.attention.self.query" in tables


def test_an_adapter_for_no_site_at_all_is_refused(read: Any, tensors: Tensors) -> None:
    with pytest.raises(PackageError, match="has no LoRA tensors; a merged model is no adapter"):
        read({WEIGHT: tensors[WEIGHT], BIAS: tensors[BIAS]})


def test_a_head_that_lost_its_bias_is_refused(read: Any, tensors: Tensors) -> None:
    del tensors[BIAS]
    with pytest.raises(PackageError, match=f"has no {BIAS}"):
        read(tensors)


def test_a_head_that_never_had_a_bias_adds_zero(bare: Backbone, tensors: Tensors, tmp_path: Path) -> None:
    del tensors[BIAS]
    head = (bare.spec.head[0].model_copy(update={"bias": False}),)
    backbone = Backbone(tmp_path, bare.spec.model_copy(update={"head": head}))
    folder = make_adapter(tmp_path / "adapter", backbone.spec, "t-1", tensors=tensors)
    read = TaskPackage.read(folder, backbone)
    assert read.tables.tables["bias.classifier"].tolist() == [0.0] * 5


def with_lora(tensors: Tensors, *sites: str) -> Tensors:
    made = dict(tensors)
    for site in sites:
        made[f"{PREFIX}{site}.lora_A.weight"] = np.ones((4, 8), np.float32)
        made[f"{PREFIX}{site}.lora_B.weight"] = np.ones((8, 4), np.float32)
    return made


def test_a_closed_site_is_named_with_the_sites_that_would_serve_it(read: Any, tensors: Tensors) -> None:
    closed = SITE.replace("query", "key")
    with pytest.raises(PackageError) as caught:
        read(with_lora(tensors, closed))
    assert f"needs the site {closed}, which this backbone keeps closed" in str(caught.value)
    assert str(caught.value).endswith("with --for and all adapters, or with --sites key,query,value")


def test_an_adapter_whose_sites_are_all_closed_is_told_so(read: Any, tensors: Tensors) -> None:
    head = {name: tensors[name] for name in (WEIGHT, BIAS)}
    with pytest.raises(PackageError, match=r"--sites key,query,value$"):
        read(with_lora(head, SITE.replace("query", "key")))


def test_all_closed_sites_are_in_the_sites_that_would_serve_the_adapter(read: Any, tensors: Tensors) -> None:
    closed = (SITE.replace("query", "key"), "bert.encoder.layer.0.intermediate.dense")
    with pytest.raises(PackageError) as caught:
        read(with_lora(tensors, *closed))
    assert str(caught.value).endswith("--sites dense,key,query,value")


@pytest.mark.parametrize(
    "name",
    [
        f"{PREFIX}{SITE}.lora_magnitude_vector",
        f"{PREFIX}{SITE}.lora_A.bias",
        f"{PREFIX}{SITE.replace('query', 'key')}.lora_B.weight",
        f"{PREFIX}bert.embeddings.word_embeddings.lora_embedding_A",
        f"{PREFIX}bert.position_ids",
    ],
)
def test_a_tensor_that_nothing_takes_is_refused_by_name(read: Any, tensors: Tensors, name: str) -> None:
    with pytest.raises(PackageError, match=f"{FILE}: {name} fits nothing in this backbone"):
        read({**tensors, name: np.ones(4, np.float32)})


def test_a_module_saved_whole_is_named_with_the_option_that_opens_it_alone(read: Any, tensors: Tensors) -> None:
    # `dense` would open every Linear of that name, and adapters bring only this one.
    pooler = {f"{PREFIX}bert.pooler.dense.{part}": np.ones(8, np.float32) for part in ("weight", "bias")}
    with pytest.raises(PackageError, match=r"saves bert\.pooler\.dense whole") as caught:
        read({**tensors, **pooler})
    assert str(caught.value).endswith(("--modules-to-save pooler.dense", "--modules-to-save bert.pooler.dense"))


def test_every_linear_of_a_deeper_head_is_read(bare: Backbone, tmp_path: Path) -> None:
    inner = HeadLinear(name="classifier.dense", d_in=8, d_out=8)
    head = (inner, HeadLinear(name="classifier.out_proj", d_in=8, d_out=None))
    deep = Backbone(bare.folder, bare.spec.model_copy(update={"head": head}))
    tables = TaskPackage.read(make_adapter(tmp_path, deep.spec, "t"), deep).tables.tables
    assert tables["weight.classifier.dense"].shape == (8, 8)
    assert tables["weight.classifier.out_proj"].shape == (8, 5)


@pytest.fixture
def variants(bare: Backbone) -> Backbone:
    """The bare backbone with sites that take DoRA and biases, and the tensors these are computed from."""
    sites = tuple(site.model_copy(update={"dora": True, "bias": True}) for site in bare.spec.sites)
    random = np.random.default_rng(5)
    bare.folder.mkdir()
    own = {f"{site.name}.weight": random.normal(size=(8, 8)).astype(np.float32) for site in sites}
    own |= {f"{site.name}.bias": random.normal(size=8).astype(np.float32) for site in sites}
    save_file(own, bare.folder / "sites.safetensors")
    return Backbone(bare.folder, bare.spec.model_copy(update={"sites": sites}))


@pytest.fixture
def read_variant(variants: Backbone, tmp_path: Path) -> Any:
    def read(tensors: Tensors, **config: Any) -> TaskPackage:
        return TaskPackage.read(
            make_adapter(tmp_path / "a", variants.spec, "t", tensors=tensors, config=config), variants
        )

    return read


@pytest.fixture
def magnitudes(bare: Backbone) -> Tensors:
    random = np.random.default_rng(6)
    names = [f"{PREFIX}{site.name}.lora_magnitude_vector" for site in bare.spec.sites]
    return {name: random.uniform(1, 2, 8).astype(np.float32) for name in names}


def test_doras_magnitudes_are_divided_by_the_norms_of_the_merged_rows(
    read_variant: Any, variants: Backbone, tensors: Tensors, magnitudes: Tensors
) -> None:
    tables = read_variant({**tensors, **magnitudes}, use_dora=True, lora_alpha=6).tables.tables
    merged = variants.site_tensor(SITE, "weight").astype(np.float64) + 1.5 * tensors[B].astype(np.float64) @ tensors[A]
    expected = magnitudes[f"{PREFIX}{SITE}.lora_magnitude_vector"] / np.sqrt((merged**2).sum(axis=1))
    assert tables[f"M.{SITE}"].dtype == np.float32
    np.testing.assert_allclose(tables[f"M.{SITE}"], expected, rtol=1e-5)


def test_magnitudes_are_found_under_the_name_of_a_module_too(
    read_variant: Any, tensors: Tensors, magnitudes: Tensors
) -> None:
    renamed = {f"{name}.weight": tensor for name, tensor in magnitudes.items()}
    tables = [read_variant({**tensors, **m}, use_dora=True).tables.tables for m in (magnitudes, renamed)]
    np.testing.assert_array_equal(tables[0][f"M.{SITE}"], tables[1][f"M.{SITE}"])


def test_a_plain_adapter_has_no_magnitudes_on_a_backbone_that_takes_them(read_variant: Any, tensors: Tensors) -> None:
    assert not [name for name in read_variant(tensors).tables.tables if name.startswith(("M.", "bias.bert"))]


def test_dora_without_a_magnitude_is_refused_by_name(read_variant: Any, tensors: Tensors, magnitudes: Tensors) -> None:
    del magnitudes[f"{PREFIX}{SITE}.lora_magnitude_vector"]
    with pytest.raises(PackageError, match=f"has no {PREFIX}{SITE}.lora_magnitude_vector"):
        read_variant({**tensors, **magnitudes}, use_dora=True)


def test_a_magnitude_that_no_config_asks_for_is_refused_by_name(
    read_variant: Any, tensors: Tensors, magnitudes: Tensors
) -> None:
    with pytest.raises(PackageError, match=r"lora_magnitude_vector fits nothing"):
        read_variant({**tensors, **magnitudes})


def test_a_merged_row_of_zeros_is_refused(
    read_variant: Any, variants: Backbone, tensors: Tensors, magnitudes: Tensors
) -> None:
    own = {f"{site.name}.weight": np.zeros((8, 8), np.float32) for site in variants.spec.sites}
    save_file(own, variants.folder / "sites.safetensors")
    with pytest.raises(PackageError):
        read_variant({**tensors, **magnitudes, B: np.zeros((8, 4), np.float32)}, use_dora=True)


def test_a_bias_of_b_is_scaled_as_b_is(read_variant: Any, tensors: Tensors) -> None:
    bias = np.arange(8, dtype=np.float32)
    tables = read_variant({**tensors, f"{PREFIX}{SITE}.lora_B.bias": bias}, lora_bias=True, lora_alpha=6).tables.tables
    np.testing.assert_array_equal(tables[f"bias.{SITE}"], 1.5 * bias)


@pytest.mark.parametrize("name", ["base_layer.bias", "bias"])
def test_a_trained_bias_counts_as_what_it_adds_to_the_sites_own(
    read_variant: Any, variants: Backbone, tensors: Tensors, name: str
) -> None:
    bias = np.arange(8, dtype=np.float32)
    tables = read_variant({**tensors, f"{PREFIX}{SITE}.{name}": bias}, bias="lora_only").tables.tables
    np.testing.assert_array_equal(tables[f"bias.{SITE}"], bias - variants.site_tensor(SITE, "bias"))


def test_dora_on_a_backbone_that_does_not_take_it_is_refused_with_the_option(
    read: Any, tensors: Tensors, magnitudes: Tensors
) -> None:
    with pytest.raises(PackageError, match=rf"has DoRA at {SITE}, .* or with --dora$"):
        read({**tensors, **magnitudes}, use_dora=True)


@pytest.mark.parametrize("name", ["lora_B.bias", "base_layer.bias", "bias"])
def test_biases_on_a_backbone_that_does_not_take_them_are_refused_with_the_option(
    read: Any, tensors: Tensors, name: str
) -> None:
    with pytest.raises(PackageError, match=rf"has biases at {SITE}, .* or with --lora-bias$"):
        read({**tensors, f"{PREFIX}{SITE}.{name}": np.ones(8, np.float32)})


def test_a_pickle_file_is_never_opened(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / FILE).rename(folder / "adapter_model.bin")
    with pytest.raises(PackageError, match=r"adapter_model\.bin is a pickle file, which is never opened"):
        TaskPackage.read(folder, bare)


def test_a_sharded_adapter_is_refused_by_name(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / FILE).rename(folder / "adapter_model-00001-of-00002.safetensors")
    (folder / f"{FILE}.index.json").write_text("{}")
    with pytest.raises(PackageError, match=r"index\.json belongs to a sharded adapter"):
        TaskPackage.read(folder, bare)


def test_a_pickle_file_beside_the_safetensors_is_ignored(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    digest = TaskPackage.read(folder, bare).digest
    (folder / "training_args.bin").write_bytes(b"\x80\x04.")
    assert TaskPackage.read(folder, bare).digest == digest


def test_a_missing_file_is_named(bare: Backbone, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path, bare.spec, "t")
    (folder / FILE).unlink()
    with pytest.raises(PackageError, match=rf"{folder / FILE} cannot be read: No such file"):
        TaskPackage.read(folder, bare)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1, -1000])
def test_a_file_cut_short_is_refused(bare: Backbone, tmp_path: Path, kept: int) -> None:
    path = make_adapter(tmp_path, bare.spec, "t") / FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PackageError, match="is not a whole safetensors file"):
        TaskPackage.read(tmp_path, bare)


@pytest.mark.parametrize("content", [b"not a tensor in sight" * 9, b"\xff" * 200, b"PK\x03\x04" + b"\0" * 99])
def test_a_file_of_something_else_is_refused(bare: Backbone, tmp_path: Path, content: bytes) -> None:
    (make_adapter(tmp_path, bare.spec, "t") / FILE).write_bytes(content)
    with pytest.raises(PackageError, match="is not a whole safetensors file"):
        TaskPackage.read(tmp_path, bare)


def test_a_folder_in_the_files_place_is_refused(bare: Backbone, tmp_path: Path) -> None:
    (make_adapter(tmp_path, bare.spec, "t") / FILE).unlink()
    (tmp_path / FILE).mkdir()
    with pytest.raises(PackageError, match=FILE):
        TaskPackage.read(tmp_path, bare)


def test_the_digest_changes_with_any_of_the_three_files(bare: Backbone, tmp_path: Path) -> None:
    made = {
        "plain": make_adapter(tmp_path / "plain", bare.spec, "t"),
        "task": make_adapter(tmp_path / "task", bare.spec, "t", task_json={"question": "Why not?"}),
        "config": make_adapter(tmp_path / "config", bare.spec, "t", config={"lora_dropout": 0.1}),
        "tensors": make_adapter(tmp_path / "tensors", bare.spec, "t", seed=1),
    }
    assert len({TaskPackage.read(folder, bare).digest for folder in made.values()}) == 4


def test_the_digest_is_that_of_the_content_and_not_of_the_place(bare: Backbone, tmp_path: Path) -> None:
    here, there = (make_adapter(tmp_path / place, bare.spec, "t") for place in ("here", "there"))
    save_file({"x": np.zeros(1, np.float32)}, there / "unrelated.safetensors")
    assert TaskPackage.read(here, bare).digest == TaskPackage.read(there, bare).digest
