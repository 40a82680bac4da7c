"""What scores: everything besides a row's text and task version that its bits depend on."""

from __future__ import annotations

import os
import platform
from dataclasses import astuple, dataclass
from pathlib import Path

_SETS = (
    ("amx_tile", "amx"),
    ("avx512_vnni", "avx512-vnni"),
    ("avx512f", "avx512"),
    ("avx_vnni", "avx2-vnni"),
    ("avx2", "avx2"),
)
"""Flags of /proc/cpuinfo, and what an arithmetic calls the instruction set; the first that a processor has counts."""
_SHORT = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Provenance:
    """version: of scoremux; runner, device, precision: by name; backbone: digest of the exported backbone."""

    version: str
    runner: str
    device: str
    precision: str
    backbone: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The values in the order of the metric `scoremux_info`."""
        return astuple(self)

    @property
    def arithmetic(self) -> str:
        """See `arithmetic_of`."""
        return arithmetic_of(self.runner, self.precision)


def arithmetic_of(runner: str, precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of what decides bits: processors of one arithmetic give equal bits for the same backbone.

    OpenVINO's float32 is `x86-f32` on every x86 processor with AVX2 (see `runners.portable_math`). Others are named by
    the instruction set, with a limit that oneDNN was given.
    """
    if (runner, precision) == ("openvino", "float32"):
        return "x86-f32"
    flags = cpuinfo.read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split()
    instructions = next((name for flag, name in _SETS if flag in flags), platform.machine())
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "") if runner == "openvino" else ""
    return "-".join(filter(None, [limit.lower() or instructions, _SHORT.get(precision, precision)]))


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name as the kernel gives it, with the instruction sets that were switched off.

    A hypervisor may hide the model in the name; then the family's and the model's numbers follow it.
    """
    first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields and not any(letter.isdigit() for letter in name):
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name} (oneDNN limited to {limit})" if limit else name
