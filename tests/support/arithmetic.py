"""Digests of a backbone's logits under an instruction set, computed in a process of its own: oneDNN reads it once.

python tests/support/arithmetic.py BACKBONE MIXES LONGEST SEED      prints one digest a line

A limit of oneDNN leaves OpenVINO's own kernels and its products of weights (MLAS) as they are: what a processor without
AVX-512 computes is seen in an emulated one alone (Debian's package qemu-user).
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

LIMITS = ("AVX2", "AVX512_CORE", "")
"""Values of ONEDNN_MAX_CPU_ISA; the last is no limit."""
EMULATED = {"EPYC-Milan": "512 KiB", "EPYC-Genoa": "1 MiB", "Haswell": "2 MiB and more"}
"""Processors with AVX2 that QEMU emulates without AVX-512 → the L2 cache that it reports."""
RANKS = (1, 4, 8, 16, 30, 64, 256)


def emulator(processor: str = "Haswell") -> list[str]:
    """Return the command that runs a program in one of EMULATED; empty without QEMU."""
    program = shutil.which("qemu-x86_64")
    return [program, "-cpu", processor] if program else []


def digests(
    backbone: Path, limit: str, mixes: int, longest: int, within: Sequence[str] = (), seed: int = 19
) -> list[str]:
    """Return a digest for each of `mixes` mixes of rows of up to `longest` tokens.

    limit: one of LIMITS; within: what the command is run by, such as `emulator()`.
    """
    done = subprocess.run(
        [*within, sys.executable, __file__, str(backbone), str(mixes), str(longest), str(seed)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def main(folder: Path, mixes: int, longest: int, seed: int) -> None:
    """Print the digest of each mix: rows of random lengths and tables of a random rank, in OpenVINO's float32."""
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.model.tables import SizeClass, Tables, input_shapes
    from scoremux_engine.model.tokens import Tokens
    from scoremux_engine.runners.openvino import OpenVinoRunner
    from scoremux_engine.runners.runner import pad

    backbone, draw = Backbone.open(folder), np.random.default_rng(seed)
    runner = OpenVinoRunner(backbone, "float32", threads=1, streams=1)
    longest = min(longest, backbone.spec.max_tokens)
    for mix in range(mixes):
        bucket = longest if mix == 0 else 8 * int(draw.integers(1, longest // 8 + 1))
        rows, groups = int(draw.integers(1, 9)), 3
        lengths = [bucket, *map(int, draw.integers(1, bucket + 1, rows - 1))]
        tokens = [Tokens(draw.integers(5, 40, n).tolist(), [0] * n, truncated=False) for n in lengths]
        size = SizeClass(RANKS[mix % len(RANKS)], int(draw.integers(2, 9)))
        arrays = {}
        for name, shape in input_shapes(backbone.spec, size).items():
            scale = 0.1 if len(shape) == 1 else shape[0] ** -0.5
            arrays[name] = draw.normal(0.5, scale, (groups, *shape)).astype(np.float32)
        group = draw.integers(0, groups, rows)
        out = runner.run(pad(tokens, group, bucket, backbone.spec), Tables(arrays), pooled=True)
        values = np.ascontiguousarray(out.logits).tobytes() + np.ascontiguousarray(out.pooled).tobytes()
        print(hashlib.sha256(values).hexdigest())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
