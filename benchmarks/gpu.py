"""What adapters cost on an NVIDIA GPU: one encoder, plain and with the adapters of many tasks in each batch.

    python benchmarks/gpu.py
    TRITON_INTERPRET=1 python benchmarks/gpu.py --check     # on any machine: the arithmetic against its oracle

Needs torch, Triton (the compiler, package `triton`) and a CUDA GPU, and nothing else of this repository: copy the file.
Weights are random, since speed does not depend on them; lengths are those of SAF and of short answers (SciEntsBank).
Rows are padded and put into micro-batches as the engine does it. Three ways are compared, in turn:

    plain      y = x @ W: the encoder without adapters, the most that any of them can reach
    gathered   y = x @ W + (x @ A[group]) @ B[group]: the exported graph's arithmetic, A[group] copied for each row
    grouped    the same in a Triton kernel that reads A and B of each row's task in place

Prints rows and tokens a second, the ratio to plain, and the share of the card's own matmul peak on real tokens.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import nn

LENGTHS = {
    # 20 quantiles of the tokens of each training split, by MiniLM's tokenizer.
    "SAF": (5, 10, 14, 17, 20, 23, 26, 30, 33, 37, 42, 48, 54, 62, 72, 86, 103, 124, 158, 224),
    "short": (4, 6, 7, 8, 9, 9, 10, 11, 11, 12, 13, 14, 15, 16, 17, 18, 20, 23, 27, 33),
}
MODELS = {"minilm": (6, 384, 12, 1536), "mpnet-base": (12, 768, 12, 3072)}
"""Layers, width, heads, width of the feed-forward block."""
LADDER = (*range(8, 128, 8), *range(128, 256, 16), *range(256, 513, 32))
PLAIN, GATHERED, GROUPED = "plain", "gathered", "grouped"
WAYS = (PLAIN, GATHERED, GROUPED)
RANK, VOCABULARY = 16, 30_522


@triton.jit  # type: ignore[untyped-decorator]
def _grouped_kernel(  # type: ignore[no-untyped-def]
    # Triton compiles no kernel that has other annotations than its own.
    x, table, group, out, tokens, d_in, d_out,
    ADD: tl.constexpr, S: tl.constexpr, K: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """out[b] (+)= x[b] @ table[group[b]] for one row b and one tile of S tokens and N columns."""
    row, tile, column = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    places, columns, inner = tile * S + tl.arange(0, S), column * N + tl.arange(0, N), tl.arange(0, K)
    # 64-bit: a thousand tasks' tables have more elements than 31 bits count.
    own = tl.load(group + row).to(tl.int64) * d_in * d_out
    first = row.to(tl.int64) * tokens
    total = tl.zeros((S, N), dtype=tl.float32)
    for start in range(0, d_in, K):
        at = start + inner
        left = tl.load(
            x + (first + places[:, None]) * d_in + at[None, :],
            mask=(places[:, None] < tokens) & (at[None, :] < d_in), other=0.0,
        )  # fmt: skip
        right = tl.load(
            table + own + at[:, None] * d_out + columns[None, :],
            mask=(at[:, None] < d_in) & (columns[None, :] < d_out), other=0.0,
        )  # fmt: skip
        total += tl.dot(left, right, input_precision="ieee")
    where = out + (first + places[:, None]) * d_out + columns[None, :]
    inside = (places[:, None] < tokens) & (columns[None, :] < d_out)
    if ADD:
        total += tl.load(where, mask=inside, other=0.0).to(tl.float32)
    tl.store(where, total.to(out.dtype.element_ty), mask=inside)


def grouped_product(
    x: torch.Tensor, table: torch.Tensor, group: torch.Tensor, add_to: torch.Tensor | None = None
) -> torch.Tensor:
    """out[b] = x[b] @ table[group[b]], or out[b] += it; x [B, S, D_in], table [G, D_in, D_out], group int64 [B]."""
    rows, tokens, d_in = x.shape
    d_out = table.shape[2]
    out = x.new_empty(rows, tokens, d_out) if add_to is None else add_to
    if not (x.is_contiguous() and table.is_contiguous() and out.is_contiguous()):
        raise ValueError("grouped_product takes contiguous tensors")
    s, k, n = 16 if tokens <= 16 else 32, min(64, _power_of_two(d_in)), min(64, _power_of_two(d_out))
    grid = (rows, triton.cdiv(tokens, s), triton.cdiv(d_out, n))
    _grouped_kernel[grid](x, table, group, out, tokens, d_in, d_out, ADD=add_to is not None, S=s, K=k, N=n)
    return out


def _power_of_two(size: int) -> int:
    return max(16, 1 << (size - 1).bit_length())


def gathered_product(x: torch.Tensor, table: torch.Tensor, group: torch.Tensor) -> torch.Tensor:
    """The oracle of `grouped_product`."""
    return torch.bmm(x, table[group])


class Encoder(nn.Module):
    """A BERT without the details that cost no time, such as embeddings of places. Query and value take adapters."""

    def __init__(self, model: str, tasks: int) -> None:
        super().__init__()
        self.layers, self.width, self.heads, inner = MODELS[model]
        self.embeddings = nn.Embedding(VOCABULARY, self.width)
        self.blocks: Any = nn.ModuleList(
            nn.ModuleDict(
                {
                    **{name: nn.Linear(self.width, self.width) for name in ("query", "key", "value", "output")},
                    **{"up": nn.Linear(self.width, inner), "down": nn.Linear(inner, self.width)},
                    **{name: nn.LayerNorm(self.width) for name in ("first_norm", "second_norm")},
                }
            )
            for _ in range(self.layers)
        )
        scale = self.width**-0.5
        for name in ("query", "value"):
            self.register_buffer(f"a_{name}", torch.randn(self.layers, tasks, self.width, RANK) * scale)
            self.register_buffer(f"b_{name}", torch.randn(self.layers, tasks, RANK, self.width) * 0.1 * scale)

    def flops(self, tokens: int, length: int) -> float:
        """Floating-point operations of the encoder's own products over `tokens` real tokens of texts of a length."""
        inner = self.blocks[0]["up"].out_features
        a_token = 2 * (4 * self.width * self.width + 2 * self.width * int(inner)) + 4 * length * self.width
        return float(self.layers * tokens * a_token)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, group: torch.Tensor, way: str) -> torch.Tensor:
        """Return the first token's vector, [B, H]. ids int64 [B, S], mask bool [B, 1, 1, S], group int64 [B]."""
        x: torch.Tensor = self.embeddings(ids)
        rows, tokens, width = x.shape
        for number, block in enumerate(self.blocks):

            def heads(name: str, x: torch.Tensor = x, block: Any = block, number: int = number) -> torch.Tensor:
                y: torch.Tensor = block[name](x)
                if name != "key" and way != PLAIN:
                    y = self._adapted(x, y, name, number, group, way)
                return y.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2)

            seen = nn.functional.scaled_dot_product_attention(
                heads("query"), heads("key"), heads("value"), attn_mask=mask
            )
            seen = seen.transpose(1, 2).reshape(rows, tokens, width)
            x = block["first_norm"](x + block["output"](seen))
            x = block["second_norm"](x + block["down"](nn.functional.gelu(block["up"](x))))
        return x[:, 0]

    def _adapted(
        self, x: torch.Tensor, y: torch.Tensor, name: str, number: int, group: torch.Tensor, way: str
    ) -> torch.Tensor:
        a, b = getattr(self, f"a_{name}")[number], getattr(self, f"b_{name}")[number]
        if way == GATHERED:
            return y + gathered_product(gathered_product(x, a, group), b, group)
        return grouped_product(grouped_product(x, a, group), b, group, add_to=y)


class MicroBatch(NamedTuple):
    """ids int64 [B, S], mask bool [B, 1, 1, S], group int64 [B]; tokens: real ones."""

    ids: torch.Tensor
    mask: torch.Tensor
    group: torch.Tensor
    tokens: int


def micro_batches(data: str, rows: int, tasks: int, budget: int, device: str) -> list[MicroBatch]:
    """Return made-up rows of the lengths of `data`, each of a task at random, padded to the engine's buckets."""
    draw = random.Random(0)
    by_bucket: dict[int, list[int]] = {}
    for _ in range(rows):
        length = draw.choice(LENGTHS[data])
        by_bucket.setdefault(next(n for n in LADDER if n >= length), []).append(length)
    made = []
    for bucket, lengths in sorted(by_bucket.items(), reverse=True):
        most = max(1, budget // bucket)
        for start in range(0, len(lengths), most):
            part = torch.tensor(lengths[start : start + most])
            mask = (torch.arange(bucket) < part[:, None])[:, None, None, :]
            ids = torch.randint(0, VOCABULARY, (len(part), bucket))
            group = torch.tensor([draw.randrange(tasks) for _ in part])
            made.append(MicroBatch(ids.to(device), mask.to(device), group.to(device), int(part.sum())))
    return made


def seconds_of(run: Callable[[], object], rounds: int) -> list[float]:
    """Return how long each round took on the GPU."""
    took = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        took.append(time.perf_counter() - started)
    return took


def matmul_peak(dtype: torch.dtype) -> float:
    """Return the floating-point operations a second that a large square product reaches."""
    size = 8192
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    seconds_of(lambda: a @ b, 3)
    return 2 * size**3 / statistics.median(seconds_of(lambda: a @ b, 10))


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each model, precision, data, number of tasks and way."""
    rows = []
    torch.backends.cuda.matmul.allow_tf32 = False
    for model in arguments.models:
        for precision in arguments.precisions:
            dtype = getattr(torch, precision)
            peak = matmul_peak(dtype)
            for tasks in arguments.tasks:
                torch.manual_seed(0)
                encoder = Encoder(model, tasks).to("cuda", dtype).eval()
                for data in LENGTHS:
                    setup = {"model": model, "precision": precision, "tasks": tasks, "data": data}
                    rows += [{**setup, **row} for row in compare(encoder, data, tasks, peak, arguments)]
                    for row in rows[-len(WAYS) :]:
                        print(json.dumps(row), flush=True)
    return rows


def compare(
    encoder: Encoder, data: str, tasks: int, peak: float, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return what each way reaches on the same micro-batches; the ways take turns."""
    batches = micro_batches(data, arguments.rows, tasks, arguments.budget, "cuda")
    tokens = sum(batch.tokens for batch in batches)

    def run(way: str) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([encoder(b.ids, b.mask, b.group, way) for b in batches])

    for way in WAYS:  # also compiles the kernel for every shape
        run(way)
    off = (run(GATHERED) - run(GROUPED)).abs().max().item()
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(arguments.rounds):
        for way in WAYS:
            took[way] += seconds_of(lambda way=way: run(way), 1)  # type: ignore[misc]
    flops = sum(encoder.flops(b.tokens, b.ids.shape[1]) for b in batches)
    medians = {way: statistics.median(seconds) for way, seconds in took.items()}
    return [
        {
            "way": way,
            "rows_s": round(arguments.rows / median),
            "tokens_s": round(tokens / median),
            "times_plain": round(statistics.median(a / b for a, b in zip(took[PLAIN], took[way], strict=True)), 3),
            "share_of_peak": round(flops / median / peak, 3),
            "spread": round((max(took[way]) - min(took[way])) / median, 3),
            "max_abs_difference_gathered_grouped": off,
        }
        for way, median in medians.items()
    ]


def check() -> float:
    """Compare the kernel with its oracle on small shapes; return the largest difference relative to the result."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    worst = 0.0
    for rows, tokens, d_in, d_out in ((3, 8, 96, 16), (4, 40, 16, 96), (2, 17, 70, 33), (1, 1, 16, 16)):
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
            shapes = (rows, tokens, d_in), (5, d_in, d_out), (rows, tokens, d_out)
            x, table, base = (torch.randn(shape).to(device, dtype) for shape in shapes)
            group = torch.randint(0, 5, (rows,)).to(device)
            product = gathered_product(x.float(), table.float(), group)
            pairs = (
                (grouped_product(x, table, group), product),
                (grouped_product(x, table, group, add_to=base.clone()), product + base.float()),
            )
            off = max(float((result.float() - right).abs().max() / right.abs().max()) for result, right in pairs)
            worst = max(worst, off)
            if not off <= tolerance:
                raise SystemExit(f"{(rows, tokens, d_in, d_out)} {dtype}: off by {off:.1e}")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare the kernel with its oracle, time nothing")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=["float16", "bfloat16", "float32"])
    parser.add_argument("--tasks", nargs="+", type=int, default=[27, 1000])
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--budget", type=int, default=16384, help="padded tokens of a micro-batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="JSONL file to append the rows to")
    arguments = parser.parse_args()
    if arguments.check:
        print(f"kernel: off by {check():.1e} of the largest value")
        return
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA GPU; --check compares the arithmetic on any machine")
    card = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}
    rows = [{**card, **row} for row in measure(arguments)]
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
