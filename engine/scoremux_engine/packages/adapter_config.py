"""`adapter_config.json`: PEFT's description of a LoRA adapter, and which of its variants are served."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import re2
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.json_object import explain, parse_object, quote, quote_key
from scoremux_engine.packages.source import CONFIG_JSON, Folder
from scoremux_engine.packages.task import MAX_JSON_BYTES

# Keys that say how an adapter was made, or which modules it chose: the tensors themselves tell the rest.
_OF_NO_CONSEQUENCE = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "exclude_modules",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size",
    "revision", "runtime_config", "target_modules", "ensure_weight_tying",
}  # fmt: skip
_KNOWN = {
    "alpha_pattern", "bias", "fan_in_fan_out", "init_lora_weights", "lora_alpha", "lora_bias", "peft_type", "r",
    "rank_pattern", "task_type", "use_dora", "use_rslora",
}  # fmt: skip

# Ways to start training that leave the base weights as they are; the others (pissa, olora, …) change them on loading.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")

MAX_PATTERNS = 1024
"""Most rank or alpha patterns; PEFT's EVA writes one a module."""

_Pattern = tuple[Any, Any]
Rank = Annotated[int, Field(gt=0, le=4096)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdapterConfig(BaseModel):
    """The keys of PEFT's LoraConfig that decide a score."""

    model_config = ConfigDict(extra="ignore", frozen=True)

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
        except ValueError as error:
            raise PackageError(f"{path} {error}") from error
        _refuse_unsupported(path, raw)
        try:
            return cls.model_validate({k: v for k, v in raw.items() if v is not None})
        except ValidationError as error:
            raise PackageError(f"{path}: {explain(error)}") from error

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read a PEFT folder's config. Raises PackageError naming the key that is wrong or not supported."""
        with Folder(folder).span(CONFIG_JSON) as span:
            return cls.parse(span.read_whole(MAX_JSON_BYTES), span.path)


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
    """Compile PEFT's patterns, which match whole dotted parts at the end of a module's name.

    RE2 matches in linear time whatever the pattern; Python's `re` can be kept busy for years by one.
    """
    options = re2.Options()
    options.log_errors = False
    made = []
    for pattern, value in patterns.items():
        try:
            made.append((re2.compile(rf"(.*\.)?({pattern})$", options), value))
        except (re2.error, ValueError) as error:
            raise PackageError(
                f"{CONFIG_JSON}: the pattern {quote(pattern)} is no regular expression that RE2 reads"
            ) from error
    return made


def _first_match(patterns: list[_Pattern], site: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that matches, as PEFT's `get_pattern_key` chooses."""
    return next((value for pattern, value in patterns if pattern.match(site)), otherwise)
