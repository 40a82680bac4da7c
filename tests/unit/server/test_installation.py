"""Which Triton is started, and where it may listen."""

from __future__ import annotations

from pathlib import Path

import pytest

from scoremux_server.errors import SetupError
from scoremux_server.profile import Profile
from scoremux_server.triton.endpoints import Endpoints
from scoremux_server.triton.installation import RELEASE_VARIABLE, Installation
from scoremux_server.triton.server import Server

LOOPBACKS = ["127.0.0.1", "127.8.8.8", "::1"]
OPEN = ["0.0.0.0", "::", "10.1.2.3", "host.example"]


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A folder laid out as NVIDIA's container has it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()
    return tmp_path


@pytest.mark.parametrize("address", LOOPBACKS)
def test_the_bundled_triton_takes_loopback(address: str) -> None:
    Installation.find().check_address(address)


@pytest.mark.parametrize("address", OPEN)
def test_the_bundled_triton_takes_nothing_else_and_says_what_does(address: str) -> None:
    with pytest.raises(SetupError, match=rf"{address}: Triton 24\.10 \(bundled\) .* use Triton 26\.07 or newer"):
        Installation.find().check_address(address)


@pytest.mark.parametrize("release", ["26.07", "26.07-py3", "26.11", "27.01"])
def test_a_safe_release_may_be_reached_by_others(container: Path, release: str) -> None:
    Installation.find(str(container), {RELEASE_VARIABLE: release}).check_address("0.0.0.0")


@pytest.mark.parametrize("release", ["26.06", "25.12", "24.12", "", "newest"])
def test_an_older_or_unknown_release_may_not(container: Path, release: str) -> None:
    found = Installation.find(str(container), {RELEASE_VARIABLE: release})
    with pytest.raises(SetupError, match="loopback only"):
        found.check_address("0.0.0.0")


def test_a_server_is_not_even_made_for_such_an_address(small_repository: Path) -> None:
    endpoints = Endpoints(1, 2, 3, address="0.0.0.0")
    with pytest.raises(SetupError, match="loopback only"):
        Server(small_repository, endpoints)


def test_a_folder_without_triton_is_answered_with_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"bin/tritonserver is missing: start this inside NVIDIA's Triton container"):
        Installation.find(str(tmp_path))


def test_what_is_not_here_can_be_taken_for_granted(tmp_path: Path) -> None:
    assert Installation.find(str(tmp_path), there=False).program == tmp_path / "bin" / "tritonserver"


def test_the_bundled_triton_has_one_backend(container: Path) -> None:
    for backend in ("none", "python"):
        Installation.find().check_backend(backend)
    for backend in ("onnxruntime", "tensorrt"):
        Installation.find(str(container)).check_backend(backend)
        with pytest.raises(SetupError, match=f"backend is {backend}: .* has the backend python alone; take NVIDIA's"):
            Installation.find().check_backend(backend)


def test_a_triton_of_ones_own_brings_its_backends(container: Path, tmp_path: Path) -> None:
    assert Installation.find(str(container)).backends(tmp_path / "made") == container / "backends"
    assert not (tmp_path / "made").exists()


def test_gpu_profiles_ask_for_the_container() -> None:
    assert Profile.read("gpu-onnx").triton == Profile.read("gpu-tensorrt").triton == "/opt/tritonserver"
