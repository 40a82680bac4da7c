"""A column of few values as codes; needs numpy alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Codes:
    """A column of few values.

    Attributes:
        code: The place of each row's value, [B], −1 where it has none.
    """

    values: tuple[str, ...]
    code: Ints32

    def take(self, rows: npt.NDArray[Any]) -> "Codes":
        """Return some rows; every value stays."""
        return Codes(self.values, self.code[rows])

    def place(self, value: str) -> int:
        """Return the code of a value, −2 if no row has it."""
        return self.values.index(value) if value in self.values else -2

    def among(self, values: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return which rows have one of some values, [B]."""
        return np.isin(self.code, [self.place(value) for value in values])

    def texts(self) -> list[str | None]:
        """Return the column as text, None where a row has no value."""
        values = (*self.values, None)
        return [values[code] for code in self.code.tolist()]

    def renamed(self, new: Callable[[str], str]) -> "Codes":
        """Return the column with other values, some of which may become the same."""
        codes = codes_of([new(value) for value in self.values])
        return codes.take(self.code)


def codes_of(names: Sequence[str | None]) -> Codes:
    """Return the codes of some names, −1 for None, and −1 once more behind them."""
    values = sorted({name for name in names if name is not None})
    place = {value: code for code, value in enumerate(values)}
    codes = [-1 if name is None else place[name] for name in names]
    codes.append(-1)
    return Codes(tuple(values), np.array(codes, np.int32))
