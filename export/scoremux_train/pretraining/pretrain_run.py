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

DEFAULT = Recipe(epochs=5, batch=32, lr=5e-5)
_HEAD_RATE = 1e-3
"""Of the head that finds hidden tokens."""

_SEED = 20241221

HELD_OUT = 0.05
"""Share of the texts that the loss is measured on, and that are not trained on."""

_MICRO_TOKENS = 512
"""Tokens of a piece of a step: the pieces are shared out among cores."""

_MEASURED = -1
"""Stands for the epoch in which the held-out texts are masked."""

Progress = Callable[[int, int], None]
"""Called with how many texts are done of how many."""


def pretrain_backbone(
    source: str,
    texts: Iterable[str],
    recipe: Recipe,
    out: Path,
    progress: Progress,
    *,
    cores: int = 0,
    checkpoint_s: float = 60.0,
) -> tuple[float, float]:
    """Train a backbone on texts, and write it; a second call resumes a run that was stopped.

    The bytes depend on the different texts, the backbone and the recipe alone. Returns `_mean_loss` before and after.

    Raises:
        TrainError: The backbone is not trained on masked tokens, there are no texts, or `out` exists.
        ModelError: The backbone cannot be opened.
    """
    folder = _working_folder(out)
    classifier = Classifier.open(source)
    masked = MaskedModel.open(classifier, _SEED)
    corpus = _Corpus.of(texts, classifier, int(masked.encoder.config.vocab_size))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", LOCK_TIMEOUT_S):
        workers = Workers(masked, MaskedModel.copy, cores or available_cores())
        before = _mean_loss(workers, corpus)
        checkpoint = Checkpoint(folder, "weights", corpus.fingerprint(recipe, masked.values), checkpoint_s)
        _train(workers, masked, corpus, recipe, checkpoint, progress)
        after = _mean_loss(workers, corpus)
        _write(out, classifier, masked, _card(source, recipe, corpus, before, after))
    shutil.rmtree(folder)
    return before, after


def _working_folder(out: Path) -> Path:
    """Return the folder beside the output in which a run keeps its state. Raises TrainError if the output is there."""
    folder = out.with_name(f".{out.name}.pretraining")
    if out.exists() and not folder.exists():
        raise TrainError(f"{out} exists: remove it, or give another --out")
    return folder


@dataclass(frozen=True)
class _Corpus:
    """The different texts that have a token, as the model sees them: those to train on, and those held out."""

    vocabulary: Vocabulary
    rows: list[Example]
    held_out: list[Example]

    @classmethod
    def of(cls, texts: Iterable[str], classifier: Classifier, size: int) -> _Corpus:
        """Encode texts, in an order that does not depend on that of the files. size: of the vocabulary."""
        special_ids = frozenset(classifier.tokenizer.all_special_ids)
        vocabulary = Vocabulary(size, int(classifier.tokenizer.mask_token_id), special_ids)
        tokenizer = Tokenizer.of(classifier.words(), classifier.max_tokens)
        different = sorted({same_text(text): text for text in sorted(texts)}.items())
        rows, held_out = list[Example](), list[Example]()
        for (text, _), tokens in zip(different, tokenizer.encode([text for _, text in different]), strict=True):
            example = Example(derived_key(text), 0, tokens.ids, tokens.types if classifier.token_types else ())
            if set(example.tokens) - special_ids:
                chosen = derived_key(_SEED, example.key, "held out") < HELD_OUT * 2**64
                (held_out if chosen else rows).append(example)
        if not rows:
            raise TrainError("no text has a token to train on")
        return cls(vocabulary, rows, held_out)

    def fingerprint(self, recipe: Recipe, values: torch.Tensor) -> str:
        """Return a digest of everything that decides the weights."""
        digest = hashlib.sha256(repr((recipe, _SEED)).encode())
        for example in (*self.rows, *self.held_out):
            digest.update(repr((example.key, list(example.tokens))).encode())
        digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        return digest.hexdigest()


def _train(
    workers: Workers[MaskedModel],
    masked: MaskedModel,
    corpus: _Corpus,
    recipe: Recipe,
    checkpoint: Checkpoint,
    progress: Progress,
) -> None:
    """Take the steps that are left. The parameters become views of the training state and change in place."""
    state = checkpoint.load() or TrainingState.begin(masked.values[None])
    # A new place in memory, whose alignment can decide the bits of a product, also for what a file held.
    state.values = state.values.clone()
    masked.read(state.values[0])
    training_set = TrainingSet("pretraining", 1, recipe, corpus.rows, _SEED, _HEAD_RATE)
    in_all = training_set.rows_before(training_set.steps)
    progress(training_set.rows_before(state.step), in_all)
    for step in range(state.step, training_set.steps):
        epoch = step // training_set.epoch_steps
        batch = [mask(example, epoch, corpus.vocabulary) for example in training_set.mini_batch(step)]
        hidden = sum(len(text.places) for text in batch)
        total = torch.zeros_like(masked.values)
        for part in workers.map(partial(_gradient, hidden), micro_batches(batch, _MICRO_TOKENS)):
            total += part
        moments = Moments(state.values[0], state.first[0], state.second[0])
        descend(moments, total, training_set, step, masked.encoder_width)
        state.step = step + 1
        checkpoint.save_if_due(state)
        progress(training_set.rows_before(state.step), in_all)
    checkpoint.save(state)


def _gradient(hidden: int, model: MaskedModel, batch: Sequence[MaskedText]) -> torch.Tensor:
    return model.gradient(batch, hidden)


def _mean_loss(workers: Workers[MaskedModel], corpus: _Corpus) -> float:
    """Return the mean cross entropy of the hidden tokens of held-out texts, NaN without such texts."""
    texts = [mask(example, _MEASURED, corpus.vocabulary) for example in corpus.held_out]
    if not texts:
        return math.nan
    sums = workers.map(lambda model, batch: model.loss(batch), micro_batches(texts, _MICRO_TOKENS))
    return sum(sums) / sum(len(text.places) for text in texts)


def _write(out: Path, classifier: Classifier, masked: MaskedModel, card: str) -> None:
    """Write the folder: the classifier where its source has one, else the encoder alone, as hubs have it."""
    model: Any = classifier.model
    encoder = model.base_model
    encoder.load_state_dict(masked.encoder.state_dict(), strict=False)
    with writing(out), replacing_folder(out) as new:
        (encoder if classifier.random else model).save_pretrained(new)
        classifier.tokenizer.save_pretrained(new)
        (new / README).write_text(card, encoding="utf-8")


def _card(source: str, recipe: Recipe, corpus: _Corpus, before: float, after: float) -> str:
    examples = (*corpus.rows, *corpus.held_out)
    count, tokens, texts = len(examples), sum(len(example.tokens) for example in examples), len(corpus.held_out)
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

- Settings: epochs {recipe.epochs}, batch {recipe.batch}, lr {recipe.lr}, seed {_SEED}.
- {SHARE:.0%} of tokens were hidden; no dropout.
- {loss}
- Adapters of base_model do not fit these weights: train them again on this folder.
"""


def read_texts(paths: Sequence[Path], column: str) -> Iterator[str]:
    """Yield the texts of files, without empty ones. Raises InputError for a file without the column."""
    for path in paths:
        for number, row in enumerate(read_rows(path, text_column=column), start=1):
            text = text_cell(path, number, row, column)
            if text.strip():
                yield text
