"""A backbone's description without a backbone, for all that only checks files; and an authority for certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from scoremux_engine.backbone import Backbone, BackboneSpec, HeadLinear, Parity, Site


@pytest.fixture
def bare(tmp_path: Path) -> Backbone:
    """Two layers of width 8 with query and value open, a head of one Linear, and no files."""
    names = [f"bert.encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
    spec = BackboneSpec(
        architecture="BertForSequenceClassification",
        source="nowhere",
        sites=tuple(Site(name=name, d_in=8, d_out=8) for name in names),
        head=(HeadLinear(name="classifier", d_in=8, d_out=None),),
        max_tokens=64,
        pad_id=0,
        parity=Parity(rows=1, max_abs_logit_difference=0.0),
        made_with={},
        files={},
        digest="b" * 64,
    )
    return Backbone(tmp_path / "no-backbone", spec)


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
