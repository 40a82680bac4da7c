"""Writes that are either undone or done, and leave nothing lying about."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoremux_engine.store.durable import append_line, copy_folder, replace_file


def test_a_replaced_file_has_the_new_content_and_everybody_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_keeps_the_old_file_while_it_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old, and longer")
    with path.open("rb") as reader:
        assert reader.read(3) == b"old"
        replace_file(path, b"new")
        assert reader.read() == b", and longer"


def test_a_file_that_cannot_be_replaced_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "manifest.json" / "inside").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "manifest.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_lines_are_appended(tmp_path: Path) -> None:
    for line in ("one", "zwei ä"):
        append_line(tmp_path / "history.jsonl", line)
    assert (tmp_path / "history.jsonl").read_text(encoding="utf-8") == "one\nzwei ä\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / name).write_text(name)
    return folder


def test_a_copied_folder_holds_the_named_files_and_everybody_may_read_it(source: Path, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    copy_folder(source, ("a", "b"), tmp_path / "packages" / "copy", lambda _: None)
    copy = tmp_path / "packages" / "copy"
    assert {path.name: path.read_text() for path in copy.iterdir()} == {"a": "a", "b": "b"}
    assert copy.stat().st_mode & 0o777 == 0o755


def test_a_copy_that_fails_half_way_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (tmp_path / "packages").mkdir()
    with pytest.raises(FileNotFoundError):
        copy_folder(source, ("a", "missing"), tmp_path / "packages" / "copy", lambda _: None)
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_copy_that_is_not_approved_leaves_nothing(source: Path, tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def refuse(copied: Path) -> None:
        seen.append({path.name for path in copied.iterdir()})
        raise ValueError("not what was checked")

    (tmp_path / "packages").mkdir()
    with pytest.raises(ValueError, match="not what was checked"):
        copy_folder(source, ("a", "b"), tmp_path / "packages" / "copy", refuse)
    assert seen == [{"a", "b"}]
    assert list((tmp_path / "packages").iterdir()) == []
