"""Batches of rows for peers that leave batching to their users: runs of like length, padded to the longest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from benchmarks.child import Floats
from benchmarks.data import Labelled, minilm

Ints = npt.NDArray[np.int64]
MAX_TOKENS = 512


class TokenIds:
    """MiniLM's tokenizer without padding, by the library that runs below transformers' own."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(minilm() / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

    def of(self, rows: Sequence[Labelled]) -> list[list[int]]:
        """Return the token ids of each row, 512 at most."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch([row.text for row in rows])]


def by_length(lengths: Sequence[int], rows_most: int = 64, tokens_most: int = 32_768) -> list[list[int]]:
    """Return row numbers in batches, shortest rows first; a batch has `tokens_most` tokens at most, padding included.

    A row that alone has more is a batch of its own.
    """
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        last = batches[-1] if batches else []
        if last and len(last) < rows_most and (len(last) + 1) * lengths[row] <= tokens_most:
            last.append(row)
        else:
            batches.append([row])
    return batches


def by_task_and_length(rows: Sequence[Labelled], ids: Sequence[list[int]], rows_most: int) -> list[list[int]]:
    """Return row numbers in batches that hold rows of one task each, tasks in order of appearance."""
    numbers: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(row.task, []).append(number)
    lengths = {task: [len(ids[i]) for i in own] for task, own in numbers.items()}
    return [[own[i] for i in batch] for task, own in numbers.items() for batch in by_length(lengths[task], rows_most)]


def padded(ids: Sequence[list[int]]) -> tuple[Ints, Ints]:
    """Return input_ids and attention_mask, both int64 [B, S]; BERT pads with 0."""
    width = max(map(len, ids))
    array = np.zeros((len(ids), width), dtype=np.int64)
    mask = np.zeros_like(array)
    for i, row in enumerate(ids):
        array[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return array, mask


def scattered(
    rows: int, parts: Sequence[list[int]], run: Callable[[list[int]], Floats], at_once: int = 1, levels: int = 5
) -> Floats:
    """Run all batches, some of them at once, and return float32 [B, L] with every row's logits at its own place."""
    out = np.full((rows, levels), np.nan, dtype=np.float32)
    with ThreadPoolExecutor(at_once) as pool:
        # Torch's threads belong to the thread that runs it: one batch at a time stays in this one.
        made = map(run, parts) if at_once == 1 else pool.map(run, parts)
        for part, logits in zip(parts, made, strict=True):
            out[part] = logits
    return out
