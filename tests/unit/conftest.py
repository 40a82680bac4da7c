"""A backbone's description without a backbone, for all that only checks files; and an authority for certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from making import make_spec
from scoremux_engine.backbone import Backbone, BackboneSpec


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
