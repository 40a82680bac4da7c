"""Fixtures: small repositories, each made once for all workers of a run; a name for each misbehaving test."""

import faulthandler
import gc
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from making import TASKS, Once, make_adapter, make_encoder, make_spec
from scoremux_engine.model.backbone import Backbone, BackboneSpec
from scoremux_engine.store.store import Store
from scoremux_server.profile import Profile
from scoremux_server.triton.server import TritonServer

# Looking for garbage among what collection imports takes half of its time, and finds nothing: all of it stays.
gc.disable()
# A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


# What other tests left to the garbage collector stays in a forked child: OpenVINO's threads are not there, and whoever
# destroys an engine there waits for them for ever.
os.register_at_fork(after_in_child=gc.freeze)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Let the interpreter's last collection find what was frozen: OpenVINO names each object that it does not."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Name the test after which SIGPIPE is not ignored any more, and ignore it again.

    A worker was seen to die of the next write to a closed connection, without a word: a library had changed what the
    signal does. Crashes are reported on stderr again, wherever the scorer under test had them reported.
    """
    yield
    status = Path("/proc/self/status").read_text()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    if not ignored >> (signal.SIGPIPE - 1) & 1:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        warnings.warn("SIGPIPE was not ignored after this test", stacklevel=1)
    faulthandler.enable(sys.__stderr__)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    base = tmp_path_factory.getbasetemp()
    return Once(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture(scope="session")
def encoder(once: Once) -> Path:
    return once("encoder", make_encoder)


@pytest.fixture(scope="session")
def exported(encoder: Path, once: Once) -> Path:
    """A repository with a backbone and no store. Do not change it."""
    from scoremux_export.opening.openable import Opening

    return once.export("exported", encoder, Opening("query,value"))


@pytest.fixture(scope="session")
def backbone(exported: Path) -> Backbone:
    return Backbone.open(exported / "backbone" / "1")


@pytest.fixture(scope="session")
def adapters(backbone: Backbone, once: Once) -> list[Path]:
    def make(root: Path) -> None:
        for number, (task, (rank, levels)) in enumerate(TASKS.items()):
            make_adapter(root / task, backbone.spec, task, rank=rank, levels=levels, seed=number)

    root = once("adapters", make)
    return [root / task for task in TASKS]


@pytest.fixture(scope="session")
def small_repository(exported: Path, adapters: list[Path], backbone: Backbone, once: Once) -> Path:
    """A repository with a backbone and the tasks of TASKS. Do not change it."""

    def make(repository: Path) -> None:
        shutil.copytree(exported / "backbone", repository / "backbone")
        Store(repository / "store").add(adapters, backbone)

    return once("small", make)


@pytest.fixture(scope="session")
def mixed_repository(once: Once) -> Path:
    """A repository with adapters of many ranks, sites, kinds and numbers of levels (`mixed_store.KINDS`)."""
    from mixed_store import make_mixed_repository

    def make(repository: Path) -> None:
        make_mixed_repository(str(make_encoder(repository / "source", layers=1, width=256)), repository)

    return once("mixed", make)


@pytest.fixture(scope="session")
def open_repository(once: Once) -> Path:
    """A repository without a store whose backbone takes adapters of every kind and site; its model is in ``source``."""

    def make(repository: Path) -> None:
        from mixed_store import OPENING
        from scoremux_export.export_graph import export_backbone

        source = make_encoder(repository / "source", layers=1, width=64, max_tokens=97)
        export_backbone(str(source), OPENING, repository)

    return once("open", make)


@pytest.fixture(scope="session")
def exported_family(once: Once) -> Callable[[str], Path]:
    """Return a repository with a small model of a family and no store (`families.export_family`). Do not change it."""

    def export(name: str) -> Path:
        from families import export_family

        return once(f"family-{name}", partial(export_family, name))

    return export


@pytest.fixture(scope="session")
def family_repository(exported_family: Callable[[str], Path], once: Once) -> Callable[[str], Path]:
    """The same with a store of adapters of many kinds (`families.kinds_of`). Do not change it."""

    def make(name: str) -> Path:
        from families import kinds_of
        from mixed_store import make_store

        return once(f"store-{name}", partial(make_store, exported_family(name), kinds=kinds_of(name)))

    return make


@pytest.fixture(scope="session")
def saf_repository(once: Once) -> Path:
    """MiniLM with the 27 example adapters. Do not change it."""
    from saf import needs_minilm, prepare

    if needs_minilm.args[0]:
        pytest.skip(needs_minilm.kwargs["reason"])
    return once("saf", lambda folder: prepare(folder / "minilm")) / "minilm"


@pytest.fixture(scope="session")
def server(small_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A Triton of the default profile for tests that only read. Those that stop or change one start their own."""
    from watching import unwatched

    log = tmp_path_factory.mktemp("triton") / "triton.log"
    with unwatched(small_repository, log=log, profile=Profile()) as running:
        yield running


@pytest.fixture
def own_repository(small_repository: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the small repository that the test may change."""
    shutil.copytree(small_repository, tmp_path / "repository")
    yield tmp_path / "repository"


@pytest.fixture
def bare(tmp_path: Path) -> Backbone:
    """Two layers of width 8 with query and value open, a head of one Linear, and no files."""
    return Backbone(tmp_path / "no-backbone", make_spec(8))


@pytest.fixture
def spec(bare: Backbone) -> BackboneSpec:
    return bare.spec


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def roots(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "roots.pem"
    authority.cert_pem.write_to_path(str(path))
    return path
