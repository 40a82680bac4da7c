"""Names of a score's arithmetic: library, precision and processor decide its bits, beside text and task version."""

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")

_SETS = (
    ("sse4_1", "SSE41"),
    ("avx2", "AVX2"),
    ("avx_vnni", "AVX2_VNNI"),
    ("avx_ne_convert", "AVX2_VNNI_2"),
    ("avx512bw", "AVX512_CORE"),
    ("avx512_vnni", "AVX512_CORE_VNNI"),
    ("avx512_bf16", "AVX512_CORE_BF16"),
    ("avx512_fp16", "AVX512_CORE_FP16"),
    ("amx_tile", "AVX512_CORE_AMX"),
)
"""Flags of /proc/cpuinfo and oneDNN's names for the instruction sets, in rising order."""
_ORDER = [name for _, name in _SETS]
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


def openvino_arithmetic(precision: str, cpuinfo: Path = _CPUINFO) -> str:
    """Return the likely name of OpenVINO's arithmetic; a measurement confirms it (`runners.arithmetic`).

    float32 is likely to be `x86-f32` on an x86 processor with AVX2 (`runners.portable_math`), and int8 `x86-int8` on
    one with VNNI of AVX-512. Others are named by the instruction set that their kernels use, within the limit that
    oneDNN was given.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    usable = _SETS[: _ORDER.index(limit) + 1] if limit in _ORDER else _SETS
    flags = _flags(cpuinfo)
    sets = {name for flag, name in usable if flag in flags}
    without_amx = "avx512" if "AVX512_CORE" in sets else "avx2" if "AVX2" in sets else platform.machine()
    family = "amx" if _ORDER[-1] in sets else without_amx
    bfloat16 = "bf16" if {"AVX512_CORE_BF16", "AVX2_VNNI_2"} & sets else "emulated-bf16"
    if precision == "float32":
        return "x86-f32" if "AVX2" in sets else f"{family}-f32"
    if precision == "bfloat16":
        return f"{family}-{bfloat16}"
    if family == "amx" or "AVX512_CORE_VNNI" in sets:
        return "x86-int8"
    return "avx2-vnni-int8" if family == "avx2" and "AVX2_VNNI" in sets else f"{family}-int8"


def library_arithmetic(
    library: str, precision: str, device: str = "cpu", cpuinfo: Path = _CPUINFO, gpus: Path = _GPUS
) -> str:
    """Return the likely name of the arithmetic of another library, such as `onnxruntime-avx512-f32`.

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
