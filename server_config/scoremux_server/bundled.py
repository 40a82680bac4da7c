"""The tritonserver that the PyTriton wheel carries, and what its Python stub needs to find this Python."""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from scoremux_server.errors import SetupError

_UTILS = "triton_python_backend_utils.py"


def triton_folder() -> Path:
    """Return the folder with tritonserver's `bin` and `backends`. Raises SetupError where the wheel is missing."""
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("no tritonserver is installed: pip install 'scoremux[serve]'")
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def make_backend_folder(target: Path) -> None:
    """Write `target`/python: links to the backend, its utilities and the stub of the running Python."""
    triton = triton_folder()
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = triton / "python_backend_stubs" / minor / "triton_python_backend_stub"
    if not stub.is_file():
        known = ", ".join(sorted((p.name for p in stub.parents[1].iterdir()), key=lambda v: int(v.partition(".")[2])))
        raise SetupError(f"the bundled Triton has no Python backend for CPython {minor}; it has {known}")
    backend = target / "python"
    backend.mkdir(parents=True)
    for file in (triton / "backends" / "python" / "libtriton_python.so", triton / "backends" / "python" / _UTILS, stub):
        (backend / file.name).symlink_to(file)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` with the variables that make Triton's stub load this Python and its packages.

    The stub embeds Python in isolated mode: it ignores PYTHONPATH and takes prefix and packages from the `python3`
    that it finds first in PATH. Without LD_LIBRARY_PATH it may load another libpython of the same version.
    """
    library = sysconfig.get_config_var("LIBDIR") or ""
    libraries = [str(triton_folder() / "lib"), library, base.get("LD_LIBRARY_PATH", "")]
    programs = [str(Path(sys.executable).parent), base.get("PATH", os.defpath)]
    return {
        **base,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PATH": os.pathsep.join(filter(None, programs)),
        # The tokenizers library warns in every process that was forked after it was used.
        "TOKENIZERS_PARALLELISM": "false",
    }
