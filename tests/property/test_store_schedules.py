"""Publishers, a reader and kills in random schedules of their steps on disk: the order is a function of a seed.

Every defect is found, with its seed, when it is put in.
"""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from making import make_adapter
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store import store as store_module
from scoremux_engine.store.history import History
from scoremux_engine.store.store import Store
from scoremux_files import locks
from seeded_threads import SeededThreads

_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "shutil.rmtree"}
_in_schedule: list[tuple[SeededThreads, str]] = []


def _audit(name: str, arguments: tuple[Any, ...]) -> None:
    if name in _STEPS and _in_schedule and isinstance(arguments[0], str | os.PathLike):
        threads, folder = _in_schedule[0]
        if os.fspath(arguments[0]).startswith(folder):
            threads.step()


@cache
def hook() -> None:
    sys.addaudithook(_audit)  # it cannot be taken away, and does nothing between schedules


@pytest.fixture
def begun(tmp_path: Path, backbone: Backbone) -> Callable[..., None]:
    """Returns a function that runs one schedule. It raises AssertionError where a promise breaks."""
    hook()
    for number, task in enumerate(("a", "b", "a", "b", "b", "c", "d")):
        make_adapter(tmp_path / f"{task}{number}", backbone.spec, task, seed=number)
    Store(tmp_path / "begun").add([tmp_path / "a0", tmp_path / "b1"], backbone)
    real = os.write

    def run(seed: int, defect: Callable[[pytest.MonkeyPatch], None] = lambda _: None) -> None:
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        shutil.copytree(tmp_path / "begun", tmp_path / "store")
        threads = SeededThreads(seed)
        if seed % 2:
            threads = SeededThreads(seed, {threads.draw.choice("xy"): threads.draw.randint(1, 150)})

        def write(handle: int, data: Any) -> int:
            threads.step()
            return real(handle, data[: (len(data) + 1) // 2])  # the kernel may write less than it is given

        def publish(*adapters: str) -> Callable[[], None]:
            def work() -> None:
                for adapter in adapters:
                    Store(tmp_path / "store").add([tmp_path / adapter], backbone)

            return work

        def read() -> None:
            for _ in range(8):
                store = Store(tmp_path / "store")
                for task, digest in store.manifest().tasks.items():
                    folder = store.package_folder(digest)
                    assert folder.exists() and PackageFiles(folder).digest() == digest, f"{task} is not whole"

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", write)
            patch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: threads.step()))
            patch.setattr(os, "fsync", lambda _: None)
            defect(patch)
            _in_schedule.append((threads, str(tmp_path / "store")))
            try:
                threads.run(x=publish("a2", "b3"), y=publish("b4", "c5"), reader=read)
            finally:
                _in_schedule.clear()
            Store(tmp_path / "store").add([tmp_path / "d6"], backbone)  # completes what a kill left
        read()
        check_history(Store(tmp_path / "store"))

    return run


def check_history(store: Store) -> None:
    """Check that the changes of the history, one after the other, lead to the manifest."""
    live = dict[str, str]()
    for number, line in store.history.lines():
        assert line is not None, f"line {number} of the history is damaged"
        assert live.get(line.task) == line.before, f"line {number} of the history does not follow"
        live[line.task] = str(line.after)
    assert live == store.manifest().tasks, "the history is not the manifest's"


@pytest.mark.parametrize("schedules", [20, pytest.param(600, marks=pytest.mark.nightly)])
def test_readers_see_whole_packages_and_no_change_is_lost(begun: Callable[..., None], schedules: int) -> None:
    for seed in range(schedules):
        try:
            begun(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def manifest_first(patch: pytest.MonkeyPatch) -> None:
    """The manifest names a package before it is written."""
    write, replace = Store._write_all, Store._replace_manifest

    def replace_and_write(self: Any, *arguments: Any) -> None:
        replace(self, *arguments)
        write(self, self.later)

    patch.setattr(Store, "_write_all", lambda self, packages: setattr(self, "later", packages))
    patch.setattr(Store, "_replace_manifest", replace_and_write)


def no_lock(patch: pytest.MonkeyPatch) -> None:
    """Two publishers change the store at once."""
    patch.setattr(store_module, "locked", lambda _: nullcontext())


def appends_all_again(patch: pytest.MonkeyPatch) -> None:
    """Who completes the history of a killed writer does not look which lines are there already."""
    patch.setattr(History, "_size", lambda _: 0)


@pytest.mark.parametrize("defect", [manifest_first, no_lock, appends_all_again])
def test_defects_of_publishing_are_found(begun: Callable[..., None], defect: Callable[..., None]) -> None:
    for seed in range(1000):
        try:
            begun(seed, defect)
        except (AssertionError, OSError, store_module.StoreError) as error:
            print(f"found at seed {seed}: {error!r}")
            return
    pytest.fail("not found in 1,000 schedules")
