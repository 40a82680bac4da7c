"""The proof: random adapters through PEFT and through the exported graph must give the same logits."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
from torch import Tensor, nn

from scoremux_engine.model.backbone import TOKEN_TYPE_IDS, Backbone, BackboneSpec, Parity
from scoremux_engine.model.buckets import SizeClass, padded_prefix
from scoremux_engine.model.tables import stack
from scoremux_engine.model.tokens import Tokens
from scoremux_engine.packages.package import TaskPackage
from scoremux_engine.packages.package_files import TASK_JSON
from scoremux_engine.runners.runner import BackboneRunner, Floats, Ints, Outputs, pad
from scoremux_engine.scoring.computation import add_prefix
from scoremux_export.errors import ParityError
from scoremux_export.opening.classifier import copy_of
from scoremux_export.opening.openable import Opening

TOLERANCE = 1e-4
_RANKS, _LEVELS = (8, 4, 16, 8), (5, 3, 2, 6)
_LENGTHS = (2, 3, 7, 8, 9, 16, 31, 40)
# Relative positions change with the distance, so one row is as long as can be, within reason.
_LONGEST = 512
# Two ways to compute in float32 are as far from each other as each is from float64, and a little more.
_MOST_NOISE = 4.0


def prove(model: Any, backbone: Backbone, runner: BackboneRunner, opening: Opening) -> Parity:
    """Compare the graph with PEFT on rows that alternate between adapters of different ranks and numbers of levels.

    The adapters are saved and read as a user's are.

    Args:
        model: The model as it was before it was opened.
        opening: Names the LoRA variants that the sites take.

    Raises:
        ParityError: Some |Δlogit| is above 1e-4 and above what float32 explains, `pooled` is not what PEFT's head
            reads, or the model reads padding, or all rows have nearly the same logits, which would prove nothing.
    """
    generator = torch.Generator().manual_seed(0)
    packages, oracles = _adapters(model, backbone, opening, generator)
    worst, spread, spec, rows = 0.0, 0.0, backbone.spec, list[Tokens]()
    for tokens, group, out in _run(packages, model, backbone, runner, generator):
        pooled, rows = np.asarray(out.pooled), rows + tokens
        for row, g in enumerate(group):
            expected, read = _ask(oracles[g], tokens[row], spec)
            difference = float(np.abs(out.logits[row, : len(expected)] - expected).max())
            if not (difference <= worst or np.isnan(worst)):  # NaN is the worst
                worst, worst_row = difference, (oracles[g], [tokens[row]])
            if not (off := _relative(pooled[row], read)) <= TOLERANCE:
                _check_read(oracles[g], tokens[row], off, rows, spec)
            spread = max(spread, float(expected.std()))
    if not worst <= TOLERANCE and not worst <= _MOST_NOISE * (noise := _float32_noise(*worst_row, spec)[0]):
        raise ParityError(
            f"max |Δlogit| from PEFT is {worst:.2e} over {len(rows)} rows, above {TOLERANCE:.0e}; PEFT's own float32 "
            f"is {noise:.1e} from its float64 there"
        )
    if spread < 10 * TOLERANCE:
        raise ParityError("the random adapters' logits hardly differ, so the comparison proves nothing")
    return Parity(rows=len(rows), max_abs_logit_difference=worst)


def _run(
    packages: list[TaskPackage], model: Any, backbone: Backbone, runner: BackboneRunner, generator: torch.Generator
) -> Iterator[tuple[list[Tokens], Ints, Outputs]]:
    """Run random rows of several lengths; yield each batch with the adapter of each row, and its outputs."""
    spec = backbone.spec
    size = SizeClass(max(_RANKS), max(_LEVELS))
    tables = stack([package.tables for package in packages], spec, size, runner.dtypes)
    longest = min(spec.max_tokens, _LONGEST)

    def draw(lengths: Iterable[int]) -> tuple[list[Tokens], Ints]:
        tokens = [_tokens(length, spec, model, generator) for length in lengths]
        return tokens, np.arange(len(tokens), dtype=np.int64) % len(packages)

    for bucket in sorted({min(length, longest) for length in (8, 16, 40, longest)}):
        shorter = [length for length in _LENGTHS if length < bucket <= max(_LENGTHS)]
        tokens, group = draw([*shorter, bucket])
        yield tokens, group, runner.run(pad(tokens, group, bucket, spec), tables, pooled=True)
    if spec.prefix_layers:
        tokens, group = draw(longest - place for place in range(len(packages)))
        yield tokens, group, _run_behind_prefixes(packages, tokens, backbone, runner)


def _relative(pooled: Floats, read: Floats) -> float:
    return float(np.abs(pooled - read).max() / max(1.0, np.abs(read).max()))


def _run_behind_prefixes(
    packages: list[TaskPackage], tokens: list[Tokens], backbone: Backbone, runner: BackboneRunner
) -> Outputs:
    """Run one row an adapter, with the keys and values of its beginning computed before, of a length of its own."""
    tables, rest, sizes = [], [], []
    for place, (package, row) in enumerate(zip(packages, tokens, strict=True), start=1):
        size = len(row.ids) * place // (len(tokens) + 1)
        behind = replace(package, prefix=tuple(row.ids[:size]))
        tables.append(add_prefix(behind, backbone, runner).tables)
        rest.append(row.after(size))
        sizes.append(size)
    size_class = SizeClass(max(_RANKS), max(_LEVELS), padded_prefix(max(sizes)))
    stacked = stack(tables, backbone.spec, size_class, runner.dtypes)
    bucket = max(len(row.ids) for row in rest)
    inputs = pad(rest, np.arange(len(rest)), bucket, backbone.spec, sizes)
    return runner.run(inputs, stacked, pooled=True)


def _adapters(
    model: Any, backbone: Backbone, opening: Opening, generator: torch.Generator
) -> tuple[list[TaskPackage], list[nn.Module]]:
    """Make random adapters with PEFT: plain LoRA, and every variant that the opening takes.

    Each is saved, and read back as a package. Returns the packages, and PEFT's own models.
    """
    kinds: list[dict[str, Any]] = [{}, {"use_rslora": True}, {"use_dora": opening.dora}, {"lora_bias": opening.bias}]
    packages, oracles, last = list[TaskPackage](), list[nn.Module](), backbone.spec.head[-1]
    for rank, levels, kind in zip(_RANKS, _LEVELS, kinds, strict=True):
        base: Any = copy_of(model)
        base.num_labels = base.config.num_labels = levels
        base.set_submodule(last.name, nn.Linear(last.d_in, levels, bias=last.bias))
        config = peft.LoraConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=rank,
            lora_alpha=16,
            target_modules=[site.name for site in backbone.spec.sites],
            modules_to_save=list(opening.modules_to_save) or None,
            **kind,
        )
        oracle = peft.get_peft_model(base, config).eval()
        with torch.no_grad():
            for name, parameter in oracle.named_parameters():
                if parameter.requires_grad:
                    # PEFT starts B at zero, which would prove nothing.
                    scale = 0.1 if "lora_B" in name else _unit_scale(parameter)
                    drawn = torch.randn(parameter.shape, generator=generator) * scale
                    parameter.copy_(parameter * (1 + drawn) if "magnitude" in name else drawn)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            oracle.save_pretrained(scratch)
            (folder / TASK_JSON).write_text(json.dumps({"id": "parity", "levels": list(range(levels))}))
            packages.append(TaskPackage.read(folder, backbone))
        oracles.append(oracle)
    return packages, oracles


def _check_read(oracle: Any, tokens: Tokens, off: float, rows: Sequence[Tokens], spec: BackboneSpec) -> None:
    """Raise ParityError if float32 does not explain how far `pooled` of a row is off from the input of PEFT's head."""
    if off <= _MOST_NOISE * _float32_noise(oracle, rows, spec)[1]:
        return
    padding = min(8, spec.max_tokens - len(tokens.ids))
    (_, alone), (_, padded) = (_ask(oracle, tokens, spec, count) for count in (0, padding))
    if _relative(padded, alone) > TOLERANCE:
        raise ParityError(
            f"{type(oracle.get_base_model()).__name__} reads padding as text, so that a score would depend on the "
            "longest text of its batch; such models cannot be served"
        )
    raise ParityError(f"pooled differs by {off:.2e} from what PEFT's head reads, above {TOLERANCE:.0e}")


def _float32_noise(oracle: nn.Module, rows: Sequence[Tokens], spec: BackboneSpec) -> tuple[float, float]:
    """Return how far PEFT's float32 is from its float64 at most: logits of rows, and the vectors that its head reads.

    Some decoders add small numbers to residuals in the thousands: there float32 is coarser than the tolerance.
    """
    coarse = [_ask(oracle, row, spec) for row in rows]
    exact = [_ask(oracle.double(), row, spec) for row in rows]
    oracle.float()
    of_logits, of_read = [], []
    for (logits, read), (exact_logits, exact_read) in zip(coarse, exact, strict=True):
        of_logits.append(float(np.abs(logits - exact_logits).max()))
        of_read.append(_relative(read, exact_read))
    return max(of_logits), max(of_read)


def _unit_scale(parameter: Tensor) -> float:
    """Return 1/√fan-in: outputs about as large as inputs, as trained weights give them, at any width.

    Larger ones would make logits in the hundreds, where float32 itself is coarser than the tolerance.
    """
    return float(parameter.shape[-1]) ** -0.5 if parameter.dim() == 2 else 0.5


def _tokens(length: int, spec: BackboneSpec, model: Any, generator: torch.Generator) -> Tokens:
    """Return random tokens, of random types where the graph takes them; some end in the padding token."""

    def draw(below: int) -> list[int]:
        return torch.randint(0, below, (length,), generator=generator).tolist()

    ids = draw(int(model.config.get_text_config().vocab_size))
    if length % 3 == 0:
        ids[-1] = spec.pad_id
    types = draw(getattr(model.config, "type_vocab_size", 2)) if spec.token_types else [0] * length
    return Tokens(ids, types, truncated=False)


def _ask(oracle: nn.Module, tokens: Tokens, spec: BackboneSpec, padding: int = 0) -> tuple[Floats, Floats]:
    """Return the result of PEFT's model for one row: its logits [L] and the vector [H] that its head reads."""
    read: list[Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        for name, module in oracle.named_modules()
        if isinstance(module, nn.Linear) and ".modules_to_save." in name
    ]
    zeros = [0] * padding
    feeds = {
        "input_ids": [*tokens.ids, *[spec.pad_id] * padding],
        "attention_mask": [*[1] * len(tokens.ids), *zeros],
    }
    if spec.token_types:
        feeds[TOKEN_TYPE_IDS] = [*tokens.types, *zeros]
    with torch.inference_mode():
        logits = oracle(**{name: torch.tensor([row]) for name, row in feeds.items()}).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    if read[0].dim() == 2:
        return logits, read[0][0].numpy()
    last = max((place for place, token in enumerate(tokens.ids) if token != spec.pad_id), default=0)
    return logits, read[0][0, last].numpy()
