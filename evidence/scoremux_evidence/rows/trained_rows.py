"""The rows that an adapter was trained on, as digests in the `trained.json` of its package.

The adapter's level of such a row says nothing about other responses.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoremux_evidence.rows.similar_texts import fold
from scoremux_evidence.rows.table import Mask, Rows
from scoremux_files.errors import InputError, first_of, parsing, reading

_FORMAT = 2

_MOST_BYTES = 1 << 24
_MOST_SHOWN = 3


@dataclass(frozen=True)
class TrainedRows:
    """Digests of the rows of one task. Who has them can test a guess of an id or of a short text.

    Attributes:
        ids, administrations: Of the rows that have one.
        texts: Of the rows with an id.
        unnamed: Of the texts of rows without an id.
        labelled: How many of the rows had a level, None where all had one.
    """

    ids: frozenset[str] = frozenset()
    administrations: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    unnamed: frozenset[str] = frozenset()
    labelled: int | None = None

    @classmethod
    def of(cls, rows: Rows, labelled: int | None = None) -> "TrainedRows":
        """Return the digests of rows."""
        texts = np.array(_texts(rows), object)
        return cls(
            ids=frozenset(map(short_digest, rows.id[rows.has_id])),
            administrations=frozenset(
                short_digest(key[2]) for key in rows.where(rows.has_id).response_keys() if key[2]
            ),
            texts=frozenset(texts[rows.has_id]),
            unnamed=frozenset(texts[~rows.has_id]),
            labelled=labelled,
        )

    @classmethod
    def read(cls, path: Path) -> "TrainedRows | None":
        """Read a `trained.json`, None where there is none. Raises InputError."""
        wrong = f"{path}: it is not a list of digests that `scoremux train` wrote; publish its task again"
        with reading(path):
            if not path.exists():
                return None
            data = path.read_bytes() if path.stat().st_size <= _MOST_BYTES else b""
        with parsing(wrong):
            values = json.loads(data)
            labelled = values.pop("labelled", None)
            if values.pop("format") != _FORMAT:
                raise InputError(wrong)
            return cls(**{name: frozenset(of) for name, of in values.items()}, labelled=labelled)

    @property
    def count(self) -> int:
        """How many rows there are: one id may occur in several administrations, and several ids may have one text."""
        return max(len(self.ids), len(self.texts)) + len(self.unnamed)

    def to_json(self) -> str:
        """Return the text that `read` reads; the digests are sorted."""
        digests = {name: sorted(of) for name, of in vars(self).items() if isinstance(of, frozenset)}
        labelled = {} if self.labelled is None else {"labelled": self.labelled}
        return json.dumps({"format": _FORMAT, **digests, **labelled}, indent=0) + "\n"

    def find(self, rows: Rows) -> tuple[Mask, Mask]:
        """Return the rows that the adapter was trained on, and the rows with a text that it was trained on.

        Rows are known by their id or, where either side has no id, by their text. An id in an administration that
        training did not have is the id of another response, if the text is another.
        """
        found = np.zeros(len(rows), bool)
        texts = _texts(rows)
        columns = zip(rows.response_keys(), rows.has_id.tolist(), texts, strict=True)
        for place, ((_, name, administration), has_id, text) in enumerate(columns):
            if not has_id or text in self.unnamed:
                found[place] = text in self.texts or text in self.unnamed
            elif short_digest(name) in self.ids:
                is_open = not (administration and self.administrations)
                found[place] = is_open or short_digest(administration) in self.administrations or text in self.texts
        return found, np.array([text != "" and text in self.texts for text in texts], bool)


@dataclass(frozen=True)
class TrainedVersions:
    """The training rows of the versions of each task; a row of one of them is a trained row.

    Attributes:
        by_task: By task, of the versions that are known.
        unknown: Tasks with a version of which it is not known, or with rows that name no version.
        damaged: Sentences about files that cannot be read; their tasks are unknown.
    """

    by_task: dict[str, list[TrainedRows]]
    unknown: Sequence[str]
    damaged: Sequence[str] = ()

    @classmethod
    def of(cls, task: str, trained: TrainedRows | None) -> "TrainedVersions":
        """Return the training rows of a task's only version, None where they are not known."""
        return cls({} if trained is None else {task: [trained]}, [])

    @classmethod
    def read(cls, store: Path | None, versions: Iterable[tuple[str, str]]) -> "TrainedVersions":
        """Read the digests of tasks and versions.

        store: REPO/store; None: nothing is known. Raises InputError where it is not a store.
        """
        by_task: dict[str, list[TrainedRows]] = {}
        unknown, damaged = dict[str, None](), list[str]()
        packages = None if store is None else packages_of(store)
        for task, version in sorted({*versions}):
            try:
                trained = packages and TrainedRows.read(packages / version / "trained.json")
            except InputError as error:
                trained = None
                damaged.append(f"{task}: {error}.")
            if trained:
                by_task.setdefault(task, []).append(trained)
            else:
                unknown[task] = None
        return cls(by_task, [*unknown], damaged)

    def find(self, rows: Rows) -> tuple[Mask, Mask]:
        """Return the rows, and those with a text, that a version of their task was trained on.

        A row that names no task may be of any.
        """
        found, with_text = np.zeros((2, len(rows)), bool)
        for task, trained in self.by_task.items():
            part = np.flatnonzero((rows.task.code < 0) | rows.task.among([task]))
            for of_version in trained:
                known, same_text = of_version.find(rows.where(part))
                found[part] |= known
                with_text[part] |= same_text
        return found, with_text

    def in_words(self) -> str:
        """Say of which tasks it is not known whether they were trained on the rows; empty for none."""
        if not self.unknown:
            return ""
        said = (
            f"It is not known whether the adapters of {first_of(self.unknown)} were trained on these rows (--tasks "
            "REPO/store, and adapters of `scoremux train`, say it); figures of rows that they were trained on are too "
            "good."
        )
        return " ".join((said, *self.damaged[:_MOST_SHOWN]))


def packages_of(store: Path) -> Path:
    """Return the folder of packages of a store. Raises InputError where it is not a store, or may lack packages."""
    if (store / "origin.json").exists():
        raise InputError(
            f"{store} follows a store in a bucket, and has only packages that servers read; give the store that is "
            "copied there"
        )
    if not (store / "packages").is_dir():
        raise InputError(f"{store} is not a store of tasks, as it has no folder `packages`; give REPO/store")
    return store / "packages"


def _texts(rows: Rows) -> list[str]:
    """Return the digest of each row's text, without case, white space and punctuation; empty where it has none."""
    return ["" if text is None else short_digest(fold(text)) for text in rows.text]


def short_digest(value: str) -> str:
    """Return 64 bits of the sha256 of an id, a text or a word."""
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
