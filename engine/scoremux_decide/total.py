"""The total of an item's traits: a rule of the item's version, computed exactly."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cached_property

from pydantic import BaseModel, Field, FiniteFloat, model_validator


class Total(BaseModel, extra="forbid", frozen=True):
    """total = Σ weight · points, or what `table` has for that sum.

    sum: the traits of weight 1; weights: or the weights by trait.
    table: the total by the sum, such as ``{"2": 100, "2.5": 110}``; it has each sum that there can be, and no other.
    """

    sum: tuple[str, ...] = ()
    weights: dict[str, FiniteFloat] = {}
    table: dict[FiniteFloat, FiniteFloat] = Field(default={}, max_length=10_000)

    @model_validator(mode="after")
    def _one_rule(self) -> "Total":
        if bool(self.sum) == bool(self.weights):
            raise ValueError("give either `sum` or `weights`")
        if len(set(self.sum)) < len(self.sum):
            raise ValueError("`sum` names a trait twice; give `weights`")
        return self

    @cached_property
    def _weights(self) -> dict[str, Fraction]:
        return {name: _exact(weight) for name, weight in (self.weights or dict.fromkeys(self.sum, 1)).items()}

    @cached_property
    def _table(self) -> dict[Fraction, float]:
        return {_exact(total): worth for total, worth in self.table.items()}

    @property
    def traits(self) -> Iterable[str]:
        """The names of the traits that it reads."""
        return self._weights

    def of(self, points: Mapping[str, float | None]) -> float | None:
        """Return the total of traits' points; None while a trait has none, and for a sum that `table` lacks."""
        total = Fraction(0)
        for name, weight in self._weights.items():
            worth = points.get(name)
            if worth is None:
                return None
            total += weight * _exact(worth)
        return self._table.get(total) if self._table else float(total)

    def values(self, levels: Mapping[str, Sequence[float]], most: int) -> tuple[float, ...]:
        """Return the totals that there can be, ascending.

        Args:
            levels: The points of each trait's levels.

        Raises:
            ValueError: It names a trait that the item does not have, its table lacks a sum or has one too many, or
                there can be more than `most` totals.
        """
        if unknown := sorted(self._weights.keys() - levels.keys()):
            raise ValueError(f"the item has no trait {unknown[0]!r}")
        sums = {Fraction(0)}
        for name, weight in self._weights.items():
            sums = {before + weight * _exact(worth) for before in sums for worth in levels[name]}
            if len(sums) > most:
                raise ValueError(f"more than {most} different totals")
        if not self._table:
            return tuple(sorted(map(float, sums)))
        for has, lacks, said in ((sums, self._table, "lacks"), (self._table, sums, "has the impossible")):
            if wrong := sorted(set(has) - set(lacks)):
                raise ValueError(f"`table` {said} sum {float(wrong[0]):g}")
        return tuple(sorted(set(self._table.values())))


def _exact(value: float) -> Fraction:
    """Return the decimal number that a person wrote: 0.1 is one tenth."""
    return Fraction(repr(value))
