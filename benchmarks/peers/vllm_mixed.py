"""vLLM: one classifier, an adapter with a head of its own for each row of a call. Needs a GPU.

Its CPU build takes no adapters for classifiers of BERT's family (0.32.0). Since 0.33 a LoRA may bring its own head
(PEFT's `modules_to_save`), as wide as the base model's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled, example_adapters, minilm
from benchmarks.peers.base import Peer, classifier

VLLM = Peer("vLLM, an adapter for each row", "vllm_mixed:VllmMixed", requirements=("vllm>=0.33",))
DTYPES = ("float32", "bfloat16")


class VllmMixed:
    """All rows in one call of `LLM.classify`, which batches them by itself; the logits without softmax.

    Args:
        scratch: a folder for the base classifier, which vLLM reads from disk.
        dtype: one of DTYPES.
    """

    def __init__(self, scratch: str, dtype: str = "float32") -> None:
        import peft
        from transformers import AutoTokenizer
        from vllm import LLM, PoolingParams
        from vllm.lora.request import LoRARequest

        self.pid, self.setting = os.getpid(), dtype
        folder, adapters = Path(scratch) / "vllm-base", example_adapters()
        classifier().save_pretrained(folder)
        AutoTokenizer.from_pretrained(str(minilm())).save_pretrained(folder)
        ranks = [peft.LoraConfig.from_pretrained(str(adapter)).r for adapter in adapters]
        options = {"max_loras": len(adapters), "max_lora_rank": max(ranks), "enable_lora": True}
        self._model: Any = LLM(str(folder), runner="pooling", dtype=dtype, **options)
        self._requests = {
            adapter.name: LoRARequest(adapter.name, number, str(adapter)) for number, adapter in enumerate(adapters, 1)
        }
        self._logits = PoolingParams(use_activation=False)

    def logits(self, rows: Sequence[Labelled]) -> Floats:
        """Return float32 [B, 5], in the order of the rows."""
        outputs = self._model.classify(
            [row.text for row in rows],
            pooling_params=self._logits,
            lora_request=[self._requests[row.task] for row in rows],
            use_tqdm=False,
        )
        return np.array([output.outputs.probs for output in outputs], np.float32)

    def close(self) -> None: ...
