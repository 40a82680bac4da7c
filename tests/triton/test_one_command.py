"""From a folder of stock PEFT adapters to a scored row: one command and one snippet."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mixed_store import train_adapter
from scoremux_client import Response, ScoringClient
from scoremux_client.errors import ScoremuxError
from scoremux_engine import Engine
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import PackageFiles
from scoremux_engine.store.store import Store
from scoremux_export.commands import export
from scoremux_server.triton.adapter_export import publish_adapters
from serving import serving

PLAIN = {"target_modules": ["query", "value"]}


@pytest.fixture(scope="module")
def trained(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for seed in range(3):
        (train_adapter(encoder, folder / f"t-{seed}", seed, **PLAIN) / "task.json").unlink()
    return folder


@pytest.fixture(scope="module")
def published(exported: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("published") / "repo"
    shutil.copytree(exported / "backbone", repository / "backbone")
    assert publish([trained], repository)[0] == "adapters 3: 3 published now"
    return repository


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "repo"))


@pytest.mark.nightly
def test_a_folder_of_adapters_is_served_by_one_command(trained: Path, tmp_path: Path) -> None:
    """`test_pages.py` does it with MiniLM, whose backbone is there already."""
    with serving(tmp_path / "repo", tmp_path, options=["--adapters", str(trained)], start_s=180) as server:
        assert "adapters 3: 3 published now" in server.output
        assert "tasks    t-0, t-1, t-2: id: the folder's name; levels 0 1 2: one for each" in server.output
        with ScoringClient(server.endpoints.grpc_url) as client:
            rows = [Response(f"t-{n % 3}", f"the router {n}") for n in range(9)]
            scored = client.score(rows)
    assert all(row.ok for row in scored)
    engine = Engine.open(tmp_path / "repo")
    assert scored == engine.score([str(row.text) for row in rows], [row.task for row in rows])


def publish(given: list[Path], repository: Path, **keys: Any) -> list[str]:
    """Do what `serve --adapters` does before it serves; return what it says."""
    said: list[str] = []
    settings = {"model": None, **keys}
    publish_adapters(given, repository, repository / "store", report=said.append, **settings)
    return said


def test_only_missing_steps_run(
    trained: Path, repository: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def check(files: PackageFiles, *more: Any) -> TaskPackage:
        checked.append(files.task.id)
        return checks(files, *more)

    checks = TaskPackage.check
    monkeypatch.setattr(TaskPackage, "check", check)
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    assert publish([trained], repository) == ["adapters 3: 0 published now"]
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before
    train_adapter(encoder, tmp_path / "t-9", 9, **PLAIN)
    assert publish([trained, tmp_path / "t-9"], repository) == ["adapters 4: 1 published now"]
    assert checked == ["t-9"]  # once
    shutil.copytree(trained / "t-0", tmp_path / "copy" / "t-0")
    with pytest.raises(ScoremuxError, match=r"copy/t-0 and .*/t-0 are both task t-0"):
        publish([trained, tmp_path / "copy"], repository)
    assert set(Store(repository / "store").manifest().tasks) == {"t-0", "t-1", "t-2", "t-9"}


def test_what_an_operator_took_back_stays_so(trained: Path, repository: Path, encoder: Path, tmp_path: Path) -> None:
    store = Store(repository / "store")
    first = store.manifest().tasks["t-0"]
    better = train_adapter(encoder, tmp_path / "t-0", 7, **PLAIN)
    publish([better], repository)
    store.rollback("t-0")
    store.retire(["t-1"])
    _, *said = publish([better, trained / "t-1"], repository)
    assert [line.partition(":")[0] for line in said] == ["adapters t-0", "adapters t-1"]
    assert all("was published before and is not live now" in line for line in said)
    assert store.manifest().tasks["t-0"] == first and "t-1" not in store.manifest().tasks


@pytest.mark.nightly
def test_adapter_that_needs_a_closed_site_is_named(
    trained: Path, repository: Path, encoder: Path, tmp_path: Path
) -> None:
    keyed = train_adapter(encoder, tmp_path / "keyed", 4, target_modules=["key"], use_dora=True)
    with pytest.raises(ScoremuxError, match=r"keyed/.* needs the site .*\.key, which this backbone keeps") as refused:
        publish([trained, keyed], repository)
    program, group, *words = shlex.split(str(refused.value).splitlines()[-1].replace(f" {keyed}", f" --for {keyed}"))
    assert (program, group) == ("scoremux", "export")
    assert len(Store(repository / "store").manifest().tasks) == 3
    done = CliRunner().invoke(export, words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert publish([trained, keyed], repository)[0] == "adapters 4: 4 published now"
