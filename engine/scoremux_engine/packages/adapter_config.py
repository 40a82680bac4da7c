"""`adapter_config.json`: PEFT's description of a LoRA adapter, and which of its variants are served."""

from __future__ import annotations

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.package_files import CONFIG_JSON, PackageFiles
from scoremux_files.settings import parse_object, quote, quote_key, validate

# Keys that say how an adapter was made, or which modules it chose: the tensors themselves show the rest.
_OF_NO_CONSEQUENCE = {
    "auto_mapping", "corda_config", "eva_config", "exclude_modules",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size",
    "revision", "runtime_config", "target_modules", "ensure_weight_tying",
}  # fmt: skip
_KNOWN = {
    "alpha_pattern", "base_model_name_or_path", "bias", "fan_in_fan_out", "init_lora_weights", "lora_alpha",
    "lora_bias", "peft_type", "r", "rank_pattern", "task_type", "use_dora", "use_rslora",
}  # fmt: skip

# Ways to start training that leave the base weights as they are; the others (pissa, olora, …) change them on loading.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")

MAX_PATTERNS = 1024
"""Most rank or alpha patterns; PEFT's EVA writes one a module."""

_MOST_LETTERS, _LONG_NAME = 256, 128
_MOST_STEPS = 1 << 16
"""Most ways in which all patterns together may match one name."""

_TOKEN = re.compile(
    r"""(?P<open>\((?:\?:)?) | (?P<close>\)) | (?P<or>\|)
    | (?: \\[.\-dw] | \[\^?[\w.\-]+\] | [\w.\-] ) (?P<repeat>[*+?] | \{\d{1,3}(?:,\d{0,3})?\})?
    | [\^$]""",
    re.VERBOSE | re.ASCII,
)
"""One part of the regular expressions that are supported."""

_Pattern = tuple[re.Pattern[str], Any]
Rank = Annotated[int, Field(gt=0, le=4096)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdapterConfig(BaseModel):
    """The keys of PEFT's LoraConfig that decide a score, and the base model that the adapter was trained on."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    base_model_name_or_path: str = ""
    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Rank] = Field({}, max_length=MAX_PATTERNS)
    alpha_pattern: dict[str, Alpha] = Field({}, max_length=MAX_PATTERNS)

    def rank(self, site: str) -> int:
        """Return the rank PEFT gives the module `site`."""
        return int(_first_match(self._ranks, site, self.r))

    def scaling(self, site: str) -> float:
        """Return what PEFT multiplies B(A(x)) by: alpha / r, or alpha / sqrt(r) with `use_rslora`."""
        rank, alpha = self.rank(site), float(_first_match(self._alphas, site, self.lora_alpha))
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    @cached_property
    def _ranks(self) -> list[_Pattern]:
        return _compiled(self.rank_pattern)

    @cached_property
    def _alphas(self) -> list[_Pattern]:
        return _compiled(self.alpha_pattern)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> AdapterConfig:
        """Parse `adapter_config.json`, read from `path`.

        Raises PackageError naming the key that is wrong or not supported.
        """
        try:
            raw = parse_object(data)
            _refuse_unsupported(path, raw)
            return validate(cls.model_validate, {k: v for k, v in raw.items() if v is not None})
        except ValueError as error:
            raise PackageError(f"{path}: {error}") from error

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read a PEFT folder's config. Raises PackageError naming the key that is wrong or not supported."""
        return cls.parse(PackageFiles.of(folder).read(CONFIG_JSON), folder / CONFIG_JSON)


def _refuse_unsupported(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("peft_type") != "LORA":
        raise PackageError(f"{path}: peft_type is {quote(raw.get('peft_type'))}; only LORA adapters are served")
    if raw.get("task_type") != "SEQ_CLS":
        raise PackageError(
            f"{path}: task_type is {quote(raw.get('task_type'))}; only SEQ_CLS adapters have a scoring head"
        )
    if raw.get("bias", "none") not in ("none", "lora_only"):
        raise PackageError(f"{path}: bias is {quote(raw['bias'])}; biases outside the sites cannot differ by task")
    start = raw.get("init_lora_weights")
    if start not in _HARMLESS_STARTS:
        raise PackageError(
            f"{path}: init_lora_weights is {quote(start)}, which changes the base weights; "
            "save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )
    for key in sorted(set(raw) - _KNOWN - _OF_NO_CONSEQUENCE):
        # PEFT writes every variant it knows; one that is off says nothing, one that is on would change the score.
        if raw[key] not in (None, False, [], {}):
            raise PackageError(f"{path}: {quote_key(key)} is {quote(raw[key])}; this LoRA variant is not supported")


def _compiled(patterns: dict[str, Any]) -> list[_Pattern]:
    """Compile PEFT's patterns. Raises PackageError naming one that could keep the matcher busy, or is none."""
    made, steps = [], 0
    for pattern, value in patterns.items():
        cost = _most_steps(pattern)
        steps += cost
        if not cost or steps > _MOST_STEPS:
            why = (
                "could take too long to match" if cost else "is not supported; use names with . ^ \\d [a-z] (a|b) * + ?"
            )
            raise PackageError(f"{CONFIG_JSON}: the pattern {quote(pattern)} {why}")
        try:
            made.append((re.compile(pattern), value))
        except re.error as error:
            raise PackageError(f"{CONFIG_JSON}: the pattern {quote(pattern)} is no regular expression") from error
    return made


def _most_steps(pattern: str) -> int:
    """Return a bound for the ways in which a pattern can match a name; 0 for a pattern that is not supported.

    Repeated groups and nested groups are not: the ways to match one grow exponentially with the name.
    """
    steps, alternatives, at = 1, {False: 1, True: 1}, 0
    grouped = False
    while at < len(pattern) <= _MOST_LETTERS:
        token = _TOKEN.match(pattern, at)
        if token is None or (token["open"] and grouped) or (token["close"] and not grouped):
            return 0
        if token["or"]:
            alternatives[grouped] += 1
        elif token["close"]:
            steps *= alternatives[True]
        elif token["repeat"]:
            steps *= _repeats(token["repeat"])
        if token["open"] or token["close"]:
            grouped, alternatives[True] = bool(token["open"]), 1
        at = token.end()
    return steps * alternatives[False] if at == len(pattern) > 0 and not grouped else 0


def _repeats(token: str) -> int:
    """Return how many lengths a repeated letter can have."""
    if token == "?":
        return 2
    least, _, most = token.strip("{}").partition(",")
    if token[0] in "*+" or ("," in token and not most):
        return _LONG_NAME
    return max(1, int(most or least) - int(least) + 1)


def _first_match(patterns: list[_Pattern], site: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that matches whole parts at the end of a site's name, as PEFT chooses."""
    starts = [0, *(dot.end() for dot in re.finditer(r"\.", site))]
    matching = (value for pattern, value in patterns if any(pattern.fullmatch(site, start) for start in starts))
    return next(matching, otherwise)
