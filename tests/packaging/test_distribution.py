"""What `pip install` gives: the wheel's content, the base install's weight, the client's imports."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser

import pytest
from packaging.requirements import Requirement

from making import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return zipfile.ZipFile(next(target.glob("*.whl")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    name = next(n for n in wheel.namelist() if n.endswith("/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def names_of(metadata: Message, extra: str) -> set[str]:
    """Return the distributions that an extra brings; "" is the base install."""
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    here = {"extra": extra, "sys_platform": "linux"}
    chosen = [r for r in requirements if not r.marker or r.marker.evaluate(here)]
    return {r.name.lower() for r in chosen}


def test_the_base_install_is_the_client_alone(metadata: Message) -> None:
    assert names_of(metadata, "") == {"numpy", "tritonclient", "httpx"}


@pytest.mark.parametrize("extra", ["assess", "serve", "gpu", "export", "ray", "review"])
def test_an_extra_that_brings_commands_brings_what_the_command_needs(metadata: Message, extra: str) -> None:
    brought = names_of(metadata, extra)
    if "scoremux" in brought:  # by way of scoremux[cli]
        brought |= names_of(metadata, "cli")
    assert brought >= {"typer", "rich", "pyarrow"}


def test_every_package_and_the_hand_written_models_are_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    packages = {name.partition("/")[0] for name in names if not name.partition("/")[0].endswith(".dist-info")}
    ours = ("files", "client", "decide", "assess", "cli", "review", "engine", "export", "train", "server", "calibrate")
    assert packages == {f"scoremux_{name}" for name in ours}
    for model in ROOT.glob("model_repository/*/**/*"):
        if model.suffix in (".py", ".pbtxt"):
            assert f"scoremux_engine/{model.relative_to(ROOT)}" in names
    for folder in ("profiles", "proxy"):
        for file in (ROOT / "server_config" / folder).iterdir():
            assert f"scoremux_server/{folder}/{file.name}" in names
    assert {f"{package}/py.typed" for package in packages} <= names
    web = ROOT / "client" / "scoremux_review" / "pages"
    for file in (*web.glob("templates/*"), *web.glob("static/*")):
        assert f"scoremux_review/pages/{file.relative_to(web)}" in names


def test_no_large_file_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    assert max(info.file_size for info in wheel.infolist()) < 200_000


def test_importing_the_client_loads_numpy_only() -> None:
    code = "import sys, scoremux_client; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = {"torch", "transformers", "peft", "onnxruntime", "tokenizers", "pyarrow", "typer", "rich"}
    assert "numpy" in loaded
    assert not (forbidden | {"tritonclient", "grpc", "httpx"}) & set(loaded)
