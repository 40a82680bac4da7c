"""Package folders that are either there or not, and leave nothing lying about."""

from __future__ import annotations

from pathlib import Path

import pytest

from making import make_adapter
from scoremux_engine.errors import PackageError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.source import FILES, Folder, package_digest
from scoremux_engine.store.durable import remove_folder, write_package


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


def test_a_removed_folder_is_gone_with_all_in_it(source: Path, tmp_path: Path) -> None:
    remove_folder(source)
    assert list(tmp_path.iterdir()) == []
