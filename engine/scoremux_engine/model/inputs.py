"""The model's view of a response: the response alone, a pair of texts, or a template, as `task.json` says."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, model_validator

from scoremux_engine.model.windows import Windows
from scoremux_files.settings import quote_key

FIELDS = ("id", "language", "question", "reference", "rubric")
"""Fields of `task.json` that an input may name, besides the response."""

RESPONSE = "response"
_NAME = re.compile(r"\{\{(?P<literal>[A-Za-z_]\w*)\}\}|\{(?P<field>[A-Za-z_]\w*)\}", re.ASCII)


class Input(BaseModel, extra="forbid", frozen=True):
    """`input` of `task.json`: either `first` and `second`, a text pair, or `template`, one text.

    `{name}` in them stands for the response or a field of `task.json`, and `{{name}}` for the text `{name}`; all other
    braces are text. With `windows`, long responses are read in several windows; `windows` may stand alone.
    """

    first: str | None = None
    second: str | None = None
    template: str | None = None
    windows: Windows | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Input":
        names = {name for name in ("first", "second", "template") if getattr(self, name) is not None}
        if names not in ({"first", "second"}, {"template"}) and (names or self.windows is None):
            raise ValueError("it is either a pair, `first` and `second`, or a `template`")
        return self


@dataclass(frozen=True)
class Rendered:
    """The tokenizer's input: one text, or the two of a pair.

    side: which of them has the response; start, end: where the response starts and ends in it, in characters; windows:
    how it is read if it is long. Digests are of the representation, which these two do not change.
    """

    texts: tuple[str, ...]
    side: int
    end: int
    start: int = field(default=0, repr=False)
    windows: Windows | None = field(default=None, repr=False)


ModelInput = str | Rendered
"""A response alone, or within other text."""


@dataclass(frozen=True)
class Layout:
    """An input of one task, with all filled in but the response.

    before, after: the text around the response; other: the other text of a pair; side, windows: as in `Rendered`.
    """

    before: str
    after: str
    other: str | None = None
    side: int = 0
    windows: Windows | None = None

    @classmethod
    def of(cls, source: Input, fields: Mapping[str, str]) -> "Layout":
        """Fill in a task's fields, by the names of `FIELDS`.

        Raises ValueError where the input names a field that does not exist or is empty, or does not name the response
        exactly once.
        """
        template = source.template
        if template is None and source.first is None:
            template = f"{{{RESPONSE}}}"
        texts = (template,) if template is not None else (source.first, source.second)
        filled = [_fill(text or "", fields) for text in texts]
        sides = [side for side, parts in enumerate(filled) for _ in parts[1:]]
        if len(sides) != 1:
            raise ValueError(f"it must name {{{RESPONSE}}} exactly once")
        (side,) = sides
        before, after = filled.pop(side)
        other = filled[0][0] if filled else None
        return cls(before, after, other, side, source.windows)

    def render(self, response: str) -> Rendered:
        """Return the tokenizer's input for a response."""
        filled, start = f"{self.before}{response}{self.after}", len(self.before)
        texts: tuple[str, ...] = (filled,)
        if self.other is not None:
            texts = (self.other, filled) if self.side else (filled, self.other)
        return Rendered(texts, self.side, start + len(response), start, self.windows)


def _fill(text: str, fields: Mapping[str, str]) -> list[str]:
    """Fill in the fields of a text and split it where it names the response. Raises ValueError as `Layout.of`."""
    parts, at = [""], 0
    for match in _NAME.finditer(text):
        parts[-1] += text[at : match.start()]
        at = match.end()
        if match["literal"]:
            parts[-1] += match[0][1:-1]
        elif match["field"] == RESPONSE:
            parts.append("")
        else:
            parts[-1] += _value(match["field"], fields)
    parts[-1] += text[at:]
    return parts


def _value(name: str, fields: Mapping[str, str]) -> str:
    shown = quote_key(name)
    if name not in FIELDS:
        fields_there = ", ".join(f"{{{field}}}" for field in (*FIELDS, RESPONSE))
        raise ValueError(
            f"it names {{{shown}}}; there are {fields_there}; write {{{{{shown}}}}} for the text {{{shown}}}"
        )
    if not fields.get(name):
        raise ValueError(f"it names {{{name}}}, and the task has no {name}")
    return fields[name]
