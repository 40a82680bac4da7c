"""What a run keeps on the machine, and that it is gone when it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.run_files import SHARED_MEMORY, Run
from scoremux_server.triton.server import Server


def test_a_run_that_ends_leaves_nothing_and_touches_nothing_else() -> None:
    run, other = Run(), Run()
    run.begin()
    other.begin()
    for each in (run, other):
        (SHARED_MEMORY / f"{each.shm_prefix}region").write_bytes(b"x")
        (each.folder / "models").mkdir()
    run.end()
    assert not list(SHARED_MEMORY.glob(f"{run.shm_prefix}*")) and not run.folder.exists()
    assert len(list(SHARED_MEMORY.glob(f"{other.shm_prefix}*"))) == 1 and other.folder.is_dir()
    other.end()
    other.end()
    assert not list(SHARED_MEMORY.glob(f"{other.shm_prefix}*")) and not other.folder.exists()


def test_a_run_that_never_began_removes_no_folder() -> None:
    run = Run()
    run.folder.mkdir()
    run.end()
    assert run.folder.is_dir()
    run.folder.rmdir()


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
    with pytest.raises(PermissionError, match="another user"):
        run.make_folder()
    os.chown(run.folder, 0, 0)
    run.end()


def test_a_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not-there"))
    with pytest.raises(SetupError, match=r"not-there/scoremux.* cannot be made: No such file or directory"):
        Run().begin()


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
