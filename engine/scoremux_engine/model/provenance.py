"""Names of a score's arithmetic: library, precision and processor decide its bits, beside text and task version."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")

_SHORT = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Provenance:
    """The values of the metric `scoremux_info`, in the order of its labels.

    version: of scoremux; runner, device, precision: by name; backbone: digest of the exported backbone.

    arithmetic: the name of the arithmetic (`runners.arithmetic`).
    """

    version: str
    runner: str
    device: str
    precision: str
    backbone: str
    arithmetic: str


def library_arithmetic(
    library: str, precision: str, device: str = "cpu", cpuinfo: Path = _CPUINFO, gpus: Path = _GPUS
) -> str:
    """Return a name of a library's arithmetic, such as `onnxruntime-avx512-f32`, where no measurement names it.

    Args:
        device: `cpu`, or what kind of GPU; a GPU is named by its model.
        gpus: Where the driver lists GPUs.
    """
    place = _gpu(gpus) or device
    if device == "cpu":
        flags = _flags(cpuinfo)
        place = "avx512" if "avx512bw" in flags else "avx2" if "avx2" in flags else platform.machine()
    return f"{library}-{place}-{_SHORT.get(precision, precision)}"[:64]


def has_gpu() -> bool:
    """Return whether NVIDIA's driver lists a GPU."""
    return bool(_gpu(_GPUS))


def processor_name(cpuinfo: Path = _CPUINFO) -> str:
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


def _flags(cpuinfo: Path) -> set[str]:
    return set(cpuinfo.read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())


def _gpu(gpus: Path) -> str:
    """Return the model of the first GPU, in letters that a name of an arithmetic may have."""
    for information in sorted(gpus.glob("*/information")):
        model = information.read_text(encoding="utf-8").partition("Model:")[2].partition("\n")[0]
        return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return ""
