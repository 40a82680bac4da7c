"""What scores: everything besides a row's text and task version that its bits depend on."""

from __future__ import annotations

import os
import platform
from dataclasses import astuple, dataclass
from pathlib import Path


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
