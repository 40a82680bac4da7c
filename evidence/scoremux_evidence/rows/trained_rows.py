"""The rows that an adapter was trained on, as digests in the `trained.json` of its package.

The adapter's level of such a row says nothing about other responses.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scoremux_evidence.rows.labelled_row import LabelledRow
from scoremux_files.errors import InputError, first_of, reading
from scoremux_files.rows.readers import same_text

_FORMAT = {"format": 1}
_MOST_BYTES = 1 << 24

TRAINED_ON = (
    "were trained on by the adapter that scored them; take its out-of-fold predictions, the predictions.parquet of "
    "`scoremux train`"
)
SAME_TEXT = "have a text that the adapter was trained on, under another id, and count"


@dataclass(frozen=True)
class TrainedRows:
    """Digests of the rows of one task. Who has them can test a guess of an id or of a short text.

    Attributes:
        ids, administrations: Of the rows that have one.
        texts: Of the rows with an id.
        unnamed: Of the texts of rows without an id.
    """

    ids: frozenset[str] = frozenset()
    administrations: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    unnamed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, rows: Iterable[LabelledRow]) -> "TrainedRows":
        """Return the digests of rows."""
        rows = list(rows)
        named, unnamed = ([row for row in rows if row.has_id == has_id] for has_id in (True, False))
        return cls(
            frozenset(_digest(row.id) for row in named),
            frozenset(_digest(row.administration) for row in named if row.administration),
            frozenset(map(_text, named)),
            frozenset(map(_text, unnamed)),
        )

    @classmethod
    def read(cls, path: Path) -> "TrainedRows | None":
        """Read a `trained.json`, None where there is none. Raises InputError."""
        with reading(path):
            if not path.exists():
                return None
            data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        try:
            values = json.loads(data)
            if values.pop("format") != _FORMAT["format"]:
                raise ValueError
            return cls(**{name: frozenset(digests) for name, digests in values.items()})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: it is not a list of digests that `scoremux train` wrote") from error

    def to_json(self) -> str:
        """Return the text that `read` reads; the digests are sorted."""
        return json.dumps(_FORMAT | {name: sorted(digests) for name, digests in vars(self).items()}, indent=0) + "\n"

    def plus(self, other: "TrainedRows | None") -> "TrainedRows":
        """Return the digests of both."""
        return self if other is None else TrainedRows(*(vars(self)[name] | vars(other)[name] for name in vars(self)))

    def has(self, row: LabelledRow) -> bool:
        """Return whether the adapter was trained on a row: on its id or, where either side has no id, on its text.

        An id in an administration that training did not have is the id of another response, if the text is another.
        """
        text = _text(row)
        if not row.has_id or text in self.unnamed:
            return text in self.texts or text in self.unnamed
        is_open = not (row.administration and self.administrations)
        return _digest(row.id) in self.ids and (
            is_open or _digest(row.administration) in self.administrations or text in self.texts
        )

    def has_text(self, row: LabelledRow) -> bool:
        """Return whether the adapter was trained on a row with the same text."""
        return _text(row) in self.texts


@dataclass(frozen=True)
class TrainedVersions:
    """The training rows of the versions of each task; a row of one of them is a trained row.

    Attributes:
        by_task: By task, of the versions that are known.
        unknown: Tasks with a version of which it is not known.
    """

    by_task: dict[str, TrainedRows]
    unknown: Sequence[str]

    @classmethod
    def read(
        cls,
        store: Path | None,
        versions: Iterable[tuple[str, str]],
    ) -> "TrainedVersions":
        """Read the digests of tasks and versions. store: REPO/store; None: nothing is known. Raises InputError."""
        by_task = dict[str, TrainedRows]()
        unknown = dict[str, None]()
        packages = None if store is None else packages_of(store)
        for task, version in sorted({*versions}):
            trained = packages and TrainedRows.read(packages / version / "trained.json")
            if trained:
                by_task[task] = trained.plus(by_task.get(task))
            else:
                unknown[task] = None
        return cls(by_task, [*unknown])

    def of(self, row: LabelledRow) -> list[TrainedRows]:
        """Return the training rows that may have a row: those of its task, or of all tasks where the row names none."""
        return [self.by_task[row.task]] if row.task in self.by_task else [] if row.task else [*self.by_task.values()]

    def in_words(self) -> str:
        """Say of which tasks it is not known whether they were trained on the rows; empty for none."""
        if not self.unknown:
            return ""
        return (
            f"It is not known whether the adapters of {first_of(self.unknown)} were trained on these rows (--tasks "
            "REPO/store, and adapters of `scoremux train`, say it); figures of rows that they were trained on are too "
            "good."
        )


def packages_of(store: Path) -> Path:
    """Return the folder of packages of a store. Raises InputError where it is not a store."""
    if not (store / "packages").is_dir():
        raise InputError(f"{store} is not a store of tasks, as it has no folder `packages`; give REPO/store")
    return store / "packages"


def _text(row: LabelledRow) -> str:
    """Return the digest of a row's text, empty where it has none."""
    return "" if row.text is None else _digest(same_text(row.text))


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
