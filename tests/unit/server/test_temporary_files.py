"""What a run keeps on the machine, and that it is gone when the run ends."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from ports import free_endpoints
from scoremux_server.errors import SetupError
from scoremux_server.triton import run_files
from scoremux_server.triton.run_files import SHARED_MEMORY, RunFiles
from scoremux_server.triton.server import TritonServer


def test_removed_run_folder_leaves_nothing_and_touches_no_other() -> None:
    run, other = RunFiles(), RunFiles()
    for each in (run, other):
        each.make()
        (SHARED_MEMORY / f"{each.shm_prefix}region").write_bytes(b"x")
        (each.path / "models").mkdir()
        assert each.path.stat().st_mode & 0o777 == 0o700
    run.remove()
    assert not list(SHARED_MEMORY.glob(f"{run.shm_prefix}*")) and not run.path.exists()
    assert len(list(SHARED_MEMORY.glob(f"{other.shm_prefix}*"))) == 1 and other.path.is_dir()
    shutil.rmtree(other.path)
    other.make()
    assert other.path.is_dir()
    for _ in range(2):
        other.remove()
    assert not list(SHARED_MEMORY.glob(f"{other.shm_prefix}*")) and not other.path.exists()


def test_folder_of_a_backend_is_removed_if_it_is_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_files, "PYTHON_BACKEND", tmp_path)
    run, names = RunFiles(), [tmp_path / f"python_env_{letter * 6}" for letter in "abcd"]
    names[0].mkdir()
    run.note_other_folders()
    names[1].mkdir()
    run.find_backend_folder(lambda: False)
    run.find_backend_folder(lambda: True)
    names[2].mkdir()
    run.find_backend_folder(lambda: True)  # it is known: what comes later is another's
    run.remove_regions()
    assert [name.exists() for name in names] == [True, False, True, False]
    run.note_other_folders()
    names[1].mkdir()
    names[3].mkdir()
    run.find_backend_folder(lambda: True)
    run.remove()
    assert all(name.exists() for name in names)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders of other users")
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    run = RunFiles()
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 65534, 65534)
    for other in (tmp_path / "theirs", tmp_path / "link"):
        shutil.rmtree(run.path, ignore_errors=True)
        if other.name == "link":
            run.path.symlink_to(tmp_path / "theirs")
            os.chown(run.path, 65534, 65534, follow_symlinks=False)
        else:
            other.rename(run.path)
            other.mkdir()
        with pytest.raises(SetupError, match="another user"):
            run.make()
    run.path.unlink()


@pytest.mark.parametrize("name", ["two words", "a;b", "it's", "$HOME"])
def test_temporary_folder_with_a_character_of_the_shells_is_refused(
    small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    server = TritonServer(small_repository, free_endpoints(), log=tmp_path / "log")
    with pytest.raises(SetupError, match=r"TMPDIR is .*: Triton cannot take a folder with"):
        server.launch()
    assert list((tmp_path / name).iterdir()) == []
