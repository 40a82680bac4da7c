"""How long TensorRT plans take to build and how large they are: models of real sizes, compute capabilities, precisions.

    pip install -e '.[bench,tensorrt-rtx]'
    python -m benchmarks.plans --work FOLDER

Builds with TensorRT for RTX, which needs no GPU. MiniLM has its own weights, the other models random ones: neither
times nor sizes depend on them. What is in FOLDER already is kept. Nothing here says how fast a plan runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import case, data
from benchmarks.case import Case, Column
from benchmarks.rows import Row, load
from scoremux_engine.model.backbone import Backbone
from scoremux_export.plans.build_plan import CAPABILITIES, FLOAT32, PRECISIONS, Ranges
from scoremux_export.plans.plan_builder import build_plan
from scoremux_export.plans.reduced_precision import compare_reduced, write_reduced

MODELS = {"minilm": "query,value", "mpnet-base": r"re:.*attention\.attn\.[qv]", "smollm2-135m": "q_proj,v_proj"}
"""Model → sites that are opened."""


def export(name: str, folder: Path, max_tokens: int) -> Backbone:
    """Return the exported model, exported now unless it is there."""
    repository = folder / f"{name}-{max_tokens}"
    if not (repository / "backbone" / "1" / "backbone.json").is_file():
        from scoremux_export.export_graph import export_backbone
        from scoremux_export.opening.openable import Opening

        source = data.minilm() if name == "minilm" else _random_model(name, folder / "models" / name)
        export_backbone(str(source), Opening(MODELS[name]), repository, max_tokens=max_tokens)
    return Backbone.open(repository / "backbone" / "1")


def _random_model(name: str, folder: Path) -> Path:
    """Save a model of the configuration of all-mpnet-base-v2 or SmolLM2-135M, with MiniLM's tokenizer."""
    import torch
    import transformers

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


def plans(arguments: argparse.Namespace, work: Path) -> Iterable[Row]:
    """Yield a row for each plan, as soon as it is built."""
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
    ranges = Ranges()
    profiles = ranges.profiles(backbone.spec)
    started, used = time.perf_counter(), time.process_time()
    plan = build_plan(graph, [ranges.shapes(backbone.spec, p) for p in profiles], "tensorrt-rtx", [capability])
    took = {"build_s": time.perf_counter() - started, "processor_s": time.process_time() - used}
    products = [layer for layer in plan.layers if layer.is_product]
    return {
        "capability": capability,
        "profiles": len(profiles),
        **{name: round(seconds, 1) for name, seconds in took.items()},
        "plan_mb": round(plan.content.nbytes / 1e6, 1),
        "graph_mb": round(graph.stat().st_size / 1e6, 1),
        "products": len(products),
        "products_in_float32": sum(layer.in_float32 for layer in products),
        "tensorrt_rtx": plan.version,
        "load": load(),
    }


CASES = (
    Case(
        "plans",
        "TensorRT plans built without a GPU",
        (
            Column("model", "model"),
            Column("precision", "precision"),
            Column("compute capability", "capability"),
            Column("profiles", "profiles"),
            Column("built in, s", "build_s"),
            Column("processor s", "processor_s"),
            Column("plan, MB", "plan_mb"),
            Column("graph, MB", "graph_mb"),
            Column("products", "products"),
            Column("of them in float32", "products_in_float32"),
            Column("max abs Δlogit", "max_abs_logit_diff", "{:.1e}"),
            Column("of 64 levels changed", "levels_changed"),
            Column("load", "load"),
        ),
        ("model", "precision", "capability"),
        plans,
    ),
)


def main() -> None:
    parser = case.parser(CASES, __doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--capabilities", nargs="+", default=list(CAPABILITIES))
    parser.add_argument("--max-tokens", type=int, default=64, help="the longest text: a plan has a profile a bucket")
    case.main(CASES, parser.parse_args())


if __name__ == "__main__":
    main()
