"""Packages and manifests made to harm: refused by name, and before anything of the size they claim is allocated."""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from decided import make_decision, write_decision
from making import adapter_tensors, make_adapter
from scoremux_engine.errors import EngineError, PackageError, StoreError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.source import FILES
from scoremux_engine.store.store import Store

TENSORS, CONFIG, TASK = "adapter_model.safetensors", "adapter_config.json", "task.json"
DECISION = "decision.json"
WEIGHT = "base_model.model.classifier.weight"
ROOM_BYTES = 128 << 20
GIB = 1 << 30


@pytest.fixture
def folder(bare: Backbone, tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter", bare.spec, "t")


def refusal(read: Callable[[], object]) -> str:
    """Return the message with which `read` is refused in a child that may allocate little."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))
        message = "not refused"
        try:
            read()
        except EngineError as error:
            message = f"{type(error).__name__}: {error}"
        except BaseException as error:
            message = f"not of ours: {type(error).__name__}"
        os.write(writer, message.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        message = answer.read()
    os.waitpid(child, 0)
    return message


def write_tensors(path: Path, header: bytes | dict[str, Any], data: bytes = b"", size: int | None = None) -> None:
    """Write a safetensors file with this header, and sparse up to `size`."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    if size is not None:
        os.truncate(path, size)


def claim(shape: list[int], size: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


def test_the_limit_lets_a_good_package_through(folder: Path, bare: Backbone) -> None:
    assert refusal(lambda: TaskPackage.read(folder, bare)) == "not refused"


def test_the_limit_stops_an_allocation_of_a_gigabyte() -> None:
    assert refusal(lambda: bytearray(GIB)) == "not of ours: MemoryError"


@pytest.mark.parametrize("claimed", [4 * GIB, 2**63, 2**64 - 1])
def test_a_header_that_claims_gigabytes(folder: Path, bare: Backbone, claimed: int) -> None:
    (folder / TENSORS).write_bytes(struct.pack("<Q", claimed) + b"{}")
    assert f"{folder / TENSORS} is not a whole safetensors file" in refusal(lambda: TaskPackage.read(folder, bare))


def test_a_header_that_has_the_gigabytes_it_claims(folder: Path, bare: Backbone) -> None:
    (folder / TENSORS).write_bytes(struct.pack("<Q", 4 * GIB))
    os.truncate(folder / TENSORS, 5 * GIB)
    assert f"{folder / TENSORS}: its header is larger than" in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize("shape", [[2**30, 2**30], [2**62, 4], [10**400, 1], [2] * 100_000])
def test_a_tensor_that_claims_more_than_there_is(folder: Path, bare: Backbone, shape: list[int]) -> None:
    write_tensors(folder / TENSORS, json.dumps({WEIGHT: claim(shape, 64)}).encode(), bytes(64))
    assert "PackageError" in refusal(lambda: TaskPackage.read(folder, bare))


def test_a_tensor_as_huge_as_it_claims_is_refused_by_its_shape(folder: Path, bare: Backbone) -> None:
    tensors = adapter_tensors(bare.spec, 4, 5, 0)
    header = {name: claim(list(tensor.shape), 0) for name, tensor in tensors.items()}
    header[WEIGHT] = claim([GIB, 4], 16 * GIB)
    write_tensors(folder / TENSORS, header, size=20 * GIB)
    assert f"{WEIGHT} has shape [{GIB}, 4], expected [5, 8]" in refusal(lambda: TaskPackage.read(folder, bare))


def test_a_tensor_that_nothing_takes_is_not_read(folder: Path, bare: Backbone) -> None:
    tensors = adapter_tensors(bare.spec, 4, 5, 0)
    header = {name: claim(list(tensor.shape), 0) for name, tensor in tensors.items()}
    header["base_model.model.extra.x"] = claim([GIB, 4], 16 * GIB)
    write_tensors(folder / TENSORS, header, size=20 * GIB)
    assert "base_model.model.extra.x fits nothing" in refusal(lambda: TaskPackage.read(folder, bare))


def test_right_shapes_in_a_file_that_goes_on_for_gigabytes(folder: Path, bare: Backbone) -> None:
    os.truncate(folder / TENSORS, 20 * GIB)
    assert "its tensors do not fill it exactly" in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize("offsets", [[0, 3], [8, 4], [-4, 0], [0], "0", [2**64, 2**65]], ids=str)
def test_offsets_that_make_no_sense(folder: Path, bare: Backbone, offsets: Any) -> None:
    raw = (folder / TENSORS).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header[WEIGHT]["data_offsets"] = offsets
    write_tensors(folder / TENSORS, header, raw[8 + size :])
    assert "is not a whole safetensors file" in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"a": ' + b"9" * 1_000_000 + b"}",
        b'{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
        b'{"a": 1, "a": 2}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "more": 1}}',
        b'{"a": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}',
        b"\xff\xfe",
        b"[]",
    ],
    ids=lambda header: header[:24],
)
def test_a_header_that_is_a_json_bomb(folder: Path, bare: Backbone, header: bytes) -> None:
    write_tensors(folder / TENSORS, header)
    assert "is not a whole safetensors file: its header" in refusal(lambda: TaskPackage.read(folder, bare))


@pytest.mark.parametrize("name", [TASK, CONFIG, DECISION])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 1_000_000, "is not JSON"),
        (b'{"a":' * 200_000, "is not JSON"),
        (b'{"levels": ' + b"9" * 1_000_000 + b"}", "is not JSON"),
    ],
    ids=["deep list", "deep object", "long number"],
)
def test_a_file_that_is_a_json_bomb(folder: Path, bare: Backbone, name: str, content: bytes, why: str) -> None:
    (folder / name).write_bytes(content)
    assert refusal(lambda: TaskPackage.read(folder, bare)) == f"PackageError: {folder / name}: it {why}"


@pytest.mark.parametrize("name", [TASK, CONFIG, DECISION])
def test_a_json_file_of_gigabytes(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).touch()
    os.truncate(folder / name, 20 * GIB)
    assert refusal(lambda: TaskPackage.read(folder, bare)) == (
        f"PackageError: {folder / name} is larger than 1048576 bytes"
    )


def test_a_message_stays_short_whatever_it_names(folder: Path, bare: Backbone) -> None:
    config = json.loads((folder / CONFIG).read_text())
    for more in ({"x" * 900_000: 1}, {"bias": "x" * 900_000}, {"layer_replication": [[1, 2]] * 90_000}):
        (folder / CONFIG).write_text(json.dumps({**config, **more}))
        assert 50 < len(refusal(lambda: TaskPackage.read(folder, bare))) < 600
    (folder / TASK).write_text(json.dumps({"id": "t", "levels": [0, 1], **{f"k{n}": n for n in range(50_000)}}))
    assert refusal(lambda: TaskPackage.read(folder, bare)).endswith("and 49995 more")


@pytest.mark.parametrize("name", FILES)
def test_a_symbolic_link(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).rename(folder / "elsewhere")
    (folder / name).symlink_to(folder / "elsewhere")
    with pytest.raises(PackageError, match=f"{folder / name} cannot be read: it is a symbolic link"):
        TaskPackage.read(folder, bare)


def test_a_folder_that_is_a_symbolic_link(folder: Path, bare: Backbone, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(PackageError, match=f"{tmp_path / 'link'} cannot be read: it is a symbolic link"):
        Store(tmp_path / "store").add([tmp_path / "link"], bare)


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_that_nobody_writes_to(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(PackageError, match=f"{folder / name} cannot be read: it is no regular file"):
        TaskPackage.read(folder, bare)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize("name", FILES)
def test_a_device(folder: Path, bare: Backbone, name: str) -> None:
    (folder / name).unlink()
    try:
        os.mknod(folder / name, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("device nodes cannot be made here")
    with pytest.raises(PackageError, match=f"{folder / name} cannot be read: "):
        TaskPackage.read(folder, bare)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b", "((a|a)*)*c", "(.*)*(.*)*(.*)*x", "(\\w+\\.?)+q{999}", "a{1000}" * 99, ".*.*.*.*x",
        "(a|a)" * 40 + "x", "a?" * 60 + "a" * 60, "a{0,99}" * 9,
        "a|" * 99 + ".*.*x", "(a)\\1", "(?=a)*x", "a" * 257, "a+*", "a**", "",
    ],
)  # fmt: skip
def test_a_pattern_that_would_keep_a_backtracking_matcher_busy(folder: Path, bare: Backbone, pattern: str) -> None:
    names = tuple(site.model_copy(update={"name": f"{'a' * 200}.{site.name}"}) for site in bare.spec.sites)
    long = Backbone(bare.folder, bare.spec.model_copy(update={"sites": names}))
    make_adapter(folder, long.spec, "t", config={"rank_pattern": {pattern: 2}, "alpha_pattern": {pattern: 2}})
    started = time.process_time()
    with pytest.raises(PackageError, match=r"the pattern '.*' (is not supported|could take too long)"):
        TaskPackage.read(folder, long)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["a.*.*b", "(aa|aaa)a*a*", "a{0,99}a{0,99}x", "a?" * 16 + "x"])
def test_the_slowest_patterns_that_are_taken_are_fast(folder: Path, bare: Backbone, pattern: str) -> None:
    names = tuple(site.model_copy(update={"name": f"{'a' * 100}.{site.name}"}) for site in bare.spec.sites)
    long = Backbone(bare.folder, bare.spec.model_copy(update={"sites": names}))
    make_adapter(folder, long.spec, "t", config={"rank_pattern": {pattern: 2}, "alpha_pattern": {pattern: 2}})
    started = time.process_time()
    TaskPackage.read(folder, long)
    assert time.process_time() - started < 1


def test_more_patterns_than_anybody_needs(folder: Path, bare: Backbone) -> None:
    make_adapter(folder, bare.spec, "t", config={"rank_pattern": {f"a{n}": 2 for n in range(1025)}})
    with pytest.raises(PackageError, match="rank_pattern: Dictionary should have at most 1024 items"):
        TaskPackage.read(folder, bare)


def test_any_flipped_bit_of_a_published_package(folder: Path, bare: Backbone, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (change,) = store.add([folder], bare)
    random = np.random.default_rng(0)
    for name in FILES:
        path = store.package_folder(change.after) / name
        whole = path.read_bytes()
        places = {*range(min(64, len(whole))), *random.integers(0, len(whole), 200).tolist()}
        for place in places:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(PackageError, match=str(store.package_folder(change.after))):
                store.read_package(change.after, bare)
        path.write_bytes(whole)
    assert store.read_package(change.after, bare).digest == change.after


@pytest.fixture
def store(folder: Path, bare: Backbone, tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    store.add([folder], bare)
    return store


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 1_000_000, "is not JSON"),
        (b'{"tasks":' * 200_000, "is not JSON"),
        (b'{"backbone": "%s", "tasks": {"t": "../../etc"}}' % (b"b" * 64), "tasks.t: "),
        (b'{"backbone": "%s", "tasks": {"../t": "%s"}}' % (b"b" * 64, b"a" * 64), "tasks"),
    ],
    ids=["deep list", "deep object", "path as digest", "path as task"],
)
def test_a_manifest_made_to_harm(store: Store, content: bytes, why: str) -> None:
    store.manifest_path.write_bytes(content)
    message = refusal(store.manifest)
    assert message.startswith(f"StoreError: {store.manifest_path} is damaged: ")
    assert why in message


def test_a_manifest_of_gigabytes(store: Store) -> None:
    os.truncate(store.manifest_path, 20 * GIB)
    assert refusal(store.manifest).endswith(f"{store.manifest_path} is larger than {32 << 20} bytes")


@pytest.mark.parametrize("name", ["manifest.json", "history.jsonl", "pins.json", ".lock", ".intent.json"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_store_whose_files_are_something_else(store: Store, tmp_path: Path, name: str, kind: str) -> None:
    path = store.folder / name
    path.unlink(missing_ok=True)
    {"link": lambda: path.symlink_to(tmp_path), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    reads = {
        "manifest.json": store.manifest,
        "history.jsonl": store.history.entries,
        "pins.json": store.pins.read,
        ".lock": lambda: store.retire(["t"]),
        ".intent.json": lambda: store.retire(["t"]),
    }
    with pytest.raises(StoreError, match=str(path)):
        reads[name]()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_decision_that_is_something_else_than_a_file(folder: Path, bare: Backbone, tmp_path: Path, kind: str) -> None:
    path = folder / DECISION
    {"link": lambda: path.symlink_to(tmp_path), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(PackageError, match=str(path)):
        TaskPackage.read(folder, bare)


def test_a_decision_for_another_backbone(folder: Path, bare: Backbone) -> None:
    write_decision(folder, make_decision(width=9))
    with pytest.raises(PackageError, match=r"unusual has 9 weights, the backbone's vectors have 8 numbers"):
        TaskPackage.read(folder, bare)


def test_a_decision_is_part_of_what_a_digest_names(folder: Path, bare: Backbone) -> None:
    before = TaskPackage.read(folder, bare).digest
    write_decision(folder, make_decision())
    after = TaskPackage.read(folder, bare)
    assert after.digest != before
