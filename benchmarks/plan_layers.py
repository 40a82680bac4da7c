"""What TensorRT's inspector says of a plan's layers; tests read it too."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LAYER = re.compile(
    r"^\s*Name: (.+?), LayerType: (\w+), Inputs: \[(.*?)\], Constants: \[(.*?)\], Outputs: \[(.*?)\], Tac"
)
_TYPE = re.compile(r"Datatype: (\w+)")


@dataclass(frozen=True)
class Layer:
    """One layer of a plan: kind as TensorRT names it (`gemm`, `kgen`, …), types of what it reads and gives."""

    name: str
    kind: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]

    @property
    def is_product(self) -> bool:
        """Whether it multiplies matrices, alone or fused with what follows."""
        return self.kind == "gemm" or "Fc" in self.name or "gemm_mha" in self.name

    @property
    def in_float32(self) -> bool:
        """Whether nothing narrower than float32 is read or given."""
        return not {"Half", "BFloat16"} & {*self.reads, *self.gives}


def read_layers(inspected: str) -> list[Layer]:
    """Return the layers of all profiles. inspected: what `backbone.plan.layers` has."""
    matches = (_LAYER.match(line) for line in inspected.splitlines())
    return [
        Layer(m[1], m[2], tuple(_TYPE.findall(m[3]) + _TYPE.findall(m[4])), tuple(_TYPE.findall(m[5])))
        for m in matches
        if m
    ]
