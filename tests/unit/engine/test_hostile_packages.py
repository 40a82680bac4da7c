"""Packages and manifests made to harm: refused by name, and before anything of the size they claim is allocated."""

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decided import make_decision, write_decision
from faults import raised_in_child
from making import adapter_tensors, make_adapter
from scoremux_engine.errors import PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import FILES
from scoremux_engine.store.store import Store

TENSORS, CONFIG, TASK = "adapter_model.safetensors", "adapter_config.json", "task.json"
DECISION = "decision.json"
WEIGHT = "base_model.model.classifier.weight"
ROOM_BYTES = 128 << 20
GIB = 1 << 30


@pytest.fixture
def folder(bare: Backbone, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter", bare.spec, "t")


@pytest.fixture
def store(folder: Path, bare: Backbone, tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.add([folder], bare)
    return store


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))


def refusal(read: Callable[[], object]) -> str:
    """Return the error with which `read` is refused in a child that may allocate little."""
    return raised_in_child(read, limit_memory)


def safetensors(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def claim(shape: list[int], size: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


def place_instead(path: Path, kind: str, elsewhere: Path) -> None:
    """Put a link to a folder, a pipe that nobody writes to, or a folder in the place of a file."""
    path.unlink(missing_ok=True)
    {"link": lambda: path.symlink_to(elsewhere), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()


def test_memory_limit_of_these_tests_works(folder: Path, bare: Backbone) -> None:
    assert refusal(lambda: TaskPackage.read(folder, bare)) == ""
    assert refusal(lambda: bytearray(GIB)).startswith("MemoryError: ")


NOT_WHOLE = "is not a whole safetensors file"


@pytest.mark.parametrize(
    ("content", "size", "why"),
    [
        *((struct.pack("<Q", claimed) + b"{}", None, NOT_WHOLE) for claimed in (4 * GIB, 2**63, 2**64 - 1)),
        (struct.pack("<Q", 4 * GIB), 5 * GIB, ": its header is larger than"),
        *(
            (safetensors({WEIGHT: claim(shape, 64)}, bytes(64)), None, "")
            for shape in ([2**30, 2**30], [2**62, 4], [10**400, 1], [2] * 100_000)
        ),
        *(
            (safetensors(header), None, f"{NOT_WHOLE}: its header")
            for header in (
                b"[" * 1_000_000,
                b'{"a":' * 500_000,
                b'{"a": ' + b"9" * 1_000_000 + b"}",
                b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
                b'{"a": 1, "a": 2}',
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}}',
                b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
                b"\xff\xfe",
                b"[]",
            )
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_hostile_header_is_refused(folder: Path, bare: Backbone, content: bytes, size: int | None, why: str) -> None:
    (folder / TENSORS).write_bytes(content)
    os.truncate(folder / TENSORS, size or len(content))
    said = refusal(lambda: TaskPackage.read(folder, bare))
    assert said.startswith("PackageError: ") and why in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (WEIGHT, f"{WEIGHT} has shape [{GIB}, 4], expected [5, 8]"),
        ("base_model.model.extra.x", "base_model.model.extra.x fits nothing"),
    ],
    ids=["misshapen", "unknown"],
)
def test_huge_tensor_is_refused_before_it_is_read(folder: Path, bare: Backbone, name: str, why: str) -> None:
    os.truncate(folder / TENSORS, 20 * GIB)
    assert "its tensors do not fill it exactly" in refusal(lambda: TaskPackage.read(folder, bare))
    tensors = adapter_tensors(bare.spec, 4, 5, 0)
    header = {n: claim(list(tensor.shape), 0) for n, tensor in tensors.items()}
    (folder / TENSORS).write_bytes(safetensors(header | {name: claim([GIB, 4], 16 * GIB)}))
    os.truncate(folder / TENSORS, 20 * GIB)
    assert why in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize("offsets", [[0, 3], [8, 4], [-4, 0], [0], "0", [2**64, 2**65]], ids=str)
def test_senseless_tensor_offsets_are_refused(folder: Path, bare: Backbone, offsets: Any) -> None:
    raw = (folder / TENSORS).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header[WEIGHT]["data_offsets"] = offsets
    (folder / TENSORS).write_bytes(safetensors(header, raw[8 + size :]))
    assert NOT_WHOLE in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize("name", [TASK, CONFIG, DECISION])
@pytest.mark.parametrize(
    "content",
    [b"[" * 1_000_000, b'{"a":' * 200_000, b'{"levels": ' + b"9" * 1_000_000 + b"}"],
    ids=["deep list", "deep object", "long number"],
)
def test_json_bomb_is_refused(folder: Path, bare: Backbone, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert refusal(lambda: TaskPackage.read(folder, bare)) == f"PackageError: {folder / name}: it is not JSON"


@pytest.mark.parametrize("name", [TASK, CONFIG, DECISION])
def test_json_file_of_gigabytes_is_refused_unread(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).touch()
    os.truncate(folder / name, 20 * GIB)
    why = f"PackageError: {folder / name} cannot be read: it is larger than 1048576 bytes"
    assert refusal(lambda: TaskPackage.read(folder, bare)) == why


def test_message_stays_short_and_more_than_1024_patterns_are_refused(folder: Path, bare: Backbone) -> None:
    config = json.loads((folder / CONFIG).read_text())
    for more in ({"x" * 900_000: 1}, {"bias": "x" * 900_000}, {"layer_replication": [[1, 2]] * 90_000}):
        (folder / CONFIG).write_text(json.dumps({**config, **more}))
        assert 50 < len(refusal(lambda: TaskPackage.read(folder, bare))) < 600
    (folder / TASK).write_text(json.dumps({"id": "t", "levels": [0, 1], **{f"k{n}": n for n in range(50_000)}}))
    assert refusal(lambda: TaskPackage.read(folder, bare)).endswith("and 49,995 more")
    make_adapter(folder, bare.spec, "t", config={"rank_pattern": {f"a{n}": 2 for n in range(1025)}})
    with pytest.raises(PackageError, match="rank_pattern: Dictionary should have at most 1024 items"):
        TaskPackage.read(folder, bare)


def test_linked_files_are_published_as_their_content(folder: Path, bare: Backbone, tmp_path: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in FILES:
        (links / name).symlink_to(folder / name)
    store = Store(tmp_path / "store")
    (change,) = store.add([links], bare)
    (package,) = store.packages_path.iterdir()
    assert not any(path.is_symlink() for path in package.iterdir())
    assert store.read_package(str(change.after), bare).digest == TaskPackage.read(folder, bare).digest


@pytest.mark.parametrize("name", [*FILES, DECISION])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_irregular_package_file_is_refused(folder: Path, bare: Backbone, tmp_path: Path, name: str, kind: str) -> None:
    place_instead(folder / name, kind, tmp_path)
    with pytest.raises(PackageError, match=f"{folder / name} cannot be read: it is (not a regular file|a folder)"):
        TaskPackage.read(folder, bare)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("name", FILES)
def test_device_is_refused(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).unlink()
    try:
        os.mknod(folder / name, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    with pytest.raises(PackageError, match=f"{folder / name} cannot be read: "):
        TaskPackage.read(folder, bare)


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        *(
            (p, True)
            for p in ("(a+)+b", "((a|a)*)*c", "(.*)*(.*)*(.*)*x", "(\\w+\\.?)+q{999}", "a{1000}" * 99, "(a)\\1")
        ),
        *((p, True) for p in ("(?=a)*x", "a+*", "a**", "a++", "", "((a)", "[z-a]", "a{99}" * 11, "[[a]b]", "a{,3}")),
        *((p, False) for p in ("a.*.*b", ".*.*.*.*x", "(a|a)" * 40 + "x", "a?" * 60 + "a" * 60, "a{0,99}" * 9)),
        *((p, False) for p in ("(aa|aaa)a*a*", "a|" * 99 + ".*.*x", "a" * 257, "(a|b|(c|d))")),
    ],
)
def test_pattern_is_matched_fast_or_refused(folder: Path, bare: Backbone, pattern: str, refused: bool) -> None:
    names = tuple(site.model_copy(update={"name": f"{'a' * 200}.{site.name}"}) for site in bare.spec.sites)
    long = Backbone(bare.folder, bare.spec.model_copy(update={"sites": names}))
    make_adapter(folder, long.spec, "t", config={"rank_pattern": {pattern: 2}, "alpha_pattern": {pattern: 2}})
    started = time.process_time()
    with pytest.raises(PackageError, match=r"the pattern '") if refused else nullcontext():
        TaskPackage.read(folder, long)
    assert time.process_time() - started < 1


def test_any_flipped_bit_of_a_published_package_is_refused(store: Store, bare: Backbone) -> None:
    (digest,) = store.digests()
    random = np.random.default_rng(0)
    for name in FILES:
        path = store.package_folder(digest) / name
        whole = path.read_bytes()
        places = {*range(min(64, len(whole))), *random.integers(0, len(whole), 200).tolist()}
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(PackageError, match=str(store.package_folder(digest))):
                store.read_package(digest, bare)
        path.write_bytes(whole)
    assert store.read_package(digest, bare).digest == digest


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 1_000_000, "is not JSON"),
        (b'{"tasks":' * 200_000, "is not JSON"),
        (b'{"format": 1, "backbone": "%s", "tasks": {"t": "../../etc"}}' % (b"b" * 64), "tasks.t: "),
        (b'{"format": 1, "backbone": "%s", "tasks": {"../t": "%s"}}' % (b"b" * 64, b"a" * 64), "tasks"),
    ],
    ids=["deep list", "deep object", "path as digest", "path as task"],
)
def test_hostile_manifest_is_refused(store: Store, content: bytes, why: str) -> None:
    store.manifest_path.write_bytes(content)
    message = refusal(store.manifest)
    assert message.startswith(f"StoreError: {store.manifest_path} is damaged: ")
    assert why in message


def test_manifest_of_gigabytes_is_refused_unread(store: Store) -> None:
    os.truncate(store.manifest_path, 20 * GIB)
    assert refusal(store.manifest).endswith(f"{store.manifest_path} cannot be read: it is larger than {32 << 20} bytes")


@pytest.mark.parametrize("name", ["manifest.json", "history.jsonl", "pins.json", ".lock", ".intent.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_store_file_that_is_not_regular_is_refused(store: Store, tmp_path: Path, name: str, kind: str) -> None:
    path = store.folder / name
    place_instead(path, kind, tmp_path)
    reads = {
        "manifest.json": store.manifest,
        "history.jsonl": store.history.entries,
        "pins.json": store.pins,
        ".lock": lambda: store.retire(["t"]),
        ".intent.json": lambda: store.retire(["t"]),
    }
    with pytest.raises(StoreError, match=str(path)):
        reads[name]()


def test_decision_is_part_of_the_digest_and_of_its_backbone(folder: Path, bare: Backbone) -> None:
    before = TaskPackage.read(folder, bare).digest
    write_decision(folder, make_decision())
    assert TaskPackage.read(folder, bare).digest != before
    write_decision(folder, make_decision(width=9))
    with pytest.raises(PackageError, match=r"unusual has 9 weights, the backbone's vectors have 8 numbers"):
        TaskPackage.read(folder, bare)
