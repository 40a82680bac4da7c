"""`scoremux selftest`: do this store's rows keep their bits on this machine?"""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from scoremux_engine.commands.options import OtherStoreOption, RepositoryArgument
from scoremux_engine.commands.printing import show_table
from scoremux_engine.engine import Engine
from scoremux_engine.errors import RunnerError
from scoremux_engine.model.provenance import processor_name
from scoremux_engine.runners.arithmetic import read_record
from scoremux_engine.runners.choose import ON_CPU, RunnerChoice
from scoremux_engine.selftest import SelfTest, run_selftest
from scoremux_files.terminal import printable
from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile, default_profile
from scoremux_server.triton.installation import Installation
from scoremux_server.triton.run_files import SHARED_MEMORY, shared_memory_free_bytes

_SECONDS = 15.0
_LIBRARIES = ("scoremux", "openvino", "onnxruntime", "onnxruntime-gpu", "numpy")

_PROFILE = Option(
    help="Test this profile only (default: every runner and precision on the CPU, with threads and streams of "
    "REPOSITORY/profile.toml)."
)
_MIXES = Option(
    min=1, help="Random mixes for each runner and precision (default: as many as 15 s allow, once tasks are loaded)."
)


def selftest(
    repository: RepositoryArgument,
    store: OtherStoreOption = None,
    profile: Annotated[str | None, _PROFILE] = None,
    mixes: Annotated[int | None, _MIXES] = None,
    longest: Annotated[int | None, Option(min=1, help="Longest text in tokens (default: the longest).")] = None,
) -> None:
    """Score made-up rows of the store's tasks alone and in random mixes, and compare their bits.

    All tasks are loaded, or 500 drawn at random; some of each size class among them have rows of every padded length.
    The table says which were compared. The exit status is 1 as soon as one bit differs, or if nothing was compared.
    A line for each precision says how far it is from the export's expected outputs.
    The first line says what a bug report needs: system, versions, Triton and shared memory.
    A line for each arithmetic says with which processors it was recorded. Machines on which the names are equal compute
    equal bits.

    Example: scoremux selftest repo --profile cpu
    """
    typer.echo(_about())
    limits = {"mixes": mixes, "seconds": None if mixes else _SECONDS, "longest": longest}
    results = _test(repository, store, profile, limits)
    heads = ("runner", "precision", "arithmetic", "size classes", "lengths", "mixes", "rows", "changed", "seconds")
    title = f"{processor_name()}, {len(os.sched_getaffinity(0))} cores"
    show_table(heads, results.rows, title=title, fold=("changed",))
    for sentence in (*map(_origin, results.arithmetics), *results.distances):
        _say(sentence)
    _exit_unless_stable(results.tests)


@dataclass
class _Results:
    """The outcome of the self-tests of runners and precisions."""

    rows: list[tuple[str, ...]] = field(default_factory=list)
    tests: list[SelfTest] = field(default_factory=list)
    distances: list[str] = field(default_factory=list)
    arithmetics: dict[str, None] = field(default_factory=dict)

    def add(self, choice: RunnerChoice, engine: Engine, test: SelfTest) -> None:
        self.tests.append(test)
        if distance := engine.check(test.sizes):
            self.distances.append(f"{choice.name} {distance}")
        self.arithmetics[engine.arithmetic] = None
        self.rows.append(_row(choice, engine.arithmetic, test))


def _test(repository: Path, store: Path | None, profile: str | None, limits: Mapping[str, Any]) -> _Results:
    """Test a profile, or every runner and precision on the CPU, until a bit changes."""
    results = _Results()
    served = Profile.read(profile or default_profile(repository)).choice
    each = [replace(choice, threads=served.threads, streams=served.streams) for choice in ON_CPU]
    for choice in [served] if profile else each:
        try:
            engine = Engine.open(repository, store=store, runner=choice)
        except RunnerError as error:
            if profile:
                raise
            results.rows.append((choice.name, choice.precision, *[""] * 5, f"not tested: {error}", ""))
            continue
        test = run_selftest(engine, **limits)
        results.add(choice, engine, test)
        if test.changed:
            break
    return results


def _exit_unless_stable(tests: list[SelfTest]) -> None:
    """Exit with status 1 where a bit changed, or nothing was compared."""
    if changed := next((test.changed for test in tests if test.changed), None):
        cause = f"bits are not stable on this machine: {changed}"
    elif not tests:
        cause = "nothing was compared: no runner computes on this machine"
    elif not all(test.rows for test in tests):
        cause = "nothing was compared: the store has no task that can be scored"
    else:
        return
    typer.echo(f"scoremux: {cause}", err=True)
    raise typer.Exit(1)


def _about() -> str:
    """Return the machine and the installed versions, for a bug report."""
    try:
        triton = Installation.find().name
    except SetupError as error:
        triton = str(error)
    versions = ", ".join(_installed_libraries())
    free = f"{shared_memory_free_bytes() >> 20:,} MiB free in {SHARED_MEMORY}"
    return f"{platform.platform()}; Python {platform.python_version()}; {versions}; {triton}; {free}"


def _installed_libraries() -> Iterator[str]:
    """Yield names and versions of those that are installed: one of the two of ONNX Runtime is not."""
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            yield f"{name} {version(name)}"


def _row(choice: RunnerChoice, arithmetic: str, test: SelfTest) -> tuple[str, ...]:
    sizes = ", ".join(f"{size.rank}/{size.levels}" for size in sorted(test.sizes))
    lengths = f"{min(test.buckets)}–{max(test.buckets)}" if test.buckets else "no task"
    changed = "1" if test.changed else "0"
    counts = f"{test.mixes:,}", f"{test.rows:,}", changed, f"{test.seconds:.1f}"
    return choice.name, choice.precision, arithmetic, sizes, lengths, *counts


def _origin(arithmetic: str) -> str:
    """Return a line that says where an arithmetic of this name was measured."""
    recorded = next((a for a in read_record().arithmetics if a.name == arithmetic), None)
    if recorded:
        return f"{arithmetic} (recorded with: {', '.join((*recorded.processors, *recorded.libraries))})"
    return f"{arithmetic} (not recorded: equal bits are known only among machines that print this name)"


def _say(line: str) -> None:
    typer.echo(printable(line))
