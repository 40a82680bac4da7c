"""Small real things for tests: an encoder with seeded weights, adapters as PEFT writes them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from scoremux_engine.model.backbone import BackboneSpec, HeadLinear, Parity, Site
from scoremux_engine.model.buckets import Buckets, SizeClass
from scoremux_engine.model.plan import PLAN, PLAN_SPEC, PlanProfile, PlanSpec
from scoremux_engine.model.tables import Tables, input_shapes
from scoremux_files.locks import locked

ROOT = Path(__file__).parents[2]
TASKS = {"t-1": (4, 5), "t-2": (8, 3), "t-3": (2, 2), "t-4": (16, 9)}
"""Tasks of the small repository: id → (rank, levels)."""

NEEDS_EXPORT = "needs the extra export"

WORDS = """
the a it hands out addresses to hosts on network router packet is lost never sent protocol server client bridge table
tree spanning window flow control one two three answer wrong right ä ö ü straße , . ? !
""".split()  # noqa: SIM905


class Once:
    """Makes folders under `root` that all workers of a run share, each by the first that asks for its name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        folder, made = self._root / f"once-{name}", self._root / f"{name}.made"
        with locked(self._root / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    def export(self, name: str, source: Path, opening: Any) -> Path:
        """Export a model with the sites of `opening` (`Opening`) open."""
        from scoremux_export.export_graph import export_backbone

        return self(name, lambda folder: export_backbone(str(source), opening, folder))


def make_encoder(folder: Path, layers: int = 2, width: int = 32, max_tokens: int = 64, seed: int = 7) -> Path:
    """Write a BERT of `layers` layers, `width` wide, with seeded random weights and a WordPiece tokenizer."""
    torch = pytest.importorskip("torch", reason=NEEDS_EXPORT)
    import transformers

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pieces = [*dict.fromkeys([*WORDS, *letters, *(f"##{c}" for c in letters)])]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = transformers.BertTokenizerFast(
        vocab={w: i for i, w in enumerate(vocabulary)}, model_max_length=max_tokens
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=max_tokens,
    )
    # The encoder alone, as hubs have it: heads are the tasks' own.
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def make_spec(width: int, layers: int = 2) -> BackboneSpec:
    """Return what describes a BERT with query and value open and a head of one Linear."""
    names = [f"bert.encoder.layer.{n}.attention.self.{part}" for n in range(layers) for part in ("query", "value")]
    return BackboneSpec(
        architecture="BertForSequenceClassification",
        source="nowhere",
        sites=tuple(Site(name=name, d_in=width, d_out=width) for name in names),
        head=(HeadLinear(name="classifier", d_in=width, d_out=None),),
        max_tokens=64,
        pad_id=0,
        token_types=True,
        pooled_size=width,
        parity=Parity(rows=1, max_abs_logit_difference=0.0),
        made_with={},
        files={},
        digest="b" * 64,
    )


def write_plan(folder: Path, spec: BackboneSpec, runtime: str = "tensorrt", levels: int = 8) -> None:
    """Write an empty file where a TensorRT plan would be, and what describes one for ranks up to 16."""
    buckets = Buckets(spec.max_tokens).lengths
    described = PlanSpec(
        backbone=spec.digest,
        runtime=runtime,
        version="11.0",
        precision="float16",
        capabilities=("8.9",),
        profiles=(PlanProfile(least_tokens=buckets[0], tokens=buckets[-1], rows=8),) * 2,
        memory_bytes=2,
        context_bytes=(1, 1),
        groups=8,
        rank=16,
        levels=levels,
    )
    (folder / PLAN).touch()
    (folder / PLAN_SPEC).write_text(described.model_dump_json())


def random_tables(backbone: BackboneSpec, groups: int = 27, rank: int = 16, levels: int = 8, seed: int = 27) -> Tables:
    """Return tables of as many made-up adapters."""
    draw = np.random.default_rng(seed)
    shapes = input_shapes(backbone, SizeClass(rank, levels))
    made = {n: draw.normal(0, 0.02, (groups, *shape)).astype(np.float32) for n, shape in shapes.items()}
    return Tables(made)


def adapter_tensors(spec: BackboneSpec, rank: int, levels: int, seed: int) -> dict[str, np.ndarray]:
    """Return random tensors under the names PEFT gives them."""
    random = np.random.default_rng(seed)
    prefix = "base_model.model."
    tensors = {}
    for site in spec.sites:
        tensors[f"{prefix}{site.name}.lora_A.weight"] = random.normal(0, 0.3, (rank, site.d_in))
        tensors[f"{prefix}{site.name}.lora_B.weight"] = random.normal(0, 0.3, (site.d_out, rank))
    for linear in spec.head:
        width = linear.d_out or levels
        tensors[f"{prefix}{linear.name}.weight"] = random.normal(0, 0.5, (width, linear.d_in))
        if linear.bias:
            tensors[f"{prefix}{linear.name}.bias"] = random.normal(0, 0.5, width)
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def make_adapter(
    folder: Path,
    spec: BackboneSpec,
    task: str,
    *,
    rank: int = 4,
    levels: int = 5,
    seed: int = 0,
    config: dict[str, Any] | None = None,
    task_json: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> Path:
    """Write an adapter folder; the last three arguments replace parts of what is right."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**made, **(config or {})}))
    described = {"id": task, "levels": list(range(levels)), "question": "Why?", "language": "en"}
    given = {key: value for key, value in {**described, **(task_json or {})}.items() if value is not None}
    (folder / "task.json").write_text(json.dumps(given))
    save_file(tensors or adapter_tensors(spec, rank, levels, seed), folder / "adapter_model.safetensors")
    return folder
