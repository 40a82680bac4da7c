"""A job: its sources, the layout of their rows, and the options for people. Most of them stay when it resumes."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from scoremux_batch.people import ForPeople
from scoremux_batch.sources import SourceFile
from scoremux_files.errors import InputError
from scoremux_files.rows.row_layout import Json, RowLayout

_FORMAT = 1


@dataclass(frozen=True)
class Job:
    """The options that must be the same for a job to resume.

    Attributes:
        mixed_arithmetic: Whether rows may be computed in different arithmetics; it may change when the job is resumed.
    """

    sources: list[SourceFile]
    layout: RowLayout
    people: ForPeople = field(default_factory=ForPeople)
    mixed_arithmetic: bool = False

    def as_json(self) -> Json:
        """Return the journal's first line."""
        sources = [asdict(source) for source in self.sources]
        return {"format": _FORMAT, "layout": asdict(self.layout), "people": self.people.as_json(), "sources": sources}

    def check_same(self, path: Path, other: Json) -> None:
        """Take the digests of the sources, and the plan of `--read-behind`, from the first line of a journal.

        Raises InputError for another job's.
        """
        if other.get("format") != _FORMAT:
            raise InputError(f"{path} was written by another version of scoremux; score into another --out")
        options = other["layout"] | other["people"]
        if self.people.read_behind:
            self.people.read_behind.keep_plan(options["read_behind"])
        job = self.as_json()
        for name, value in (job["layout"] | job["people"]).items():
            before = options.get(name)
            if before != value:
                raise InputError(f"{path} is of another job: {name} was {before!r}, now {value!r}; give another --out")
        sources = {source["path"]: SourceFile(**source) for source in other["sources"]}
        for place, source in enumerate(self.sources):
            if source.path not in sources:
                raise InputError(f"{path} is of another job: {source.path} was not in it; give another --out")
            before = sources.pop(source.path)
            if not source.is_same(before):
                raise InputError(f"{path}: {source.path} has changed since; restore it or give another --out")
            self.sources[place] = replace(source, sha256=before.sha256)
        if sources:
            raise InputError(f"{path} is of another job: {next(iter(sources))} was in it; give another --out")
        if [source.path for source in self.sources] != [source["path"] for source in other["sources"]]:
            raise InputError(f"{path}: the sources were in another order; give another --out")
