"""The audit log of a real engine: a line a row, what it says, and what it never says."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import ROOT
from scoremux_engine.engine import Engine
from scoremux_engine.errors import AuditError
from scoremux_engine.model.backbone import Backbone
from scoremux_engine.model.provenance import Provenance
from scoremux_engine.runners.onnxruntime import OnnxRuntimeRunner
from scoremux_engine.store.store import Store
from scoremux_engine.triton.audit import Audit, AuditSettings
from scoremux_engine.triton.metrics import FirstLabels, Recorder
from scoremux_files.audit_lines import begins_one

KEY = b"a key that nobody guesses"
SECRET = "zzyzx what a student wrote"
PROVENANCE = Provenance("0.1.0", "onnxruntime", "cpu", "float32", "b" * 64, "onnxruntime-avx2-f32")


class Audited:
    """An engine with its audit log at `path`."""

    def __init__(self, repository: Path, path: Path, **parameters: str) -> None:
        self.path, self.recorder = path, Recorder(FirstLabels(100))
        settings = AuditSettings.of({"audit_log": str(path), **parameters})
        audit = Audit.open(settings, PROVENANCE, self.recorder)
        assert audit is not None
        self.close = audit.close
        backbone = Backbone.open(repository / "backbone" / "1")
        runner = OnnxRuntimeRunner(backbone)
        self.engine = Engine(backbone, Store(repository / "store"), runner, observers=[audit, self.recorder])

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def counted(self) -> dict[str, int]:
        added = self.recorder.take().added
        return {metric.name: count for (metric, labels), count in added.items() if not labels}


def test_every_row_has_a_line_that_says_what_scored_it(small_repository: Path, tmp_path: Path) -> None:
    audited = Audited(small_repository, tmp_path / "audit.jsonl")
    texts = ["the router", "", SECRET, SECRET, b"\xff", "the " * 400]
    tasks = ["t-1", "t-4", "no-such-task", SECRET, "t-2", "t-3"]
    scored = audited.engine.score(texts, tasks)
    lines = audited.lines()
    assert [line["status"] for line in lines] == [str(s.status) for s in scored]
    assert [line["task"] for line in lines] == ["t-1", "t-4", None, None, "t-2", "t-3"]
    assert [line["version"] or "" for line in lines] == [s.version for s in scored]
    for line, outcome, text in zip(lines, scored, texts, strict=True):
        raw = text if isinstance(text, bytes) else text.encode()
        assert line["digest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert line["level"] == (outcome.level if outcome.ok else None)
        assert (line["condition"], line["route"], line["confidence"]) == ("", outcome.route, outcome.confidence)
        kept = np.array(line["probabilities"] or [], dtype=np.float32)
        assert kept.tobytes() == np.array(outcome.probabilities, dtype=np.float32).tobytes()  # bit for bit
        assert (line["margin"] is None) == (not outcome.ok)
        if len(kept) > 1:
            second, first = np.sort(kept.astype(np.float64))[-2:]
            assert line["margin"] == pytest.approx(np.log(first / second), abs=1e-6)
        assert (line["precision"], line["runner"], line["engine"]) == ("float32", "onnxruntime", "0.1.0")
        assert line["backbone"] == "b" * 64
        assert line["time"].endswith("Z")
        age = datetime.now(timezone.utc) - datetime.fromisoformat(line["time"].replace("Z", "+00:00"))
        assert abs(age) < timedelta(minutes=10)
    assert "zzyzx" not in audited.path.read_text()
    assert all(begins_one(line) for line in audited.path.read_bytes().splitlines())
    audited.close()
    Audited(small_repository, audited.path).close()  # known again as an audit log
    assert audited.counted()["scoremux_audit_rows_total"] == 6


def test_with_a_key_nobody_can_guess_a_text_from_its_digest(small_repository: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    audited = Audited(small_repository, tmp_path / "audit.jsonl", audit_key_file=str(tmp_path / "key"))
    audited.engine.score(["yes"], ["t-1"])
    assert audited.lines()[0]["digest"] == f"hmac-sha256:{hmac.new(KEY, b'yes', 'sha256').hexdigest()}"


def test_log_of_format_1_is_continued(small_repository: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests/formats/1/audit/audit.jsonl", tmp_path)
    audited = Audited(small_repository, tmp_path / "audit.jsonl")
    before = audited.lines()
    audited.engine.score(["the router"], ["t-1"])
    *old, new = audited.lines()
    assert (old, len(old)) == (before, 4)
    assert new["digest"] == old[0]["digest"]
    assert [key for key in new if key not in ("arithmetic", "margin")] == list(old[0])
    audited.close()


@pytest.mark.parametrize("space", [b"\n", b" \t", b"\r\n\n"])
@pytest.mark.parametrize("key", [KEY, "ключ, 16 bytes and more".encode(), b"\xff\x80" * 8])
def test_white_space_is_no_part_of_the_key(tmp_path: Path, key: bytes, space: bytes) -> None:
    (tmp_path / "key").write_bytes(space + key + space)
    parameters = {"audit_log": "x", "audit_key_file": str(tmp_path / "key")}
    settings = AuditSettings.of(parameters)
    assert settings.key == key and repr(key) not in repr(settings)
    (tmp_path / "key").write_bytes(b"fifteen bytes.." + space)
    with pytest.raises(AuditError, match="key has 15 bytes; it takes 16 at least"):
        AuditSettings.of(parameters)
    with pytest.raises(AuditError, match="/nowhere cannot be read: No such file"):
        AuditSettings.of({**parameters, "audit_key_file": "/nowhere"})
    assert AuditSettings.of({"audit_log": ""}).path is None
