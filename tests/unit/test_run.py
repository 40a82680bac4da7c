"""What a run leaves on the machine: gone when it ends, and removed by the next start when it was killed."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from scoremux_server.shared_memory import FOLDER, TRITONS_OWN, remove_orphans

from scoremux_server import run as module
from scoremux_server.endpoints import Endpoints
from scoremux_server.errors import SetupError
from scoremux_server.run import Run, remove_dead_runs
from scoremux_server.server import Server

HOLD = """
import sys
from scoremux_server.run import Run
run = Run()
run.begin()
open(f"/dev/shm/{run.shm_prefix}region", "wb").write(b"x")
print(run.name, run.folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held() -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A process that holds a run with a region; its name and folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    name, folder = process.stdout.readline().split()
    yield process, name, Path(folder)
    process.kill()
    process.communicate()
    remove_dead_runs()


def left(name: str) -> list[str]:
    return sorted(path.name for path in SHARED_MEMORY.glob(f"scoremux_{name}*"))


def test_a_run_that_ends_leaves_nothing() -> None:
    run = Run()
    run.begin()
    (FOLDER / f"{run.shm_prefix}region").write_bytes(b"x")
    (run.folder / "models").mkdir()
    assert len(left(run.name)) == 2
    run.end()
    assert left(run.name) == []
    assert not run.folder.exists()


def test_a_live_run_stays(held: tuple[subprocess.Popen[str], str, Path]) -> None:
    _, name, folder = held
    assert name not in remove_dead_runs()
    assert left(name) == [f"scoremux_{name}.lock", f"scoremux_{name}_region"]
    assert folder.is_dir()


def test_a_killed_run_is_removed_by_the_next_one(held: tuple[subprocess.Popen[str], str, Path]) -> None:
    process, name, folder = held
    process.kill()
    process.wait()
    run = Run()
    run.begin()
    run.end()
    assert left(name) == []
    assert not folder.exists()


def test_a_lock_that_names_a_foreign_folder_removes_no_folder(tmp_path: Path) -> None:
    name = f"test{secrets.token_hex(4)}"
    precious = tmp_path / "precious"
    precious.mkdir()
    (FOLDER / f"scoremux_{name}.lock").write_text(str(precious))
    assert name in remove_dead_runs()
    assert precious.is_dir()
    assert left(name) == []


def old_region(age_s: float) -> Path:
    """Make a region as a Triton of its own names it, as old as the file system lets one say."""
    path = FOLDER / f"{TRITONS_OWN}test-{secrets.token_hex(4)}"
    path.write_bytes(b"x" * 4096)
    then = path.stat().st_mtime - age_s
    os.utime(path, (then, then))
    return path


def test_an_unused_region_of_an_unwatched_triton_is_removed_after_a_minute_only() -> None:
    region = old_region(3600)
    try:
        remove_orphans()  # its inode was changed just now: it may belong to a Triton that starts
        assert region.exists()
        assert region.name in remove_orphans(young_s=0.0)
        assert not region.exists()
    finally:
        region.unlink(missing_ok=True)


def test_a_region_of_a_process_that_cannot_be_seen_stays() -> None:
    region = old_region(3600)
    program = "from scoremux_server.shared_memory import remove_orphans; print(*remove_orphans(young_s=0.0))"
    elsewhere = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program]
    try:
        with region.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            file.close()
            ran = subprocess.run(elsewhere, capture_output=True, text=True, check=False, timeout=60)
            if ran.returncode:
                pytest.skip(f"no process namespace can be made here: {ran.stderr.strip()}")
            assert region.exists() and region.name not in ran.stdout
        ran = subprocess.run(elsewhere, capture_output=True, text=True, check=True, timeout=60)
        assert region.name in ran.stdout and not region.exists()
    finally:
        region.unlink(missing_ok=True)


def test_a_region_that_a_process_has_mapped_stays() -> None:
    region = old_region(3600)
    try:
        with region.open("r+b") as file, mmap.mmap(file.fileno(), 0):
            file.close()
            assert region.name not in remove_orphans(young_s=0.0)
        assert region.exists()
    finally:
        region.unlink(missing_ok=True)


def test_the_folder_is_locked_for_programs_that_tidy_and_made_again_where_one_did_not_ask() -> None:
    run = Run()
    run.begin()
    for _ in range(2):
        file = os.open(run.folder, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(file)
        shutil.rmtree(run.folder)
        run.make_folder()
        assert run.folder.stat().st_mode & 0o777 == 0o700
    run.end()
    assert not run.folder.exists()


def test_another_users_folder_is_not_taken_for_the_runs_own() -> None:
    run = Run()
    run.begin()
    if os.geteuid():
        pytest.skip("only root makes folders of other users")
    os.chown(run.folder, 65534, 65534)
    with pytest.raises(PermissionError, match="another user's"):
        run.make_folder()
    os.chown(run.folder, 0, 0)
    run.end()


@pytest.mark.parametrize("missing", ["shared memory", "temporary files"])
def test_where_nothing_can_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str) -> None:
    where = tmp_path / "not-there"
    if missing == "shared memory":
        monkeypatch.setattr(module, "FOLDER", where)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(where))
    run = Run()
    with pytest.raises(SetupError, match=r"not-there/scoremux.* cannot be made: No such file or directory"):
        run.begin()
    assert left(run.name) == []


def test_where_there_is_no_temporary_folder_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(SetupError, match="there is no folder for temporary files: No usable"):
        Run()


@pytest.mark.parametrize("name", ["two words", "a;b", "it's", "$HOME"])
def test_a_temporary_folder_that_a_shell_reads_otherwise_is_refused_by_name(
    small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    server = Server(small_repository, Endpoints.choose(), log=tmp_path / "log")
    with pytest.raises(SetupError, match=r"TMPDIR is .*: Triton cannot take a folder with"):
        server.launch()
    assert list((tmp_path / name).iterdir()) == []
