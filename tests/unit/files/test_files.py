"""Files and folders are replaced whole or not at all; a lock ends with its process."""

import errno
import fcntl
import io
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from faults import count_operations, kill, run_with_fault
from scoremux_files import atomic
from scoremux_files.atomic import replace_file, replacing, replacing_folder, write_blocks
from scoremux_files.locks import locked
from scoremux_files.terminal import print_table, ticking
from waiting import until


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o600, 0o600), (None, 0o640)])
def test_replaced_file_is_whole_and_has_its_permissions(tmp_path: Path, mode: int | None, expected: int) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old, and longer")
    umask = os.umask(0o027)
    try:
        with path.open("rb") as reader:
            assert reader.read(3) == b"old"
            replace_file(path, [b"n", b"ew"], mode)
            assert reader.read() == b", and longer"
    finally:
        os.umask(umask)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", expected)
    assert list(tmp_path.iterdir()) == [path]


def test_replacement_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.json" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "manifest.json", [b"new"])
    (tmp_path / "table").write_text("old")
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "table") as aside:
        aside.write_text("new")
        raise ValueError("no")
    assert (tmp_path / "table").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "table"}


def write(folder: Path, content: str) -> None:
    handle = os.open(folder / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        write_blocks(handle, [content.encode()])
    finally:
        os.close(handle)


def replace(target: Path, content: str) -> None:
    with replacing_folder(target) as folder:
        write(folder, content)


@pytest.fixture(params=[True, False], ids=["names are exchanged", "two renames"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(atomic, "exchange", lambda *_: False)
    return bool(request.param)


@pytest.mark.usefixtures("exchanges")
def test_folder_is_replaced_or_nothing_changes(tmp_path: Path) -> None:
    target = tmp_path / "models" / "1"
    for content in ("one", "two"):
        replace(target, content)
        assert (target / "file").read_text() == content
    with pytest.raises(ValueError, match="no"), replacing_folder(target) as folder:
        write(folder, "three")
        raise ValueError("no")
    assert (target / "file").read_text() == "two"
    assert target.stat().st_mode & 0o777 == 0o755
    assert (target / "file").stat().st_mode & 0o777 == 0o644
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("fault", [kill, fail], ids=["killed", "disk full"])
def test_fault_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, exchanges: bool, fault: Callable[[], None], step: int
) -> None:
    target = tmp_path / "models" / "1"
    replace(target, "old")
    operations = count_operations(lambda: replace(target, "new"))
    assert operations > 10
    missing = 0
    for number in range(1, operations + 1, step):
        replace(target, "old")
        run_with_fault(lambda: replace(target, "new"), number, fault)
        missing += not target.exists()
        with pytest.raises(ZeroDivisionError), replacing_folder(target):
            # The target has been restored before anything else.
            assert (target / "file").read_text() in ("old", "new"), number
            raise ZeroDivisionError
        assert list(target.parent.iterdir()) == [target], number
    assert missing == 0 or not (exchanges or fault is fail)


def _hold(path: Path, locked_: Any, release: Any) -> None:
    with locked(path):
        locked_.set()
        release.wait(60)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A process that has locked `.lock`, and the event that lets it go."""
    context = multiprocessing.get_context("spawn")
    locked_, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / ".lock", locked_, release))
    process.start()
    assert locked_.wait(60)
    yield process, release
    process.join(60)


def test_long_wait_for_lock_is_told(tmp_path: Path, owner: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    process, release = owner
    caplog.handler.addFilter(lambda _: release.set() or True)  # the owner goes once the wait was announced
    with caplog.at_level("WARNING"), locked(tmp_path / ".lock"):
        pass
    assert f"waiting for {tmp_path / '.lock'}, which process {process.pid} on " in caplog.text


def test_lock_of_dead_owner_is_free(tmp_path: Path, owner: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    owner[0].kill()
    owner[0].join(60)
    with caplog.at_level("WARNING"), locked(tmp_path / ".lock"):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(_handle: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"has no flock; use a local disk.*\.lock"), locked(tmp_path / ".lock"):
        raise AssertionError


COLUMNS = ("task", "rows", "moved", "Δ exact", "Δ QWK", "question")
ROWS = [
    ("en-6.3-ipp", "1,234", ".14 [.06, .22]", "+.01 [.00, .02]", "+.02 [−.01, .05]", "Why is the sky blue? " * 4),
    ("日本", "7", "–", "–", "–", "[bold]no markup\x1b[31m"),
]


def lines(width: int | None, **options: Any) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=width is not None, color_system=None)
    print_table(console, COLUMNS, ROWS, **options)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize("width", [30, 60, 80, 200, None])
def test_no_cell_is_cut_and_left_out_columns_are_named(width: int | None, box: bool) -> None:
    printed = lines(width, box=box, numbers=("rows",), leave_out=("moved", "Δ exact"))
    text = "\n".join(printed)
    names = next((line.partition(": ")[2].split(", ") for line in printed if line.startswith("left out")), [])
    for place, name in enumerate(COLUMNS):
        shown = ROWS[0][place].strip() in text
        assert shown is (name not in names), name
    assert "…" not in text and "\x1b" not in text
    if width is None:
        assert not names and "[bold]no markup�[31m" in text
    else:
        assert all(len(line) <= width for line in printed if not line.startswith("left out"))
    if names:
        order = ["moved", "Δ exact", "question", "Δ QWK", "rows"]
        assert sorted(names, key=order.index) == order[: len(names)]


def test_a_long_step_says_that_it_goes_on() -> None:
    file = io.StringIO()
    with ticking(Console(file=file), "exporting", every_s=0.01):
        until(lambda: file.getvalue().count("exporting: 0 s so far") >= 2 or "1 s so far" in file.getvalue())
    written = file.getvalue()
    time.sleep(0.05)
    assert file.getvalue() == written
