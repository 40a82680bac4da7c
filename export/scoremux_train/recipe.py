"""How to train: `train.toml`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from scoremux_files.settings import check, read_toml
from scoremux_train.errors import RecipeError

_LR, _MOST_TIMES, _MANY_ROWS = 1e-3, 2.0, 160
"""Of `auto`; export/training.md has the measurements that they come from."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Recipe(_Strict):
    """The options of one task's training. `python -m benchmarks recipes` compares recipes by cross-validation.

    Attributes:
        rank: LoraConfig's r in PEFT; alpha and dropout are LoraConfig's, too.
        lr: The largest learning rate of A and B; `rate` says what `auto` means.
        spread: Share of a row's target that goes to the levels beside its own.
        class_weights: Power of the inverse level count that weighs a row; 0 weighs all rows alike.
        windows: Read long responses in windows, where more than 1 in 100 would be cut.
    """

    rank: int = Field(default=8, gt=0, le=4096)
    alpha: float = Field(default=16, gt=0, allow_inf_nan=False)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    epochs: int = Field(default=16, gt=0)
    batch: int = Field(default=16, gt=0)
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    spread: float = Field(default=0.15, ge=0, lt=1)
    class_weights: float = Field(default=0.5, ge=0, le=1)
    windows: bool = True

    @property
    def scaling(self) -> float:
        """The factor of B(A(x)) in PEFT."""
        return self.alpha / self.rank

    def rate(self, rows: int) -> float:
        """Return `lr` for a number of rows; `auto` is 0.002 up to 80 labelled rows, 0.16 / rows, 0.001 from 160 on.

        Few rows are few steps, which must be larger to get as far.
        """
        return _LR * min(_MOST_TIMES, max(1.0, _MANY_ROWS / max(1, rows))) if self.lr == "auto" else self.lr


class Plan(_Strict):
    """Everything that decides the adapters, besides the data and the backbone.

    Attributes:
        seed: The seed of everything that is drawn at random.
        folds: The number of folds for out-of-fold predictions; 0 makes none.
        sites, modules_to_save: The options of `scoremux export backbone`.
        base_model: PEFT's base_model_name_or_path, by default the backbone as it was named.
    """

    seed: int = 20241221
    folds: int = Field(default=5, ge=0)
    sites: str = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    base_model: str = ""
    recipe: Recipe = Recipe()

    @field_validator("folds")
    @classmethod
    def _not_one(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("1 leaves no row to train on; give 2 or more, or 0")
        return folds

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read `train.toml`. Raises RecipeError naming the key that is wrong."""
        return check(cls, read_toml(path, RecipeError), str(path), RecipeError)
