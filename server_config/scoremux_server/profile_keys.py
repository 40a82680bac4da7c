"""The table of profile keys in server_config/README.md: `python -m scoremux_server.profile_keys` writes it again."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from scoremux_server.profile import Profile

START, END = "<!-- keys: python -m scoremux_server.profile_keys -->", "<!-- end of keys -->"
PAGE = Path(__file__).resolve().parents[1] / "README.md"


def table() -> str:
    """Return every key with its values, default and meaning, as a Markdown table."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for name, field in Profile.model_fields.items():
        choices = get_args(field.annotation)
        values = ", ".join(f"`{c}`" for c in choices) if choices else getattr(field.annotation, "__name__", "")
        default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default) or '""'
        lines.append(f"| `{name}` | {values} | `{default}` | {field.description} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the table of today between its marks."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
