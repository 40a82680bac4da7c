"""Where the server listens: on loopback, on the given ports, with a Triton that may be reached there."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import RELEASE_VARIABLE, Installation
from scoremux_server.triton.run_files import SHARED_MEMORY, RunFiles
from scoremux_server.triton.server import TritonServer
from waiting import free_endpoints


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_given_ports_are_kept_others_are_free_and_unusable_ones_are_named() -> None:
    free = Endpoints.choose()
    ports = (free.grpc, free.http, free.metrics)
    assert len({*ports, 0}) == 4
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()
    given = Endpoints.choose(**dict(zip(("grpc", "http", "metrics"), ports, strict=True)))
    assert (given.grpc, given.http, given.metrics) == ports
    mixed = Endpoints.choose(http=free.http)
    assert mixed.http == free.http and len({mixed.grpc, mixed.http, mixed.metrics, 0}) == 4
    with pytest.raises(SetupError) as refused:
        Endpoints.choose(grpc=8001, address="192.0.2.9")
    assert "takes any" not in str(refused.value)
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SetupError, match=str(port)):  # taken on all addresses
            Endpoints.choose(grpc=port)
    for port in (-1, 65536):
        with pytest.raises(SetupError, match=rf"the HTTP port {port} cannot be used"):
            Endpoints.choose(http=port)
    free = Endpoints.choose().grpc
    with pytest.raises(SetupError, match=str(free)):  # one port for two purposes
        Endpoints.choose(grpc=free, http=free)


@pytest.mark.parametrize(("option", "name"), [("grpc", "gRPC"), ("http", "HTTP"), ("metrics", "metrics")])
def test_taken_port_is_refused_by_name(taken: int, option: str, name: str) -> None:
    with pytest.raises(SetupError, match=rf"the {name} port {taken} cannot be used: .*in use; --set {option}_port=0"):
        Endpoints.choose(**{option: taken})


def test_other_machines_ports_may_be_taken_here_and_metrics_have_their_own_address(taken: int) -> None:
    endpoints = Endpoints.choose(metrics_address="127.0.0.2")
    assert endpoints.metrics_url == f"http://127.0.0.2:{endpoints.metrics}/metrics"
    assert endpoints.http_url == f"http://127.0.0.1:{endpoints.http}"
    assert Endpoints.choose(metrics=taken, metrics_address="127.0.0.2").metrics == taken  # taken elsewhere alone
    with pytest.raises(SetupError, match=rf"the metrics port {taken} on 0\.0\.0\.0 cannot be used"):
        Endpoints.choose(metrics=taken, metrics_address="0.0.0.0")


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A folder laid out as NVIDIA's container has it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    return tmp_path


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "0.0.0.0", "::", "10.1.2.3", "host.example"])
def test_bundled_triton_takes_loopback_only(small_repository: Path, address: str) -> None:
    sentence = rf"{address}: Triton 24\.10 \(bundled\) .* loopback only.* use Triton 26\.07 or newer"
    with nullcontext() if address in ("::1", "127.0.0.1", "127.8.8.8") else pytest.raises(SetupError, match=sentence):
        TritonServer(small_repository, Endpoints(1, 2, 3, address=address))


@pytest.mark.parametrize("release", ["26.07", "26.07-py3", "26.11", "27.01", "26.06", "25.12", "24.12", "", "newest"])
def test_only_a_safe_release_may_be_reached_by_others(container: Path, release: str) -> None:
    triton = Installation.find(str(container), {RELEASE_VARIABLE: release})
    assert triton.is_safe == (release[:5] in ("26.07", "26.11", "27.01"))
    with nullcontext() if triton.is_safe else pytest.raises(SetupError, match="loopback only"):
        triton.check_address("0.0.0.0")


def test_missing_triton_is_answered_with_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"bin/tritonserver is missing: start this inside NVIDIA's Triton container"):
        Installation.find(str(tmp_path))


def test_backends_are_the_containers_or_python_alone(container: Path, tmp_path: Path) -> None:
    other = Installation.find(str(container))
    assert other.backends(tmp_path / "made") == container / "backends" and not (tmp_path / "made").exists()
    for backend in ("none", "python"):
        Installation.find().check_backend(backend)
    for backend in ("onnxruntime", "tensorrt"):
        other.check_backend(backend)
        with pytest.raises(SetupError, match=f"backend is {backend}: .* has the backend python alone; take NVIDIA's"):
            Installation.find().check_backend(backend)
    assert Profile.read("gpu-onnx").triton == Profile.read("gpu-tensorrt").triton == "/opt/tritonserver"


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
def test_odd_temporary_folder_is_refused(
    small_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    server = TritonServer(small_repository, free_endpoints(), log=tmp_path / "log")
    with pytest.raises(SetupError, match=r"TMPDIR is .*: Triton cannot take a folder with"):
        server.launch()
    assert list((tmp_path / name).iterdir()) == []
