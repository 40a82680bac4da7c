"""Texts and a backbone → the same backbone after masked-token training, as a folder that transformers opens."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.adapter_folders import README, WEIGHTS
from scoremux_engine.runners.runner import available_cores
from scoremux_export.opening.base import weights_digest
from scoremux_export.opening.classifier import Classifier
from scoremux_files.atomic import replacing_folder
from scoremux_files.errors import writing
from scoremux_files.locks import locked
from scoremux_files.rows.readers import read_rows, same_text, text_cell
from scoremux_train.errors import TrainError
from scoremux_train.pretraining.masked_model import SHARE, MaskedModel, MaskedText, Vocabulary, mask
from scoremux_train.progress import LOCK_TIMEOUT_S
from scoremux_train.recipe import Recipe, derived_key
from scoremux_train.training.batches import Example, TrainingSet, micro_batches
from scoremux_train.training.checkpoint import Checkpoint, TrainingState
from scoremux_train.training.objective import Moments, descend
from scoremux_train.training.workers import Workers

DEFAULT = Recipe(epochs=5, batch=32, lr=5e-5, head_lr=1e-3)

HELD_OUT = 0.05
"""Share of the texts that the loss is measured on, and that are not trained on."""

_MICRO_TOKENS = 512
"""Tokens of a piece of a step: the pieces are shared out among cores."""

_MEASURED = -1
"""Stands for the epoch in which the held-out texts are masked."""

Progress = Callable[[int, int], None]
"""Called with how many texts are done of how many."""


@dataclass(frozen=True)
class Pretraining:
    """What decides the weights, beside the texts and the backbone.

    Attributes:
        recipe: Epochs, batch, rates, warm-up, weight decay and clipping; `head_lr` is of the head that finds tokens.
        seed: Of everything that is drawn at random.
    """

    recipe: Recipe = DEFAULT
    seed: int = 20241221


def pretrain_backbone(
    source: str,
    texts: Iterable[str],
    settings: Pretraining,
    out: Path,
    progress: Progress,
    *,
    cores: int = 0,
    checkpoint_s: float = 60.0,
) -> tuple[float, float]:
    """Train a backbone on texts, and write it; run again, it goes on where it was stopped.

    The bytes depend on the texts, the backbone and the settings alone, not on cores or on where a run was stopped.

    Args:
        source: The backbone's folder or hub id.
        texts: Responses; equal ones count once, in whatever order they come.
        cores: How many to use; 0: all.

    Returns:
        The mean cross entropy of hidden tokens of held-out texts before and after, NaN without such texts.

    Raises:
        TrainError: The backbone cannot be trained so, there are no texts, or `out` exists.
        ModelError: The backbone cannot be opened.
    """
    folder = out.with_name(f".{out.name}.pretraining")
    if out.exists() and not folder.exists():
        raise TrainError(f"{out} exists: remove it, or give another --out")
    classifier = Classifier.open(source)
    masked = MaskedModel.open(classifier, settings.seed)
    vocabulary = Vocabulary(
        int(masked.encoder.config.vocab_size),
        int(classifier.tokenizer.mask_token_id),
        frozenset(classifier.tokenizer.all_special_ids),
    )
    examples = _examples(texts, classifier, vocabulary)
    held_out = [e for e in examples if derived_key(settings.seed, e.key, "held out") < HELD_OUT * 2**64]
    chosen = {example.key for example in held_out}
    rows = [example for example in examples if example.key not in chosen]
    if not rows:
        raise TrainError("there is no text with a token to train on")
    training_set = TrainingSet("pretraining", 1, settings.recipe, rows, seed=settings.seed)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", LOCK_TIMEOUT_S):
        fingerprint = _fingerprint(settings, examples, masked.values)
        workers = Workers(masked, MaskedModel.copy, cores or available_cores(), 1)
        measured = [_masked(example, _MEASURED, vocabulary) for example in held_out]
        before = _mean_loss(workers, measured)
        checkpoint = Checkpoint(folder, "weights", fingerprint, checkpoint_s)
        state = checkpoint.load() or TrainingState.begin(masked.values[None], patient=False)
        # A new place in memory, whose alignment can decide the bits of a product, also for what a file held.
        state.values = state.values.clone()
        masked.read(state.values[0])
        _train(workers, masked, training_set, state, vocabulary, checkpoint, progress)
        checkpoint.save(state)
        after = _mean_loss(workers, measured)
        count, tokens = len(examples), sum(len(example.tokens) for example in examples)
        card = _card(source, settings, count, tokens, (len(held_out), before, after))
        _write(out, classifier, masked, card)
    shutil.rmtree(folder)
    return before, after


def _examples(texts: Iterable[str], classifier: Classifier, vocabulary: Vocabulary) -> list[Example]:
    """Return the different texts that have a token, in an order that does not depend on that of the files."""
    tokenizer = Tokenizer.of(classifier.words(), classifier.max_tokens)
    different = sorted({same_text(text): text for text in sorted(texts)}.items())
    encoded = tokenizer.encode([text for _, text in different])
    return [
        Example(derived_key(text), 0, seen.ids, seen.types if classifier.token_types else ())
        for (text, _), seen in zip(different, encoded, strict=True)
        if set(seen.ids) - set(vocabulary.special_ids)
    ]


def _masked(example: Example, epoch: int, vocabulary: Vocabulary) -> MaskedText:
    return mask(example.key, example.tokens, example.token_types, epoch, vocabulary)


def _train(
    workers: Workers[MaskedModel],
    masked: MaskedModel,
    training_set: TrainingSet,
    state: TrainingState,
    vocabulary: Vocabulary,
    checkpoint: Checkpoint,
    progress: Progress,
) -> None:
    """Take the steps that are left; `state` and the parameters, which are views of it, change in place."""
    in_all = training_set.rows_before(training_set.steps)
    progress(training_set.rows_before(state.step), in_all)
    for step in range(state.step, training_set.steps):
        epoch = step // training_set.epoch_steps
        batch = [_masked(example, epoch, vocabulary) for example in training_set.mini_batch(step)]
        work = partial(_gradient, sum(len(text.places) for text in batch))
        total = torch.zeros_like(masked.values)
        for part in workers.map(work, micro_batches(batch, _MICRO_TOKENS)):
            total += part
        moments = Moments(state.values[0], state.first[0], state.second[0])
        descend(moments, total, training_set, step, masked.encoder_width)
        state.step = step + 1
        checkpoint.save_if_due(state)
        progress(training_set.rows_before(state.step), in_all)


def _gradient(hidden: int, model: MaskedModel, batch: Sequence[MaskedText]) -> torch.Tensor:
    return model.gradient(batch, hidden)


def _mean_loss(workers: Workers[MaskedModel], texts: Sequence[MaskedText]) -> float:
    if not texts:
        return math.nan
    sums = workers.map(lambda model, batch: model.loss(batch), micro_batches(texts, _MICRO_TOKENS))
    return sum(sums) / sum(len(text.places) for text in texts)


def _fingerprint(settings: Pretraining, examples: Iterable[Example], values: torch.Tensor) -> str:
    digest = hashlib.sha256(repr(settings).encode())
    for example in examples:
        digest.update(repr((example.key, list(example.tokens))).encode())
    digest.update(np.ascontiguousarray(values.numpy()).tobytes())
    return digest.hexdigest()


def _write(out: Path, classifier: Classifier, masked: MaskedModel, card: str) -> None:
    """Write the folder: the classifier where its source has one, else the encoder alone, as hubs have it."""
    model: Any = classifier.model
    encoder = model.base_model
    encoder.load_state_dict(masked.encoder.state_dict(), strict=False)
    with writing(out), replacing_folder(out) as new:
        (encoder if classifier.random else model).save_pretrained(new)
        classifier.tokenizer.save_pretrained(new)
        (new / README).write_text(card, encoding="utf-8")


def _card(source: str, settings: Pretraining, count: int, tokens: int, held: tuple[int, float, float]) -> str:
    recipe, (texts, before, after) = settings.recipe, held
    shown = ", ".join(f"{name} {getattr(recipe, name)}" for name in _SHOWN)
    loss = (
        f"Mean cross entropy of hidden tokens in {texts:,} texts that were held out: {before:.3f} before (with the "
        f"head as it began), {after:.3f} after."
        if texts
        else "No text was held out, so nothing was measured."
    )
    return f"""\
---
base_model: {Path(source).name if Path(source).exists() else source}
{WEIGHTS}: {weights_digest(source)}
---

# Pretrained on responses

The weights of base_model after masked-token training on {count:,} different responses without labels ({tokens:,}
tokens), by `scoremux pretrain`. No response is in this folder; the weights have seen them.

- Settings: {shown}, seed {settings.seed}; {SHARE:.0%} of tokens hidden; no dropout.
- {loss}
- Adapters of base_model do not fit these weights: train them again on this folder.
"""


_SHOWN = ("epochs", "batch", "lr", "head_lr", "warmup", "weight_decay", "clip")


def read_texts(paths: Sequence[Path], column: str) -> Iterator[str]:
    """Yield the texts of files, without empty ones. Raises InputError for a file without the column."""
    for path in paths:
        for number, row in enumerate(read_rows(path, text_column=column), start=1):
            text = text_cell(path, number, row, column)
            if text.strip():
                yield text
