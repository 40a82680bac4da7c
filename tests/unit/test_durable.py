"""Writes that are either undone or done, and leave nothing lying about."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import count_operations, kill, run_with_fault
from making import make_adapter
from scoremux_engine.backbone import Backbone
from scoremux_engine.errors import PackageError
from scoremux_engine.packages.source import FILES, Folder, package_digest
from scoremux_engine.store import durable
from scoremux_engine.store.durable import (
    append,
    new_folder,
    remove_folder,
    replace_file,
    write_blocks,
    write_package,
)


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_replaced_file_has_the_new_content_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    replace_file(path, [b"n", b"ew"])
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old, and longer")
    with path.open("rb") as reader:
        assert reader.read(3) == b"old"
        replace_file(path, [b"new"])
        assert reader.read() == b", and longer"


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.json" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "manifest.json", [b"new"])
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_bytes_are_appended(tmp_path: Path) -> None:
    for data in (b"one\n", "zwei ä\n".encode()):
        append(tmp_path / "history.jsonl", data)
    assert (tmp_path / "history.jsonl").read_text(encoding="utf-8") == "one\nzwei ä\n"


@pytest.fixture
def source(bare: Backbone, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "source", bare.spec, "t")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    return tmp_path / "packages"


def test_a_written_package_holds_its_files_and_everybody_may_read_it(source: Path, packages: Path) -> None:
    (source / "README.md").write_text("not part of it")
    with Folder(source).spans() as spans:
        write_package(packages / "copy", spans, package_digest(source))
    copy = packages / "copy"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {n: (source / n).read_bytes() for n in FILES}
    assert copy.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in copy.iterdir()} == {0o644}
    assert list(packages.iterdir()) == [copy]


def test_a_package_that_changes_meanwhile_is_not_written(source: Path, packages: Path) -> None:
    digest = package_digest(source)
    (source / "task.json").write_text("{}")
    with Folder(source).spans() as spans, pytest.raises(PackageError, match=f"{source} changed while it was being"):
        write_package(packages / "copy", spans, digest)
    assert list(packages.iterdir()) == []


def test_a_file_that_is_cut_short_meanwhile_is_not_written(source: Path, packages: Path) -> None:
    digest = package_digest(source)
    with Folder(source).spans() as spans:
        (source / "adapter_model.safetensors").write_bytes(b"short")
        with pytest.raises(PackageError, match="was cut short while it was read"):
            write_package(packages / "copy", spans, digest)
    assert list(packages.iterdir()) == []


def write(folder: Path, content: str) -> None:
    handle = os.open(folder / "file", os.O_WRONLY | os.O_CREAT)
    try:
        write_blocks(handle, [content.encode()])
    finally:
        os.close(handle)


def replace(target: Path, content: str) -> None:
    with new_folder(target) as folder:
        write(folder, content)


@pytest.fixture(params=[True, False], ids=["names are exchanged", "two renames"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if not request.param:
        monkeypatch.setattr(durable, "exchange", lambda *_: False)
    return bool(request.param)


@pytest.mark.usefixtures("exchanges")
def test_a_new_folder_replaces_the_old_one_or_nothing_changes(tmp_path: Path) -> None:
    target = tmp_path / "models" / "1"
    for content in ("one", "two"):
        replace(target, content)
        assert (target / "file").read_text() == content
    with pytest.raises(ValueError, match="no"), new_folder(target) as folder:
        write(folder, "three")
        raise ValueError("no")
    assert (target / "file").read_text() == "two"
    assert target.stat().st_mode & 0o777 == 0o755
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("fault", [kill, fail], ids=["killed", "disk full"])
def test_a_fault_at_any_operation_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, exchanges: bool, fault: Callable[[], None]
) -> None:
    target = tmp_path / "models" / "1"
    replace(target, "old")
    operations = count_operations(lambda: replace(target, "new"))
    assert operations > 10
    missing = 0
    for number in range(1, operations + 1):
        replace(target, "old")
        run_with_fault(lambda: replace(target, "new"), number, fault)
        missing += not target.exists()
        with pytest.raises(ZeroDivisionError), new_folder(target):  # the next one restores it before anything else
            assert (target / "file").read_text() in ("old", "new"), number
            raise ZeroDivisionError
        assert list(target.parent.iterdir()) == [target], number
    assert missing == 0 or not (exchanges or fault is fail)


def test_a_removed_folder_is_gone_with_all_in_it(source: Path, tmp_path: Path) -> None:
    remove_folder(source)
    assert list(tmp_path.iterdir()) == []
