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
    """Return the processor's name as the kernel gives it, with the instruction sets that were switched off."""
    name = platform.machine()
    for line in cpuinfo.read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return f"{name} (oneDNN limited to {limit})" if limit else name
