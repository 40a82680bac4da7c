"""A start that fails says one sentence, with what to do; the same for `serve`, `api`, `review` and `front-door`."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doors import Place, needs_haproxy
from scoremux_desk.database.connection import Database
from scoremux_server.errors import SetupError
from scoremux_server.triton.run_files import MEMORY_LEAST_BYTES, check_memory, memory_free_bytes
from serving import refusal, refusal_here
from waiting import free_port, port_options

IN_NAMESPACE = ["unshare", "--mount", "sh", "-c"]
FULL = 'mount -t tmpfs -o size=16k tmpfs "$0" && { dd if=/dev/zero of="$0/filler" 2>/dev/null; exec "$@"; }'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


def may_mount() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*IN_NAMESPACE, "mount -t tmpfs x /mnt"]).returncode


needs_mount = pytest.mark.skipif(not may_mount(), reason="this user cannot mount a file system")


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", free_port())) as other:
        yield other.getsockname()[1]


def sandbox(folder: Path) -> list[object]:
    return ["api", "--sandbox", "--database", folder / "desk.db"]


def test_taken_port(taken: int, small_repository: Path, tmp_path: Path) -> None:
    said = refusal(*sandbox(tmp_path), "--port", taken)
    assert f"port {taken} of 127.0.0.1 cannot be used: Address already in use; give another one with --port" in said
    said = refusal_here("review", "--database", tmp_path / "desk.db", "--port", taken)
    assert f"port {taken} of 127.0.0.1 cannot be used" in said
    assert not (tmp_path / "desk.db").exists()
    said = refusal_here("serve", "--repository", small_repository, "--set", f"grpc_port={taken}", *port_options()[1:])
    assert "--set grpc_port=0 takes any that is free" in said


@needs_haproxy
def test_taken_port_of_the_door(taken: int, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.port = taken
    place.configure()
    assert f"the front door's port {taken} cannot be used" in refusal_here("front-door", place.file)


@needs_mount
@pytest.mark.parametrize(("script", "reason"), [(FULL, "full"), (READ_ONLY, "read-only")])
def test_full_disk_and_read_only_folder(script: str, reason: str, small_repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    before = [*IN_NAMESPACE, script, str(folder)]
    assert reason in refusal(*sandbox(folder), "--port", free_port(), before=before)
    assert reason in refusal("review", "--database", folder / "desk.db", "--port", free_port(), before=before)
    if script == READ_ONLY:
        given = ("--repository", small_repository, "--log", folder / "logs" / "triton.log", *port_options())
        said = refusal("serve", *given, before=before)
        assert "triton.log cannot be written: Read-only file system; give another with --log FILE" in said
        shutil.copytree(small_repository, folder / "repository")
        said = refusal("tune", folder / "repository", before=before)
        assert "cannot be written, and tune writes profile.toml there" in said


def test_too_little_memory(tmp_path: Path) -> None:
    graph = tmp_path / "backbone.onnx"
    graph.write_bytes(bytes(10 << 20))
    check_memory(MEMORY_LEAST_BYTES + (10 << 20), graph)
    with pytest.raises(SetupError, match=r"200 MiB of memory are free, and .* needs 310 at least: .*--memory=2g"):
        check_memory(200 << 20, graph)
    assert memory_free_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("--set precison=int8", "unknown key precison; the keys are runner, "),
        ("--set grant_key_file=no.key", "no.key cannot be read"),
        ("--profile missing.toml", "unknown profile missing.toml; there are cpu, "),
        ("--store none", "none holds no tasks: run `scoremux tasks add DIR… --store none`"),
        ("--repository none", "none holds no backbone: name your adapters with --adapters DIR"),
    ],
)
def test_serve_names_what_is_missing(words: str, cause: str, small_repository: Path) -> None:
    given = words.split() if "--repository" in words else ["--repository", small_repository, *words.split()]
    assert cause in refusal_here("serve", *given, *port_options())


def test_store_of_another_backbone(own_repository: Path) -> None:
    path = own_repository / "store" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "backbone": "c" * 64}))
    said = refusal_here("serve", "--repository", own_repository, *port_options())
    assert "store belongs to backbone cccccccccccc, but" in said and "--store" in said


def test_database_of_another_version(tmp_path: Path) -> None:
    Database(str(tmp_path / "desk.db"), create=True).close()
    with sqlite3.connect(tmp_path / "desk.db") as connection:
        connection.execute("UPDATE settings SET value = '9999' WHERE key = 'format'")
    for words in (sandbox(tmp_path), ["review", "--database", tmp_path / "desk.db"]):
        said = refusal_here(*words, "--port", free_port())
        assert "was made by another version of scoremux; open it with that version" in said


def test_api_names_keys_and_stores_that_are_missing(tmp_path: Path) -> None:
    def given(*words: object) -> str:
        return refusal_here(*sandbox(tmp_path), "--port", free_port(), *words)

    (tmp_path / "short.key").write_text("abc")
    (tmp_path / "tokens.json").write_text('{"format": 1, "tokens": []}')
    tokens = ("--tokens", tmp_path / "tokens.json")
    assert "no.key cannot be read" in given("--grant-key", tmp_path / "no.key", *tokens)
    assert "has 3 bytes; it takes 32" in given("--grant-key", tmp_path / "short.key", *tokens)
    assert "is no store: give the folder that has manifest.json" in given("--tasks", tmp_path)


@needs_haproxy
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda p: (p.folder / "door.pem").unlink(), "certificate: {}/door.pem is missing"),
        (lambda p: (p.folder / "grant.key").unlink(), "grant_key: {0}/grant.key is missing; to make one: openssl"),
        (lambda p: p.tokens.path.unlink(), "tokens: {}/tokens.json is missing; to make one: scoremux tokens add"),
    ],
)
def test_door_names_wrong_files(change: Callable[[Place], object], cause: str, tmp_path: Path) -> None:
    place = Place(tmp_path)
    change(place)
    assert cause.format(tmp_path) in refusal_here("front-door", place.file)


def test_command_at_a_wrong_address_names_it_as_it_was_typed() -> None:
    command = ("ask", "t", "text")
    address = f"localhost:{free_port()}"
    said = refusal_here(*command, "--url", address)
    assert f"scoremux: {address}: " in said and "Connection refused (is a server running there?" in said
    said = refusal_here(*command, "--url", f"http://{address}")
    assert f"http://{address} is an HTTP address, but the client speaks gRPC: give Triton's host:port" in said
    said = refusal_here(*command, "--url", f"grpcs://{address}", "--root-certificates", "no.pem")
    assert "no.pem cannot be read: No such file or directory" in said


def test_tune_names_a_folder_that_is_missing() -> None:
    assert "there is no folder nowhere; give a repository that `scoremux export" in refusal_here("tune", "nowhere")


def test_door_without_haproxy(tmp_path: Path) -> None:
    said = refusal("front-door", tmp_path / "door.toml", PATH="/nowhere", before=hidden_haproxy())
    assert "the front door needs HAProxy, which is not installed: apt-get install haproxy" in said


def hidden_haproxy() -> list[str]:
    if shutil.which("haproxy", path="/usr/sbin") is None:
        return []
    if not may_mount():
        pytest.skip("this user cannot hide /usr/sbin")
    return ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", '/usr/bin/mount -t tmpfs x /usr/sbin && exec "$0" "$@"']
