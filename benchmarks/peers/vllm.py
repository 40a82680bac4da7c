"""vLLM on the processor: pooling with LoRA for the encoder; it has none for classifiers, so heads are ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.adapters import PREFIX, read_all, rewritten
from benchmarks.peers.heads import Heads, Pooler
from benchmarks.peers.peer import RANK, Floats
from benchmarks.saf import SafRow, minilm

RENAME = {f"{PREFIX}bert.encoder.": f"{PREFIX}encoder."}


class Vllm:
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

        adapters = read_all()
        self._requests = {}
        for number, (task, adapter) in enumerate(adapters.items(), 1):
            folder = rewritten(
                adapter,
                Path(scratch) / "vllm",
                config={"modules_to_save": None, "task_type": "FEATURE_EXTRACTION"},
                rename=RENAME,
                head=False,
            )
            self._requests[task] = LoRARequest(task, number, str(folder))
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
        self._pooler = Pooler(weights["pooler.dense.weight"], weights["pooler.dense.bias"])
        self._heads = Heads(adapters)
        self._bytes: int = sum(array.nbytes for array in weights.values()) + sum(a.nbytes() for a in adapters.values())
        self._tokens = batches.TokenIds()
        self.pid = os.getpid()

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in self._tokens.of(rows)]
        requests = [self._requests[row.task] for row in rows]
        outputs = self._engine.embed(prompts, lora_request=requests, use_tqdm=False)
        first = np.array([output.outputs.embedding for output in outputs], dtype=np.float32)
        return self._heads.of(self._pooler.of(first), [row.task for row in rows])

    def weights_bytes(self) -> int:
        return self._bytes

    def close(self) -> None: ...
