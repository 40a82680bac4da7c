"""PEFT: 27 adapters loaded into one model; rows name theirs, or the model is switched from group to group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled, example_adapters, module_name
from benchmarks.peers import batches
from benchmarks.peers.base import Batched, Peer, classifier

PEERS = (
    Peer("PEFT mixed batch, as rows arrive", "peft_torch:PeftMixed", {"by_length": False}, default=True, rounds=1),
    Peer("PEFT mixed batch, by length", "peft_torch:PeftMixed", rounds=0),
    Peer("PEFT mixed batch, by length, bfloat16", "peft_torch:PeftMixed", {"bfloat16": True}, rounds=0),
    Peer("PEFT set_adapter", "peft_torch:PeftSwitched"),
)


def with_adapters(base: Any, folders: Sequence[Path]) -> Any:
    """Return a model with all adapters loaded; their names are those of the folders, without dots."""
    import peft

    first = module_name(folders[0].name)
    model: Any = peft.PeftModel.from_pretrained(base, str(folders[0]), adapter_name=first)
    for folder in folders[1:]:
        model.load_adapter(str(folder), adapter_name=module_name(folder.name))
    return model.eval()


class PeftPeer(Batched):
    """What both ways share.

    Args:
        bfloat16: compute in bfloat16 under autocast.
        adapters: a folder of adapter folders; empty: the example adapters.
    """

    def __init__(self, scratch: str, bfloat16: bool = False, adapters: str = "") -> None:  # noqa: ARG002
        super().__init__()
        folders = sorted(Path(adapters).iterdir()) if adapters else example_adapters()
        self.model = with_adapters(classifier(), folders)
        self._bfloat16 = bfloat16

    def forward(self, ids: Sequence[list[int]], **options: Any) -> Floats:
        """Run one batch, padded to its longest row."""
        import torch

        array, mask = map(torch.from_numpy, batches.padded(ids))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            logits = self.model(input_ids=array, attention_mask=mask, **options).logits
        return np.asarray(logits.float().numpy())


class PeftMixed(PeftPeer):
    """Mixed batches by `adapter_names`. by_length: batches of like length; else 64 rows as they arrive."""

    def __init__(self, scratch: str, by_length: bool = True, bfloat16: bool = False, adapters: str = "") -> None:
        super().__init__(scratch, bfloat16, adapters)
        self._by_length = by_length

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:
        if self._by_length:
            # Each adapter of a batch costs a pass over its rows: large batches pay here.
            return batches.by_length([len(i) for i in ids], rows_most=128, tokens_most=8192)
        return [list(range(at, min(at + 64, len(rows)))) for at in range(0, len(rows), 64)]

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        return self.forward(ids, adapter_names=list(map(module_name, tasks)))


class PeftSwitched(PeftPeer):
    """Rows grouped by task, `set_adapter` before each group."""

    _active = ""

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        if tasks[0] != self._active:
            self.model.set_adapter(module_name(tasks[0]))
            self._active = tasks[0]
        return self.forward(ids)


class PeftAlone(PeftSwitched):
    """Every row alone and unpadded: the reference."""

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:  # noqa: ARG002
        return [[i] for i in sorted(range(len(rows)), key=lambda i: rows[i].task)]
