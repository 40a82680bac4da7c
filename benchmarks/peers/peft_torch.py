"""PEFT: 27 adapters loaded into one model; rows name theirs, or the model is switched from group to group."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.child import Floats
from benchmarks.data import Labelled, example_adapters, module_name
from benchmarks.peers import batches
from benchmarks.peers.base import BATCHES, Batched, Peer, classifier

ARRIVING = (64,)
CONVERTED, AUTOCAST = "converted to bfloat16", "bfloat16 by autocast"
PRECISIONS = ("float32", AUTOCAST, CONVERTED)
PEERS = (
    Peer("PEFT mixed batch, as rows arrive", "peft_torch:PeftMixed", {"by_length": False}, default=True, rounds=1),
    Peer("PEFT mixed batch, by length", "peft_torch:PeftMixed", rounds=0),
    Peer("PEFT mixed batch, at its best", "peft_torch:PeftMixed", {"precisions": PRECISIONS}, rounds=0),
    Peer("PEFT set_adapter, at its best", "peft_torch:PeftSwitched", {"precisions": PRECISIONS}),
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
        precisions: those to choose from.
        adapters: a folder of adapter folders; empty: the example adapters.
        device: where torch computes.
        rows: most rows of a batch, to choose from.
    """

    def __init__(
        self,
        scratch: str,  # noqa: ARG002
        precisions: Sequence[str] = PRECISIONS[:1],
        adapters: str = "",
        rows: Sequence[int] = BATCHES,
        device: str = "cpu",
    ) -> None:
        import torch

        super().__init__(precisions, rows)
        self._device = device
        folders = sorted(Path(adapters).iterdir()) if adapters else example_adapters()
        self._model = with_adapters(classifier(), folders).to(device)
        self._converted = copy.deepcopy(self._model).to(torch.bfloat16) if CONVERTED in precisions else None

    @property
    def model(self) -> Any:
        """The model of the setting."""
        return self._converted if self.setting.precision == CONVERTED else self._model

    def forward(self, ids: Sequence[list[int]], **options: Any) -> Floats:
        """Run one batch, padded to its longest row."""
        import torch

        array, mask = (torch.from_numpy(part).to(self._device) for part in batches.padded(ids))
        by_autocast = self.setting.precision == AUTOCAST
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=by_autocast):
            logits = self.model(input_ids=array, attention_mask=mask, **options).logits
        return np.asarray(logits.float().cpu().numpy())


class PeftMixed(PeftPeer):
    """Mixed batches by `adapter_names`. by_length: batches of like length; else ARRIVING rows as they come."""

    def __init__(
        self,
        scratch: str,
        by_length: bool = True,
        precisions: Sequence[str] = PRECISIONS[:1],
        adapters: str = "",
        device: str = "cpu",
    ) -> None:
        super().__init__(scratch, precisions, adapters, BATCHES if by_length else ARRIVING, device)
        self._by_length = by_length

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:
        if self._by_length:
            return batches.by_length([len(i) for i in ids], self.setting.rows)
        most = self.setting.rows
        return [list(range(at, min(at + most, len(rows)))) for at in range(0, len(rows), most)]

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        return self.forward(ids, adapter_names=list(map(module_name, tasks)))


class PeftSwitched(PeftPeer):
    """Rows grouped by task, `set_adapter` before each group."""

    _active: tuple[Any, str] = None, ""

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        if (self.model, tasks[0]) != self._active:
            self.model.set_adapter(module_name(tasks[0]))
            self._active = self.model, tasks[0]
        return self.forward(ids)


class PeftMerged(Batched):
    """A whole model for each task in torch, its adapter merged by PEFT; rows grouped by task.

    Args:
        precisions: float32, CONVERTED, or both to choose from.
        device: where torch computes.
    """

    def __init__(
        self,
        scratch: str,  # noqa: ARG002
        precisions: Sequence[str] = PRECISIONS[:1],
        device: str = "cpu",
    ) -> None:
        import peft
        import torch

        super().__init__(precisions)
        self._device, base = device, classifier()
        self._models: dict[tuple[str, str], Any] = {}
        for folder in example_adapters():
            adapted: Any = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(folder))
            merged = adapted.merge_and_unload().eval()
            for precision in precisions:
                kind = torch.bfloat16 if precision == CONVERTED else torch.float32
                self._models[folder.name, precision] = copy.deepcopy(merged).to(device, kind)

    def run(self, tasks: Sequence[str], ids: Sequence[list[int]]) -> Floats:
        import torch

        array, mask = (torch.from_numpy(part).to(self._device) for part in batches.padded(ids))
        with torch.inference_mode():
            model = self._models[tasks[0], self.setting.precision]
            logits = model(input_ids=array, attention_mask=mask).logits
        return np.asarray(logits.float().cpu().numpy())


class PeftAlone(PeftSwitched):
    """Every row alone and unpadded: the reference."""

    def __init__(self, scratch: str) -> None:
        super().__init__(scratch, rows=(1,))

    def parts(self, rows: Sequence[Labelled], ids: Sequence[list[int]]) -> list[list[int]]:  # noqa: ARG002
        return [[i] for i in sorted(range(len(rows)), key=lambda i: rows[i].task)]
