"""MiniLM with a head, in torch, as every torch peer starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.peer import LEVELS
from benchmarks.saf import minilm


def classifier(folder: Path | None = None, **options: Any) -> Any:
    """Return transformers' own sequence classifier, in eval mode, in its own default attention."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    options = {} if folder else {"num_labels": LEVELS, **options}
    return transformers.AutoModelForSequenceClassification.from_pretrained(str(folder or minilm()), **options).eval()


def tensor_bytes(model: Any) -> int:
    """Return the bytes of a torch module's parameters."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
