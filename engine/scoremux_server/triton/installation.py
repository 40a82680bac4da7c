"""The Triton that is started: the one in the PyTriton wheel, or one in a folder, as in NVIDIA's container."""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scoremux_server.errors import SetupError
from scoremux_server.triton.endpoints import is_loopback

BUNDLED = "bundled"
BUNDLED_RELEASE = (24, 10)
SAFE_RELEASE = (26, 7)
"""First release without a known hole by which a client of Triton could run code or pass its authentication.

Source: NVIDIA's security bulletins (last: 5875), last checked on CHECKED_ON.
"""
CHECKED_ON = "2026-08-18"

RELEASE_VARIABLE = "NVIDIA_TRITON_SERVER_VERSION"
"""Set by NVIDIA's container to its release, such as `26.07`."""

SAFE = f"{SAFE_RELEASE[0]}.{SAFE_RELEASE[1]:02}"
"""The same as text."""

_UTILS = "triton_python_backend_utils.py"


@dataclass(frozen=True)
class Installation:
    """A Triton on disk; its release is a year and month, None where it is unknown."""

    folder: Path
    release: tuple[int, int] | None
    bundled: bool

    @classmethod
    def find(cls, triton: str = BUNDLED, variables: Mapping[str, str] = os.environ) -> "Installation":
        """Return the bundled Triton or the one in a folder, whose release NVIDIA's container names in `variables`.

        Raises SetupError where the wheel is not installed, or the folder has no Triton.
        """
        if triton == BUNDLED:
            return cls(_bundled_folder(), BUNDLED_RELEASE, bundled=True)
        installation = cls(Path(triton), _release(variables.get(RELEASE_VARIABLE, "")), bundled=False)
        if not installation.program.is_file():
            raise SetupError(
                f"{installation.program} is missing: start this inside NVIDIA's Triton container ({SAFE} or newer), "
                "or take a profile for the bundled Triton (--profile cpu)"
            )
        return installation

    @property
    def program(self) -> Path:
        return self.folder / "bin" / "tritonserver"

    @property
    def name(self) -> str:
        """Its name for people: `Triton 24.10 (bundled)`."""
        release = f"{self.release[0]}.{self.release[1]:02}" if self.release else "of unknown release"
        return f"Triton {release}{' (bundled)' if self.bundled else ''}"

    @property
    def is_safe(self) -> bool:
        """Whether it has none of the known holes."""
        return (self.release or (0, 0)) >= SAFE_RELEASE

    def check_address(self, address: str, key: str = "address") -> None:
        """Raise SetupError where strangers could reach a Triton that lets them run code. key: the profile's for it."""
        if is_loopback(address) or self.is_safe:
            return
        raise SetupError(
            f"{key} is {address}: {self.name} must listen on loopback only, since it has known security holes "
            f"(NVIDIA's bulletins as of {CHECKED_ON}); to serve other machines use Triton {SAFE} or newer "
            f"(NVIDIA's container, where {RELEASE_VARIABLE} names the release)"
        )

    def check_backend(self, backend: str) -> None:
        """Raise SetupError where this Triton has no such backend."""
        if self.bundled and backend not in ("none", "python"):
            raise SetupError(
                f"backend is {backend}: {self.name} has the backend python alone; take NVIDIA's container "
                "(--set triton=/opt/tritonserver), or a profile for the bundled Triton (--profile cpu)"
            )

    def backends(self, target: Path) -> Path:
        """Return the folder of the backends. For the bundled Triton it is made: links and the running Python's stub."""
        if not self.bundled:
            return self.folder / "backends"
        minor = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = self.folder / "python_backend_stubs" / minor / "triton_python_backend_stub"
        if not stub.is_file():
            offered = sorted((p.name for p in stub.parents[1].iterdir()), key=lambda v: int(v.partition(".")[2]))
            raise SetupError(f"the bundled Triton supports CPython {', '.join(offered)}, not {minor}")
        source, backend = self.folder / "backends" / "python", target / "python"
        backend.mkdir(parents=True)
        for file in (source / "libtriton_python.so", source / _UTILS, stub):
            (backend / file.name).symlink_to(file)
        return target

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` with the variables that make Triton's stub load this Python and its packages, and send nothing.

        The stub embeds Python in isolated mode: it ignores PYTHONPATH and takes prefix and packages from the `python3`
        that it finds first in PATH. Without LD_LIBRARY_PATH it may load another libpython of the same version.
        """
        library = sysconfig.get_config_var("LIBDIR") or ""
        libraries = [str(self.folder / "lib"), library, base.get("LD_LIBRARY_PATH", "")]
        programs = [str(Path(sys.executable).parent), base.get("PATH", os.defpath)]
        return {
            **base,
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "PATH": os.pathsep.join(filter(None, programs)),
            # A batch is tokenised before anything of it is computed: all cores are idle then.
            "TOKENIZERS_PARALLELISM": base.get("TOKENIZERS_PARALLELISM", "true"),
            # ONNX Runtime reports to Microsoft otherwise, in Triton's own backend too.
            "ORT_DISABLE_TELEMETRY": "1",
        }


def _bundled_folder() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise SetupError("no tritonserver is installed: pip install 'scoremux[serve]'")
    return Path(spec.submodule_search_locations[0]) / "tritonserver"


def _release(text: str) -> tuple[int, int] | None:
    year, _, month = text.partition(".")
    return (int(year), int(month[:2])) if year.isdigit() and month[:2].isdigit() else None
