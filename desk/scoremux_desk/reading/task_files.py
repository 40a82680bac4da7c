"""Files of the programme: tasks (`task.json`) and papers with a known level."""

from collections.abc import Iterator
from pathlib import Path

from scoremux_decide.total import Total
from scoremux_desk.database.programme import TEXTS, Item
from scoremux_desk.database.schema import Columns
from scoremux_files import InputError
from scoremux_files.row_files import read_rows, whole_number
from scoremux_files.settings import read_json


def read_items(folder: Path) -> Iterator[Item]:
    """Yield the live tasks of a store, or those of the task folders in `folder`. Raises InputError."""
    manifest = folder / "manifest.json"
    if manifest.is_file():
        digests = read_json(manifest).get("tasks")
        live = digests.values() if isinstance(digests, dict) else ()
        paths = [folder / "packages" / str(digest) / "task.json" for digest in live]
    else:
        paths = sorted(folder.glob("*/task.json"))
    if not paths:
        raise InputError(f"{folder} is neither a store of tasks nor a folder of task folders")
    for path in paths:
        values = read_json(path)
        try:
            rule = values.pop("total", None)
            texts: Columns = {name: str(values.get(name) or "") for name in TEXTS}
            texts["total"] = Total.model_validate(rule).model_dump_json() if rule else ""
            texts["item"] = str(values["id"]) if values.get("traits") else ""
            for name, levels in _levels_of(values).items():
                yield Item(name, tuple(map(float, levels)), **texts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: id and levels (numbers) are needed; total is a rule of traits") from error


def _levels_of(values: Columns) -> Columns:
    """Return the levels of a task, or of each trait of an item, by their ids."""
    name, traits = str(values["id"]), values.get("traits")
    return {f"{name}.{trait}": of["levels"] for trait, of in traits.items()} if traits else {name: values["levels"]}


def read_papers(path: Path) -> Iterator[tuple[str, str, int, Columns]]:
    """Yield task, text, level and all columns of a file of papers with a known level. Raises InputError."""
    number = 0
    for number, row in enumerate(read_rows(path), start=1):
        task = row.get("task")
        text = row.get("text")
        if not isinstance(task, str) or not isinstance(text, str) or row.get("level") in (None, ""):
            raise InputError(f"{path}, row {number}: the columns task, text and level are needed")
        yield task, text, whole_number(path, number, row["level"]), row
    if not number:
        raise InputError(f"there are no rows in {path}")


def read_anchors(path: Path) -> list[Columns]:
    """Return the anchor papers of a file, with their notes. Raises InputError, also for a paper without a text."""
    papers = []
    for number, (task, text, level, row) in enumerate(read_papers(path), start=1):
        if not text.strip():
            raise InputError(f"{path}, row {number}: the anchor paper has no text")
        papers.append({"task": task, "text": text, "level": level, "note": str(row.get("note") or "")})
    return papers
