"""`adapter_config.json`: PEFT's description of a LoRA adapter, and which of its variants are served."""

import math
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field

# A pattern of a file from outside must not stop a server: Python's `re` may take exponential time. Patterns of pydantic
# run in Rust's `regex`, whose time is linear in the text, and pydantic is there: re2 would be one more package.
from pydantic_core import SchemaError, SchemaValidator, core_schema

from scoremux_engine.errors import PackageError
from scoremux_files.settings import parse_object, quote, quote_key, validate

# Keys that say how an adapter was made, or which modules it chose: the tensors themselves show the rest.
_OF_NO_CONSEQUENCE = {
    "auto_mapping", "corda_config", "ensure_weight_tying", "eva_config", "inference_mode", "loftq_config",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size",
    "runtime_config",
}  # fmt: skip
_KNOWN = {
    "alpha_pattern", "base_model_name_or_path", "bias", "exclude_modules", "fan_in_fan_out", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_bias", "peft_type", "r", "rank_pattern", "revision",
    "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip

# Ways to start training that leave the base weights as they are; the others (pissa, olora, …) change them on loading.
_HARMLESS_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")

MAX_PATTERNS = 1024
"""Most rank or alpha patterns; PEFT's EVA writes one a module."""

_MOST_REPEATS = 1000
"""Most that the counted repeats of all patterns, such as `{1,9}`, may add up to."""

_SUPPORTED = re.compile(
    r"""( \((\?:)? | \) | \| | [\^$]
    | (\\[.\-dw] | \[\^?[\w.\-]+\] | [\w.\-]) (([*+?] | \{\d{1,3}(,\d{0,3})?\}) \??)? )+""",
    re.VERBOSE | re.ASCII,
)
"""Regular expressions that mean the same in Python and in pydantic's engine, whose time is linear in the name."""

_Pattern = tuple[SchemaValidator, Any]
Rank = Annotated[int, Field(gt=0, le=4096)]
Alpha = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class AdapterConfig(BaseModel, extra="ignore", frozen=True):
    """The keys of PEFT's LoraConfig that decide a score, and the base model that the adapter was trained on."""

    base_model_name_or_path: str = ""
    revision: str = ""
    r: Rank
    lora_alpha: Alpha
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, Rank] = Field({}, max_length=MAX_PATTERNS)
    alpha_pattern: dict[str, Alpha] = Field({}, max_length=MAX_PATTERNS)
    target_modules: list[str] | str = "all-linear"
    exclude_modules: list[str] | str = ""

    def rank(self, site: str) -> int:
        """Return the rank PEFT gives the module `site`."""
        return int(_first_match(self._patterns[0], site, self.r))

    def scaling(self, site: str) -> float:
        """Return PEFT's factor of B(A(x)): alpha / r, or alpha / sqrt(r) with `use_rslora`."""
        rank, alpha = self.rank(site), float(_first_match(self._patterns[1], site, self.lora_alpha))
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)

    def leaves_out(self, site: str) -> bool:
        """Return whether a list of names says that PEFT would adapt no module `site` and ignore its tensors.

        Regular expressions and numbers of layers are not looked at: PEFT saves no tensors of what they leave out.
        """
        targets, excluded = self.target_modules, self.exclude_modules
        if isinstance(excluded, list) and _names(excluded, site):
            return True
        return isinstance(targets, list) and not _names(targets, site)

    @cached_property
    def _patterns(self) -> tuple[list[_Pattern], list[_Pattern]]:
        return _compile(self.rank_pattern), _compile(self.alpha_pattern)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "AdapterConfig":
        """Parse `adapter_config.json`, read from `path`. Raises PackageError naming a wrong or unsupported key."""
        try:
            raw = parse_object(data)
            _refuse_unsupported(path, raw)
            return validate(cls.model_validate, {k: v for k, v in raw.items() if v is not None})
        except ValueError as error:
            raise PackageError(f"{path}: {error}") from error


def _names(modules: list[str], site: str) -> bool:
    return site in modules or site.endswith(tuple(f".{module}" for module in modules))


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
            "save it as plain LoRA with PEFT's path_initial_model_for_weight_conversion, and copy the head's tensors "
            "into that file, since PEFT leaves them out"
        )
    for key in sorted(set(raw) - _KNOWN - _OF_NO_CONSEQUENCE):
        # PEFT writes every variant it knows; one that is off says nothing, one that is on would change the score.
        if raw[key] not in (None, False, [], {}):
            raise PackageError(f"{path}: {quote_key(key)} is {quote(raw[key])}; this LoRA variant is not supported")


def _compile(patterns: dict[str, Any]) -> list[_Pattern]:
    """Compile PEFT's patterns, which match whole parts at the end of a name. Raises PackageError naming a bad one."""
    compiled, repeats = [], 0
    for pattern, value in patterns.items():
        if not _SUPPORTED.fullmatch(pattern):
            raise _refusal(pattern, "is not supported; use names with . ^ \\d [a-z] (a|b) * + ?")
        repeats += sum(int(most) for most in re.findall(r"(\d+),?\}", pattern))
        if repeats > _MOST_REPEATS:
            raise _refusal(pattern, "could take too long to match")
        try:
            schema = core_schema.str_schema(pattern=rf"^(?:.*\.)?(?:{pattern})$")
            compiled.append((SchemaValidator(schema), value))
        except SchemaError as error:
            raise _refusal(pattern, "is not a regular expression") from error
    return compiled


def _refusal(pattern: str, why: str) -> PackageError:
    return PackageError(f"adapter_config.json: the pattern {quote(pattern)} {why}")


def _first_match(patterns: list[_Pattern], site: str, default: Any) -> Any:
    """Return the value of the first pattern that matches a site's name, as PEFT chooses."""
    return next((value for pattern, value in patterns if pattern.isinstance_python(site)), default)
