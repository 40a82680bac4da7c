"""`scoremux doctor`: what a bug report needs to know of this machine, what is installed, and a repository."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from scoremux_engine.commands.options import JsonOption
from scoremux_files.errors import ScoremuxError

_PACKAGES = (
    *("numpy", "tritonclient", "httpx", "pyarrow", "pydantic", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("nvidia-pytriton", "torch", "transformers", "peft", "onnx", "ray", "sqlalchemy"),
)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_PORTS = {"gRPC": 8001, "HTTP": 8000, "metrics": 8002}


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        name: What was looked at.
        value: What is there.
        problem: Whether it keeps something from working.
    """

    name: str
    value: str
    problem: bool = False


def doctor(
    repository: Annotated[Path | None, typer.Argument(help="Model repository to look at too.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a bug report needs: processor and precisions, Triton, HAProxy, ports, shared memory, versions.

    Exit status 1 if there is a problem. Nothing is changed, and no response or token is read.

    Example: scoremux doctor REPO
    """
    findings = [*_machine(), *_programs(), *(_repository(repository) if repository else ())]
    from scoremux_engine.commands.printing import show_json
    from scoremux_files.terminal import print_table

    if as_json:
        show_json([finding._asdict() for finding in findings])
    else:
        rows = [(finding.name, finding.value, "problem" if finding.problem else "") for finding in findings]
        print_table(Console(highlight=False), ("what", "found", "state"), rows, fold=("found",), box=False)
    if any(finding.problem for finding in findings):
        raise typer.Exit(1)


def _look(name: str, look: Callable[[], str], needed: bool = True) -> Finding:
    """Return what `look` returns, or why it cannot; a problem if the thing is needed."""
    try:
        return Finding(name, look())
    except ModuleNotFoundError as error:
        return Finding(name, f"{error.name} is not installed")
    except (ScoremuxError, OSError, RuntimeError) as error:
        return Finding(name, str(error), needed)


def _machine() -> Iterator[Finding]:
    yield Finding("system", f"{platform.system()} {platform.release()}, {platform.libc_ver()[1] or '?'} (libc)")
    yield _look("processor", _processor)
    yield _look("memory", _memory)
    yield _look("precisions", _precisions)
    yield _look("shared memory", _shared_memory)
    for name, port in _PORTS.items():
        yield _look(f"port {port} ({name})", lambda port=port: _port(port), needed=False)  # type: ignore[misc]


def _programs() -> Iterator[Finding]:
    yield Finding("scoremux", f"{version('scoremux')} on Python {platform.python_version()}")
    yield _look("Triton", _triton)
    yield _look("HAProxy", _haproxy, needed=False)
    for package in _PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, "–")


def _repository(folder: Path) -> Iterator[Finding]:
    yield _look("backbone", lambda: _backbone(folder))
    yield _look("store", lambda: _store(folder))


def _processor() -> str:
    from scoremux_engine.model.provenance import processor_name

    words = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].split()
    flags = " ".join(flag for flag in _FLAGS if flag in words)
    return f"{processor_name()}, {len(os.sched_getaffinity(0))} cores, {flags or 'none of ' + ' '.join(_FLAGS)}"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    return f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB available"


def _precisions() -> str:
    from scoremux_engine.runners.precisions import computed

    return f"{', '.join(computed())} (what OpenVINO computes here)"


def _shared_memory() -> str:
    from scoremux_server.triton.run_files import SHARED_MEMORY, check_shared_memory, shared_memory_free_bytes

    free = shared_memory_free_bytes()
    check_shared_memory(free)
    return f"{free / 2**20:,.0f} MiB free in {SHARED_MEMORY}"


def _port(port: int) -> str:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return "another program listens here; `scoremux serve` takes other ports as options"
    return "free"


def _triton() -> str:
    from scoremux_server.triton.installation import SAFE, Installation

    installation = Installation.find()
    return installation.name if installation.is_safe else f"{installation.name}: loopback only, before {SAFE}"


def _haproxy() -> str:
    from scoremux_server.front_door.haproxy import find_program

    program = find_program()
    about = subprocess.run([program, "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    return f"{program}: {about.partition(chr(10))[0]}"


def _backbone(folder: Path) -> str:
    from scoremux_engine.commands.options import open_backbone

    spec = open_backbone(folder / "store", None).spec
    return f"{spec.architecture}, {len(spec.sites)} sites, {spec.max_tokens} tokens"


def _store(folder: Path) -> str:
    from scoremux_engine.commands.options import open_store
    from scoremux_engine.store.upkeep import verify

    store = open_store(folder / "store")
    tasks, problems = store.manifest().tasks, list(verify(store))
    if problems:
        raise OSError(f"{len(problems)} problems, the first: {problems[0].where}: {problems[0].what}")
    return f"{len(tasks)} live tasks, {len(store.digests())} packages, no problem"
