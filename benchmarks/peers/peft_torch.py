"""PEFT: 27 adapters loaded into one model; rows name theirs, or the model is switched from group to group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.peers import batches
from benchmarks.peers.adapters import adapter_folders, name
from benchmarks.peers.base import classifier, tensor_bytes
from benchmarks.peers.peer import Floats
from benchmarks.saf import SafRow


class PeftPeer:
    """What both ways share. bfloat16: compute in bfloat16 under autocast; device: torch's name of it."""

    def __init__(self, scratch: str, bfloat16: bool = False, device: str = "cpu") -> None:  # noqa: ARG002
        import peft

        folders = adapter_folders()
        model: Any = peft.PeftModel.from_pretrained(classifier(), str(folders[0]), adapter_name=name(folders[0].name))
        for folder in folders[1:]:
            model.load_adapter(str(folder), adapter_name=name(folder.name))
        self.model = model.eval().to(device)
        self.pid = os.getpid()
        self._tokens = batches.TokenIds()
        self._bfloat16 = bfloat16
        self._device = device

    def run(self, ids: Sequence[list[int]], **options: Any) -> Floats:
        """Run one batch, padded to its longest row."""
        import torch

        array, mask = (torch.from_numpy(made).to(self._device) for made in batches.padded(ids))
        kind = torch.device(self._device).type
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=self._bfloat16):
            logits = self.model(input_ids=array, attention_mask=mask, **options).logits
        return np.asarray(logits.float().cpu().numpy())

    def weights_bytes(self) -> int:
        return tensor_bytes(self.model)

    def close(self) -> None: ...


class PeftMixed(PeftPeer):
    """Mixed batches by `adapter_names`. by_length: batches of like length; else 64 rows as they arrive."""

    def __init__(self, scratch: str, by_length: bool = True, bfloat16: bool = False, device: str = "cpu") -> None:
        super().__init__(scratch, bfloat16, device)
        self._by_length = by_length

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        if self._by_length:
            # Each adapter of a batch costs a pass over its rows: large batches pay here.
            parts = batches.by_length([len(i) for i in ids], rows_most=128, tokens_most=8192)
        else:
            parts = [list(range(at, min(at + 64, len(ids)))) for at in range(0, len(ids), 64)]

        def run(number: int) -> Floats:
            part = parts[number]
            return self.run([ids[i] for i in part], adapter_names=[name(rows[i].task) for i in part])

        return batches.scattered(len(rows), parts, run)


class PeftSwitched(PeftPeer):
    """Rows grouped by task, `set_adapter` before each group."""

    def logits(self, rows: Sequence[SafRow]) -> Floats:
        ids = self._tokens.of(rows)
        parts = batches.by_task_and_length(rows, ids)
        active = None

        def run(number: int) -> Floats:
            nonlocal active
            task, part = parts[number]
            if task != active:
                self.model.set_adapter(name(task))
                active = task
            return self.run([ids[i] for i in part])

        return batches.scattered(len(rows), [part for _, part in parts], run)
