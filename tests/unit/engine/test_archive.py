"""Archives: what is exported arrives as it was, and nothing else arrives."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from making import make_adapter
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package_files import FILES
from scoremux_engine.store.archive import export_archive, import_archive
from scoremux_engine.store.store import Store
from scoremux_engine.store.upkeep import verify

Edit = Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]


@pytest.fixture
def store(bare: Backbone, tmp_path: Path) -> Store:
    """Tasks a and b; of a an older version too."""
    store = Store(tmp_path / "store")
    for name, seed in (("a", 0), ("a", 1), ("b", 2)):
        store.add([make_adapter(tmp_path / name, bare.spec, name, seed=seed)], bare)
    return store


@pytest.fixture
def old(store: Store) -> str:
    return next(digest for digest in store.versions("a") if digest != store.manifest().tasks["a"])


@pytest.fixture
def archive(store: Store, old: str, tmp_path: Path) -> Path:
    export_archive(store, ["a", "b", f"a@{old[:9]}"], tmp_path / "archive.tar")
    return tmp_path / "archive.tar"


def test_imported_packages_are_byte_for_byte_the_exported(
    store: Store, old: str, archive: Path, bare: Backbone, tmp_path: Path
) -> None:
    other = Store(tmp_path / "other")
    arrived = import_archive(other, archive, bare)
    assert sorted((c.task, c.kind) for c in arrived.changes) == [("a", "new"), ("b", "new")]
    assert arrived.pinned == {old: "a"}
    assert other.manifest() == store.manifest()
    assert other.pins.read() == {old: "a"}
    for digest in store.digests():
        for name in FILES:
            paths = [s.package_folder(digest) / name for s in (store, other)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
    assert list(verify(other, bare)) == []


def test_same_versions_make_the_same_archive(store: Store, archive: Path, old: str, tmp_path: Path) -> None:
    export_archive(store, [f"a@{old}", "b", "a"], tmp_path / "again.tar")
    assert archive.read_bytes() == (tmp_path / "again.tar").read_bytes()


def test_tar_reads_an_archive(archive: Path, store: Store) -> None:
    with tarfile.open(archive) as tar:
        assert set(tar.getnames()) == {"manifest.json", *(f"{d}/{name}" for d in store.digests() for name in FILES)}


def test_import_leaves_other_tasks_live(store: Store, archive: Path, bare: Backbone) -> None:
    new = store.add([make_adapter(store.folder.parent / "c", bare.spec, "c")], bare)[0].after
    store.rollback("a")
    before = store.manifest().tasks
    dry = import_archive(store, archive, bare, dry_run=True)
    assert (store.manifest().tasks, store.pins.read()) == (before, {})
    assert import_archive(store, archive, bare) == dry
    assert [(c.task, c.kind) for c in dry.changes] == [("a", "updated"), ("b", "unchanged")]
    assert store.manifest().tasks["c"] == new


def test_archive_of_another_backbone_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    other = Backbone(bare.folder, bare.spec.model_copy(update={"digest": "c" * 64}))
    with pytest.raises(StoreError, match=f"{archive} belongs to backbone bbbbbbbbbbbb, not to cccccccccccc"):
        import_archive(Store(tmp_path / "other"), archive, other)


def test_damaged_version_is_not_exported(store: Store, tmp_path: Path) -> None:
    path = store.package_folder(store.manifest().tasks["b"]) / "task.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(PackageError, match="was changed; see `tasks verify`"):
        export_archive(store, ["a", "b"], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_archive_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"{tmp_path}/no/out.tar cannot be written: No such file"):
        export_archive(store, ["a"], tmp_path / "no" / "out.tar")


def rewrite(archive: Path, edit: Edit, more: list[tuple[tarfile.TarInfo, bytes]] | None = None) -> None:
    """Write the archive again, each member as `edit` makes it, and `more` after them."""
    members = []
    with tarfile.open(archive) as tar:
        for info in tar.getmembers():
            file = tar.extractfile(info)
            assert file is not None
            edited = edit(info, file.read())
            if edited:
                members.append(edited)
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, data in [*members, *(more or [])]:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("info", "why"),
    [
        (member("../../evil"), "does not belong into an archive of tasks"),
        (member("/etc/evil"), "does not belong into an archive of tasks"),
        (member(f"{'a' * 64}/../../evil"), "does not belong into an archive of tasks"),
        (member(f"{'a' * 64}/README.md"), "does not belong into an archive of tasks"),
        (member("\x1b[31m"), r"'\\x1b\[31m' does not belong"),
        (member("manifest.json", tarfile.SYMTYPE, "/etc/passwd"), "is not a plain file"),
        (member(f"{'a' * 64}/task.json", tarfile.LNKTYPE, "manifest.json"), "is not a plain file"),
        (member("pipe", tarfile.FIFOTYPE), "is not a plain file"),
        (member("device", tarfile.CHRTYPE), "is not a plain file"),
        (member("folder", tarfile.DIRTYPE), "is not a plain file"),
        (member("sparse", tarfile.GNUTYPE_SPARSE), "is not a plain file"),
        (member("x" * 300), "is not a plain file"),  # a long name is an extension of the format
        (member("manifest.json"), "has manifest.json twice"),
        (member(f"{'a' * 64}/task.json"), "is not named in its manifest.json"),
    ],
    ids=lambda value: ascii(value.name)[:20] if isinstance(value, tarfile.TarInfo) else "",
)
def test_foreign_member_is_refused_by_name(
    archive: Path, bare: Backbone, tmp_path: Path, info: tarfile.TarInfo, why: str
) -> None:
    rewrite(archive, lambda i, data: (i, data), [(info, b"")])
    refused(archive, bare, tmp_path, why)


def test_extended_header_with_a_huge_claim_is_refused_unread(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
        info = member("manifest.json", kind)
        info.size = 1 << 60
        archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        refused(archive, bare, tmp_path, "'manifest.json' is not a plain file")


def refused(archive: Path, bare: Backbone, tmp_path: Path, why: str) -> None:
    with pytest.raises((PackageError, StoreError), match=why) as caught:
        import_archive(Store(tmp_path / "other"), archive, bare)
    assert str(archive) in str(caught.value)
    assert not (tmp_path / "other").exists()


def edit_manifest(archive: Path, old: bytes, new: bytes) -> None:
    rewrite(archive, lambda i, data: (i, data.replace(old, new) if i.name == "manifest.json" else data))


def test_package_whose_content_is_not_its_digest_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    rewrite(archive, lambda i, data: (i, data.replace(b"Why?", b"Who?") if i.name.endswith("task.json") else data))
    refused(archive, bare, tmp_path, "was changed: its content has another digest")


def test_manifest_that_names_a_package_wrongly_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    edit_manifest(archive, b'"a":', b'"c":')
    refused(archive, bare, tmp_path, "is task a, not c")


def test_archive_of_another_format_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    edit_manifest(archive, b'"format": 1', b'"format": 2')
    refused(archive, bare, tmp_path, "has format 2, .* reads format 1; write the archive again")


def test_archive_without_a_manifest_or_a_package_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    rewrite(archive, lambda i, data: None if i.name == "manifest.json" else (i, data))
    refused(archive, bare, tmp_path, r"is not an archive of tasks: it has no manifest\.json")
    archive.write_bytes(whole)
    rewrite(archive, lambda i, data: (i, data) if i.name == "manifest.json" else None)
    refused(archive, bare, tmp_path, r"lacks task\.json of version")


def test_archive_cut_short_anywhere_is_refused(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    content = len(whole.rstrip(b"\0"))
    for kept in [0, 1, 511, 512, 513, 1024, *range(2000, content, 2777), content - 1]:
        archive.write_bytes(whole[:kept])
        refused(archive, bare, tmp_path, "")


def test_member_claiming_more_than_the_file_is_refused_unread(archive: Path, bare: Backbone, tmp_path: Path) -> None:
    info = member(f"{'a' * 64}/task.json")
    info.size = 1 << 40
    archive.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    refused(archive, bare, tmp_path, "was cut short: unexpected end of data")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(600), b"\x1f\x8b" + bytes(600), b"x" * 2000])
def test_file_that_is_not_a_tar_is_refused(bare: Backbone, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    refused(tmp_path / "file", bare, tmp_path, "is not a tar archive")


def test_pipe_and_missing_file_are_refused(bare: Backbone, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", bare, tmp_path, "it is not a regular file")
    refused(tmp_path / "gone", bare, tmp_path, "No such file")
