"""Versions of an adapter that nobody trained: each trained weight a little off."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from scoremux_engine.packages.source import TENSORS


def vary(original: Path, folder: Path, factor: float) -> Path:
    """Copy an adapter's folder to `folder` with every weight times `factor`; return it."""
    shutil.copytree(original, folder)
    tensors = load_file(folder / TENSORS)
    save_file({name: tensor * np.float32(factor) for name, tensor in tensors.items()}, folder / TENSORS)
    return folder
