"""The tables of keys in engine's pages: `python tests/support/key_tables.py` writes them again."""

from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from scoremux_server.front_door.config import FrontDoorConfig
from scoremux_server.profile import Profile

START, END = "<!-- keys: python tests/support/key_tables.py -->", "<!-- end of keys -->"
ENGINE = Path(__file__).resolve().parents[2] / "engine"
PAGES: dict[Path, type[BaseModel]] = {ENGINE / "profile.md": Profile, ENGINE / "front_door.md": FrontDoorConfig}
"""A page → the model whose keys it lists."""


def table(model: type[BaseModel]) -> str:
    """Return every key with its values, default and meaning, as a Markdown table."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {_values(field.annotation)} | {_default(field)} | {field.description} |")
    return "\n".join(lines)


def filled(text: str, model: type[BaseModel]) -> str:
    """Return a page's text with the current table between its marks."""
    before, _, rest = text.partition(START)
    return f"{before}{START}\n\n{table(model)}\n\n{END}{rest.partition(END)[2]}"


def _values(annotation: Any) -> str:
    choices = get_args(annotation)
    if choices and isinstance(choices[0], str):
        return ", ".join(f"`{choice}`" for choice in choices)
    if choices and choices[-1] is Ellipsis:
        return "tables"
    kind = choices[0] if choices else annotation
    return "path" if kind is Path else str(kind.__name__)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    if field.default in (None, (), ""):
        return "none"
    shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    return f"`{shown}`" if shown else '`""`'


if __name__ == "__main__":
    for page, keys in PAGES.items():
        page.write_text(filled(page.read_text(encoding="utf-8"), keys), encoding="utf-8")
