"""`adapter_config.json`: PEFT's description of a LoRA adapter, and which of its variants are served."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scoremux_engine.errors import PackageError
from scoremux_engine.packages.task import explain, read_json_bytes

CONFIG_JSON = "adapter_config.json"

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

Rank = Annotated[int, Field(gt=0, le=4096)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdapterConfig(BaseModel):
    """The keys of PEFT's LoraConfig that decide a score."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Rank] = {}
    alpha_pattern: dict[str, Alpha] = {}

    def rank(self, site: str) -> int:
        """Return the rank PEFT gives the module `site`."""
        return int(_by_pattern(self.rank_pattern, site, self.r))

    def scaling(self, site: str) -> float:
        """Return what PEFT multiplies B(A(x)) by: alpha / r, or alpha / sqrt(r) with `use_rslora`."""
        rank, alpha = self.rank(site), float(_by_pattern(self.alpha_pattern, site, self.lora_alpha))
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    @classmethod
    def read(cls, folder: Path) -> AdapterConfig:
        """Read a PEFT folder's config. Raises PackageError naming the key that is wrong or not supported."""
        path = folder / CONFIG_JSON
        try:
            raw = json.loads(read_json_bytes(path))
        except (ValueError, RecursionError) as error:
            raise PackageError(f"{path} is not JSON") from error
        if not isinstance(raw, dict):
            raise PackageError(f"{path} is not a JSON object")
        _refuse_unsupported(path, raw)
        try:
            return cls.model_validate({k: v for k, v in raw.items() if v is not None})
        except ValidationError as error:
            raise PackageError(f"{path}: {explain(error)}") from error


def _refuse_unsupported(path: Path, raw: dict[str, Any]) -> None:
    if raw.get("peft_type") != "LORA":
        raise PackageError(f"{path}: peft_type is {raw.get('peft_type')!r}; only LORA adapters are served")
    if raw.get("task_type") != "SEQ_CLS":
        raise PackageError(f"{path}: task_type is {raw.get('task_type')!r}; only SEQ_CLS adapters have a scoring head")
    if raw.get("bias", "none") not in ("none", "lora_only"):
        raise PackageError(f"{path}: bias is {raw['bias']!r}; biases outside the sites cannot differ by task")
    start = raw.get("init_lora_weights")
    if start not in _HARMLESS_STARTS:
        raise PackageError(
            f"{path}: init_lora_weights is {start!r}, which changes the base weights; "
            "save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion"
        )
    for key in sorted(set(raw) - _KNOWN - _OF_NO_CONSEQUENCE):
        # PEFT writes every variant it knows; one that is off says nothing, one that is on would change the score.
        if raw[key] not in (None, False, [], {}):
            raise PackageError(f"{path}: {key} is {raw[key]!r}; this LoRA variant is not supported")


def _by_pattern(patterns: dict[str, Any], site: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that matches as PEFT's `get_pattern_key` does: whole suffix of the name."""
    for pattern, value in patterns.items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", site):
                return value
        except re.error as error:
            raise PackageError(f"{CONFIG_JSON}: the pattern {pattern!r} is no regular expression") from error
    return otherwise
