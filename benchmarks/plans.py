"""How long TensorRT plans take to build and how large they are: models of real sizes, compute capabilities, precisions.

    pip install -e '.[bench]'
    python -m benchmarks plans --work FOLDER

Builds with TensorRT for RTX, which needs no GPU. MiniLM has its own weights, the other models random ones: neither
times nor sizes depend on them. What is in FOLDER already is kept. Nothing here says how fast a plan runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import data
from benchmarks.case import case
from benchmarks.plan_layers import read_layers
from benchmarks.rows import Row, load
from benchmarks.stores import export_once
from scoremux_engine.model.backbone import Backbone
from scoremux_export.plans.build_plan import FLOAT32, PRECISIONS, PlanRanges, build_plan, load_tensorrt, plan_memory
from scoremux_export.plans.reduced_precision import compare_reduced, write_reduced

MODELS = {"minilm": "query,value", "mpnet-base": r"re:.*attention\.attn\.[qv]", "smollm2-135m": "q_proj,v_proj"}
"""Model → sites that are opened."""


def export(name: str, folder: Path, max_tokens: int) -> Backbone:
    """Return the exported model, exported now unless it is there."""
    repository = folder / f"{name}-{max_tokens}"
    source = data.minilm() if name == "minilm" else _random_model(name, folder / "models" / name)
    export_once(str(source), MODELS[name], repository, max_tokens)
    return Backbone.open(repository / "backbone" / "1")


def _random_model(name: str, folder: Path) -> Path:
    """Save a model of the configuration of all-mpnet-base-v2 or SmolLM2-135M, with MiniLM's tokenizer."""
    import torch
    import transformers

    if (folder / "config.json").exists():
        return folder
    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(data.minilm())
    kind = transformers.AutoModel
    if name == "mpnet-base":
        config: Any = transformers.MPNetConfig(pad_token_id=0)
    else:
        kind = transformers.AutoModelForCausalLM
        config = transformers.LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, tie_word_embeddings=True, pad_token_id=0, rope_theta=100000.0,
        )  # fmt: skip
        tokenizer.backend_tokenizer.post_processor = None
    kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@case(
    columns=(
        "model; precision; compute capability = capability; profiles; built in, s = build_s; "
        "processor s = processor_s; plan, MB = plan_mb; graph, MB = graph_mb; products; "
        "inputs, MB = inputs_mb; contexts, MB = contexts_mb; computed before, MB = computed_mb; "
        "of them in float32 = products_in_float32; max abs Δlogit = max_abs_logit_diff:.1e; "
        "of 64 levels changed = levels_changed; load"
    ),
    keys="model precision capability",
    options={
        "--models": {"nargs": "+", "choices": MODELS, "default": list(MODELS)},
        "--precisions": {"nargs": "+", "choices": PRECISIONS, "default": list(PRECISIONS)},
        "--capabilities": {"nargs": "+", "default": ["8.0", "8.6", "8.9", "12.0"]},
        "--max-tokens": {"type": int, "default": 64, "help": "the longest text: a plan has a profile a bucket"},
    },
)
def plans(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """TensorRT plans built without a GPU."""
    for name in arguments.models:
        backbone = export(name, work, arguments.max_tokens)
        for precision in arguments.precisions:
            graph = backbone.onnx if precision == FLOAT32 else write_reduced(backbone, precision)
            parity = None if precision == FLOAT32 else compare_reduced(backbone, precision)
            for capability in arguments.capabilities:
                row = {"model": name, "precision": precision, **measure(backbone, graph, capability)}
                if parity is not None:
                    row |= {"max_abs_logit_diff": parity.max_abs_logit_difference}
                    row |= {"levels_changed": parity.levels_changed, "levels_rows": parity.rows}
                yield row


def measure(backbone: Backbone, graph: Path, capability: str) -> dict[str, Any]:
    """Build one plan and return what it took."""
    ranges, tensorrt = PlanRanges(), load_tensorrt(for_rtx=True)
    profiles = ranges.profiles(backbone.spec)
    started, used = time.perf_counter(), time.process_time()
    shapes = [ranges.shapes(backbone.spec, profile) for profile in profiles]
    memory = plan_memory(backbone.spec, shapes, graph.stat().st_size, 4 if graph == backbone.onnx else 2)
    plan = build_plan(graph, shapes, tensorrt, [capability])
    took = {"build_s": time.perf_counter() - started, "processor_s": time.process_time() - used}
    products = [layer for layer in read_layers(plan.inspected) if layer.is_product]
    return {
        "capability": capability,
        "profiles": len(profiles),
        **{name: round(seconds, 1) for name, seconds in took.items()},
        "plan_mb": round(plan.content.nbytes / 1e6, 1),
        "graph_mb": round(graph.stat().st_size / 1e6, 1),
        "inputs_mb": round(memory.inputs / 1e6, 1),
        "contexts_mb": round(sum(plan.context_bytes) / 1e6, 1),
        "computed_mb": round(memory.contexts / 1e6, 1),
        "products": len(products),
        "products_in_float32": sum(layer.in_float32 for layer in products),
        "tensorrt_rtx": plan.version,
        "load": load(),
    }
