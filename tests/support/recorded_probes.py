"""Records which arithmetics there are: what each runner gives for the probe (`scoremux_engine.runners.arithmetic`).

python tests/support/recorded_probes.py

computes it under every instruction set that can be chosen on this machine, and under emulated ones.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from arithmetic import EMULATED, emulator
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.runners.arithmetic import (
    PROBE,
    RECORDED,
    Arithmetic,
    RecordedArithmetics,
    probe_digest,
    read_record,
)
from scoremux_engine.runners.choose import ON_CPU

LIMITS = ("", "AVX512_CORE_BF16", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2")
"""Values of ONEDNN_MAX_CPU_ISA, which bounds oneDNN's own kernels alone; the first is no limit."""

_DIGITS = re.compile("-[0-9a-f]{6}$")


def probes(limit: str = "", within: Sequence[str] = (), names: str = "") -> dict[str, str]:
    """Return the digest by likely name of what this processor computes, in a process of its own.

    limit: one of LIMITS; within: as `emulator()` returns it; names: runner and precision; empty: all.
    """
    command = [*within, sys.executable, __file__, "--print", names]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": limit}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def print_probes(names: str) -> None:
    """Print the likely name and the digest of each runner and precision, a line each."""
    backbone = Backbone.open(PROBE)
    for choice in ON_CPU:
        if names in f"{choice.name} {choice.precision}":
            with contextlib.suppress(RunnerError):  # this processor does not compute it
                print(_DIGITS.sub("", choice.make(backbone).arithmetic), probe_digest(choice.make), flush=True)


def everywhere() -> Iterator[tuple[str, str, str]]:
    """Yield name, digest and processor of all that can be computed on this machine."""
    here = processor_name().partition(" (oneDNN")[0]
    for limit in LIMITS:
        yield from ((name, digest, here) for name, digest in probes(limit).items())
    for processor in EMULATED:
        for name, digest in probes(within=emulator(processor), names="float32").items() if emulator() else ():
            # It reads the flags of the real processor.
            yield name.replace("avx512", "avx2"), digest, f"emulated {processor}"


def library_of(name: str) -> str:
    """Return which library computes in an arithmetic."""
    return "onnxruntime" if name.startswith("onnxruntime") else "openvino"


def add(
    record: RecordedArithmetics, name: str, digest: str, processor: str, library_version: str
) -> RecordedArithmetics:
    """Return the record with a digest: under its name if it has one, else under this name where that is free."""
    taken = {a.name for a in record.arithmetics if a.digest != digest}
    known = next((a for a in record.arithmetics if a.digest == digest), None)
    known = known or Arithmetic(
        name=f"{name}-{digest[:6]}" if name in taken else name, digest=digest, libraries=(), processors=()
    )
    known = known.model_copy(
        update={
            "libraries": tuple(sorted({*known.libraries, f"{library_of(name)} {library_version}"})),
            "processors": tuple(sorted({*known.processors, processor})),
        }
    )
    others = [a for a in record.arithmetics if a.digest != digest]
    return RecordedArithmetics(arithmetics=tuple(sorted([*others, known], key=lambda a: a.name)))


def main() -> None:
    """Add what is computed here."""
    record = read_record()
    for name, digest, processor in everywhere():
        record = add(record, name, digest, processor, version(library_of(name)))
    RECORDED.write_text(json.dumps(record.model_dump(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if "--print" in sys.argv:
        print_probes(sys.argv[-1])
    else:
        main()
